"""From an instance as it came to one that methods can take: checked, one surface, pictures at the working size."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast, get_args

import numpy as np
import torch
import torch.nn.functional as F

from refine_batch.cameras.camera import Camera, LikelyCamera, UnknownCamera
from refine_batch.config import RefineConfig
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.instance import CameraError, Depth, Instance, PictureView
from refine_batch.mesh import Mesh
from refine_batch.mesh.pieces import without_small_pieces
from refine_batch.mesh.plane import AXES, SymmetryAxis, SymmetryPlane
from refine_batch.mesh.symmetry import find_plane
from refine_batch.mesh.working import WorkingMesh
from refine_batch.methods.base import PreparedInstance, View
from refine_batch.refinement.known import known_pixels


@dataclass(frozen=True, eq=False)
class Prepared:
    """An instance made ready, with all that is needed later and no picture at full size.

    Attributes
    ----------
    working
        The mesh that is refined and the way back to the instance's own.
    subject
        What methods see.
    given
        The first view's camera as it came, about the mesh's own coordinates; of an unknown one what is known.
    ground_truth
        In the mesh's own coordinates.
    steps
        What was done to the mesh that the result shows, by name; empty where nothing was.
    notes
        What was left out of the instance, or is in doubt, a sentence each.
    likewise
        Cameras about the working mesh from which the only picture may as well have been taken as from the first view's.
    """

    instance_id: str
    working: WorkingMesh
    subject: PreparedInstance
    given: Camera | UnknownCamera
    ground_truth: Mesh | None = None
    steps: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    likewise: tuple[LikelyCamera, ...] = ()

    @property
    def for_method(self) -> PreparedInstance:
        """What methods see: the subject, its picture as a view from each direction that it may have been taken from.

        A shape that agrees with the picture from all of them is nearer to the true one than one that agrees from a
        direction that is wrong as often as not.
        """
        if not self.likewise:
            return self.subject
        [first] = self.subject.views
        likely = (LikelyCamera(first.camera), *self.likewise)
        whole = sum(one.credibility for one in likely)
        views = [replace(first, camera=one.camera, weight=first.weight * one.credibility / whole) for one in likely]
        return replace(self.subject, views=tuple(views))

    @property
    def unknown(self) -> UnknownCamera | None:
        """What is known of a camera that has to be estimated; None where it was given."""
        return None if isinstance(self.given, Camera) else self.given

    def record(self) -> str | None:
        """What was done to the mesh as JSON, for the result's row; None where nothing was."""
        return json.dumps(self.steps) if self.steps else None

    def seen_by(self, cameras: Sequence[Camera], spread: tuple[float, float, float] | None = None) -> Prepared:
        """The same with other cameras about the working mesh, one for each view."""
        return replace(self, subject=self.subject.seen_by(cameras, spread))

    def loosened(self, factor: float) -> Prepared:
        """The same with cameras whose spreads are so many times as wide."""
        views = []
        for view in self.subject.views:
            turn, rise, farther = view.spread
            views.append(replace(view, spread=(factor * turn, factor * rise, factor * farther)))
        return replace(self, subject=replace(self.subject, views=tuple(views)))

    def unsure_of(self, where: np.ndarray, note: str) -> Prepared:
        """The same with a first view that says nothing of these pixels, (H, W) bool, and a note of why."""
        first, *others = self.subject.views
        first = replace(first, known=first.silhouette_known & ~where)
        return replace(self, subject=replace(self.subject, views=(first, *others)), notes=(*self.notes, note))


def prepare(instance: Instance, config: RefineConfig | None = None) -> Prepared:
    """Check `instance`, make one surface of its mesh, and bring its pictures to the working size.

    A non-square image is padded on both sides to a square and never stretched; the camera's field of view spans that
    square. Of an unknown camera the first view holds a stand-in, to be replaced by an estimate.

    Raises
    ------
    InstanceError
        The mesh, an image, a mask, a camera, the symmetry axis or the ground truth cannot be used.
    """
    config = config or RefineConfig()
    check(instance)
    name = f"instance {instance.instance_id!r}"
    mesh, steps = instance.mesh, dict[str, Any]()
    options = config.preparation
    if len(mesh.faces) > options.max_faces:
        raise InstanceError(
            ErrorKind.MESH_TOO_LARGE,
            f"{name}: the mesh has {len(mesh.faces)} faces; --max-faces allows {options.max_faces}",
        )
    if options.drop_pieces:
        mesh, dropped = without_small_pieces(mesh, options.drop_pieces)
        if dropped:
            steps["pieces_dropped"] = dropped
            steps["faces"] = {"input": len(instance.mesh.faces), "here": len(mesh.faces)}
    working = WorkingMesh.of(mesh, options.working_faces, name)
    given = instance.camera if instance.camera is not None else UnknownCamera()
    first = PictureView(
        instance.mask,
        given if isinstance(given, Camera) else given.known(0.0, 0.0, 2.0 * working.extent),
        instance.known,
        instance.camera_error,
        depth=instance.depth,
        normals=instance.normals,
    )
    views = tuple(_view(v, working, config, name, n) for n, v in enumerate((first, *instance.views)))
    if not isinstance(given, Camera):
        views = (replace(views[0], spread=(math.inf,) * 3), *views[1:])
    subject = PreparedInstance(
        instance_id=instance.instance_id,
        mesh=working.mesh,
        image=resize_square(instance.image.astype(np.float32) / 255.0, config.image_size),
        views=views,
        plane=_plane(instance, working, config),
    )
    return Prepared(instance.instance_id, working, subject, given, instance.ground_truth, steps)


def check(instance: Instance) -> None:
    """Raise `InstanceError` unless everything about `instance` can be used."""
    name = f"instance {instance.instance_id!r}"
    instance.mesh.check(name)
    if instance.ground_truth is not None:
        instance.ground_truth.check(f"{name}, ground truth")
    if instance.symmetry_axis not in (None, "auto", *get_args(SymmetryAxis)):
        raise InstanceError(
            ErrorKind.ROW_INVALID,
            f"{name}: the symmetry axis is {instance.symmetry_axis!r}; it must be x, y, z, none or auto",
        )
    if instance.image.ndim != 3 or instance.image.shape[2] != 3 or instance.image.dtype != np.uint8:
        raise InstanceError(
            ErrorKind.IMAGE_BROKEN,
            f"{name}: expected a uint8 image of shape (H, W, 3), got {instance.image.dtype} {instance.image.shape}",
        )
    if instance.mask.shape != instance.image.shape[:2]:
        sizes = f"the image is {_size(instance.image[..., 0])} and its mask {_size(instance.mask)}"
        raise InstanceError(ErrorKind.SIZE_MISMATCH, f"{name}: {sizes}; they must be alike")
    pictures: list[tuple[Instance | PictureView, str]] = [(instance, name)]
    pictures += [(view, f"{name}, view {n}") for n, view in enumerate(instance.views, start=1)]
    for picture, what in pictures:
        _check_mask(picture.mask, picture.known, what)
        _check_hints(picture, what)
    if instance.camera is not None:
        instance.camera.check(name)
    for n, view in enumerate(instance.views, start=1):
        view.camera.check(f"{name}, view {n}")


def about_working(camera: Camera, working: WorkingMesh) -> Camera:
    """A camera about the mesh's own coordinates as one about the working mesh. Exact: no picture changes."""
    target = (np.asarray(camera.target) - working.centre) / working.extent
    return replace(camera, distance=camera.distance / working.extent, target=tuple(target.tolist()))


def about_source(camera: Camera, working: WorkingMesh) -> Camera:
    """A camera about the working mesh as one about the mesh's own coordinates."""
    target = np.asarray(camera.target) * working.extent + working.centre
    # What is rounding alone is the origin: a camera that looks at it has angles, others have none.
    target[np.abs(target) < 1e-12 * (np.abs(working.centre) + working.extent)] = 0.0
    return replace(camera, distance=camera.distance * working.extent, target=tuple(target.tolist()))


def spread_of(error: CameraError | None, config: RefineConfig) -> tuple[float, float, float]:
    """One standard deviation of a given camera's azimuth and elevation (radians) and log distance. The paper's are
    exact."""
    if config.paper_exact:
        return 0.0, 0.0, 0.0
    degrees, share = config.camera_spread if error is None else (error.degrees, error.distance)
    return math.radians(degrees), math.radians(degrees), share


def resize_square(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W, C) float32 padded with zeros to a square, centred, and resampled bilinearly without aliasing to `size`."""
    height, width = image.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, image.shape[2]), np.float32)
    square[top : top + height, left : left + width] = image
    if side == size:
        return square
    planes = torch.from_numpy(square).permute(2, 0, 1)[None]
    resized = F.interpolate(planes, size=(size, size), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).clamp(0.0, 1.0).contiguous().numpy()


def _view(view: PictureView, working: WorkingMesh, config: RefineConfig, name: str, number: int) -> View:
    size = config.image_size
    mask = resize_square(view.mask.astype(np.float32)[..., None], size)[..., 0]
    what = name if number == 0 else f"{name}, view {number}"
    if not (mask >= 0.5).any():
        raise InstanceError(
            ErrorKind.MASK_EMPTY, f"{what}: nothing is left of the mask at the working size of {size} pixels"
        )
    known = known_pixels(mask, _box(view.mask.shape, size))
    if view.known is not None and not view.known.all():
        # What lies beyond the picture is as known as its edge says.
        unknown = resize_square((~view.known).astype(np.float32)[..., None], size)[..., 0]
        known &= unknown < 0.5
    return View(
        mask=mask,
        camera=about_working(view.camera, working),
        known=None if known.all() else known,
        spread=spread_of(view.camera_error, config),
        weight=view.weight,
        depth=_depth(view.depth, working, size),
        normals=None if view.normals is None else _nearest_square(view.normals, size),
    )


def _box(shape: tuple[int, ...], size: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom edge of a picture of this (H, W) in the padded square of `size` pixels."""
    height, width = shape[:2]
    scale = size / max(height, width)
    left, top = (max(height, width) - width) // 2 * scale, (max(height, width) - height) // 2 * scale
    return left, top, left + width * scale, top + height * scale


def _depth(depth: Depth | None, working: WorkingMesh, size: int) -> Depth | None:
    if depth is None:
        return None
    values = _nearest_square(depth.values[..., None], size)[..., 0]
    return Depth(values / np.float32(working.extent) if depth.kind == "metric" else values, depth.kind)


def _nearest_square(values: np.ndarray, size: int) -> np.ndarray:
    """(size, size, C) float32 of (H, W, C): the pixel at each place of the padded square, NaN beyond the picture. Means
    of values across an edge would be of neither side."""
    height, width = values.shape[:2]
    side = max(height, width)
    place = (np.arange(size) + 0.5) * (side / size)
    rows = np.floor(place - (side - height) // 2).astype(np.int64)
    columns = np.floor(place - (side - width) // 2).astype(np.int64)
    found = values[np.clip(rows, 0, height - 1)][:, np.clip(columns, 0, width - 1)].astype(np.float32)
    found[(rows < 0) | (rows >= height)] = np.nan
    found[:, (columns < 0) | (columns >= width)] = np.nan
    return found


def _plane(instance: Instance, working: WorkingMesh, config: RefineConfig) -> SymmetryPlane | None:
    """In working units. A plane that somebody named goes through the mesh's own origin."""
    axis = instance.symmetry_axis or config.usual_axis
    if axis == "auto":
        return find_plane(working.mesh, origin=(-working.centre / working.extent).tolist())
    if axis == "none":
        return None
    normal = AXES[cast(SymmetryAxis, axis)]
    return SymmetryPlane(normal, float(-np.dot(working.centre, normal) / working.extent))


def _check_mask(mask: np.ndarray, known: np.ndarray | None, name: str) -> None:
    if mask.ndim != 2 or not (mask.dtype == bool or mask.dtype.kind == "f"):
        raise InstanceError(
            ErrorKind.IMAGE_BROKEN,
            f"{name}: expected a mask of bool (mask > 0, say) or of covered shares, got {mask.dtype} {mask.shape}",
        )
    if mask.dtype != bool and not ((mask >= 0.0) & (mask <= 1.0)).all():
        raise InstanceError(ErrorKind.IMAGE_BROKEN, f"{name}: a mask's covered shares must lie between 0 and 1")
    if not (mask if mask.dtype == bool else mask >= 0.5).any():
        raise InstanceError(ErrorKind.MASK_EMPTY, f"{name}: the mask is empty: no pixel belongs to the object")
    if known is not None and (known.shape != mask.shape or known.dtype != bool):
        raise InstanceError(
            ErrorKind.SIZE_MISMATCH, f"{name}: what is known must be bool of the mask's size {_size(mask)}"
        )


def _check_hints(picture: Instance | PictureView, name: str) -> None:
    size = picture.mask.shape
    if picture.depth is not None and picture.depth.values.shape != size:
        sizes = f"the depth is {_size(picture.depth.values)} and the mask {_size(picture.mask)}"
        raise InstanceError(ErrorKind.SIZE_MISMATCH, f"{name}: {sizes}; they must be alike")
    if picture.normals is not None and picture.normals.shape != (*size, 3):
        sizes = f"the normals are {_size(picture.normals)} and the mask {_size(picture.mask)}"
        raise InstanceError(ErrorKind.SIZE_MISMATCH, f"{name}: {sizes}; they must be alike, of 3 numbers a pixel")


def _size(array: np.ndarray) -> str:
    """Width first, as images are spoken of; further dimensions, which a mask should not have, after it."""
    return "×".join(str(n) for n in (*array.shape[1::-1], *array.shape[2:]))
