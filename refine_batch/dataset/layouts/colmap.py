"""Layout `colmap`: COLMAP's reconstructions, one object each, with a mesh in the reconstruction's coordinates."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from refine_batch.cameras.conversions import from_colmap
from refine_batch.cameras.pinhole import Pinhole
from refine_batch.dataset.layouts.colmap_files import ColmapCamera, ColmapImage, read_cameras, read_images
from refine_batch.dataset.layouts.entry import LeftOut, LeftOutError, Reason, Row
from refine_batch.dataset.layouts.options import LayoutOptions
from refine_batch.dataset.layouts.paths import file_names, safe_path
from refine_batch.dataset.layouts.picture import invalid_camera, probe
from refine_batch.dataset.layouts.viewed import (
    VIEW_FIELDS,
    ObjectFiles,
    Shot,
    check_distortion,
    object_name,
    placement_of,
    row_of_shots,
    shot_by,
    spread,
)
from refine_batch.errors import InstanceError, UsageError
from refine_batch.io.storage import StorageError, redact

# Names of the parameters after the focal length(s) and the principal point, where they are lens distortion alone.
_DISTORTION = {
    "SIMPLE_PINHOLE": (),
    "PINHOLE": (),
    "SIMPLE_RADIAL": ("k1",),
    "RADIAL": ("k1", "k2"),
    "OPENCV": ("k1", "k2", "p1", "p2"),
    "FULL_OPENCV": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
}


@dataclass(frozen=True)
class Reconstruction:
    """An object's name, and where its sparse model and its pictures lie in the source."""

    name: str
    sparse: str
    folder: str
    binary: bool


class ColmapLayout:
    """SOURCE is a COLMAP project, or holds one per object: sparse/0 (or sparse, or the folder itself) and images."""

    extra_fields = VIEW_FIELDS

    def __init__(self, options: LayoutOptions):
        self._options = options
        self._storage = options.storage(options.source)
        self._placement = placement_of(options.mesh_frame)
        self._files = ObjectFiles(options)

    def entries(self) -> Iterator[Reconstruction | LeftOut]:
        found: dict[str, set[str]] = {}
        for path in file_names(self._storage):
            folder, name = posixpath.split(path)
            if name in ("cameras.bin", "cameras.txt", "images.bin", "images.txt"):
                found.setdefault(folder, set()).add(name)
        if not found:
            raise UsageError(f"{redact(self._options.source)} holds no cameras.txt, images.txt or the same in .bin")
        seen: set[str] = set()
        for sparse, names in found.items():
            folder = _project(sparse)
            name = object_name(folder, self._options.source)
            if name in seen:
                yield LeftOut(
                    name, Reason.AMBIGUOUS, f"{sparse} is another reconstruction of {name}; the first is used"
                )
                continue
            seen.add(name)
            binary = {"cameras.bin", "images.bin"} <= names
            if binary or {"cameras.txt", "images.txt"} <= names:
                yield Reconstruction(name, sparse, folder, binary)
            else:
                there = ", ".join(sorted(names))
                yield LeftOut(name, Reason.CAMERA_MISSING, f"{sparse} holds {there}, not cameras and images alike")
        yield from self._files.unused(seen)

    def rows(self, entry: Reconstruction) -> list[Row | LeftOut]:
        mesh = self._files.mesh(entry.name)
        cameras, images, left = self._read(entry)
        shots: list[Shot] = []
        for image in spread(images, self._options.most_views):
            try:
                shots.append(self._shot(entry, image, cameras))
            except LeftOutError as error:
                left.append(LeftOut(f"{entry.name}: {image.name}"[:200], error.reason, error.message))
        if not shots:
            first = f": {left[0].message}" if left else ""
            raise LeftOutError(left[0].reason if left else Reason.ENTRY_BROKEN, f"no image can be used{first}")
        category = entry.name.partition("/")[0] if "/" in entry.name else None
        if self._options.categories and category not in self._options.categories:
            return [LeftOut(entry.name, Reason.FILTERED)]
        return [*self._files.truth(row_of_shots(entry.name, mesh, shots, self._options, category)), *left]

    def _read(self, entry: Reconstruction) -> tuple[dict[int, ColmapCamera], list[ColmapImage], list[LeftOut]]:
        suffix = "bin" if entry.binary else "txt"
        left: list[LeftOut] = []
        images: list[ColmapImage] = []
        try:
            with self._storage.open(posixpath.join(entry.sparse, f"cameras.{suffix}")) as stream:
                cameras = read_cameras(stream, binary=entry.binary)
            with self._storage.open(posixpath.join(entry.sparse, f"images.{suffix}")) as stream:
                try:
                    images.extend(read_images(stream, binary=entry.binary))
                except LeftOutError as error:
                    left.append(LeftOut(f"{entry.name}/images.{suffix}", error.reason, error.message))
        except (FileNotFoundError, StorageError) as error:
            raise LeftOutError(Reason.STORAGE, str(error)) from None
        return cameras, sorted(images, key=lambda image: image.name), left

    def _shot(self, entry: Reconstruction, image: ColmapImage, cameras: dict[int, ColmapCamera]) -> Shot:
        path = self._image(entry, image.name)
        if image.camera not in cameras:
            raise LeftOutError(Reason.CAMERA_MISSING, f"camera {image.camera} of {image.name} is not among the cameras")
        try:
            pinhole = _pinhole(cameras[image.camera], image)
        except InstanceError as error:
            raise invalid_camera(error) from None
        header = probe(self._storage, path)
        if abs(header.width / header.height / (pinhole.width / pinhole.height) - 1) > 0.01:
            sizes = f"{header.width}×{header.height} pixels, its camera is for {pinhole.width}×{pinhole.height}"
            raise LeftOutError(Reason.CAMERA_INVALID, f"{path} is {sizes}")
        pinhole = pinhole.resized(header.width, header.height).about(self._placement)
        mask = self._files.mask(self._storage, path, entry.name)
        return shot_by(pinhole, path, self._storage.path_of(path), mask)

    def _image(self, entry: Reconstruction, name: str) -> str:
        safe = safe_path(name, "an image's name")
        for folder in ("images", ""):
            path = posixpath.join(entry.folder, folder, safe)
            if self._storage.exists(path):
                return path
        raise LeftOutError(Reason.IMAGE_MISSING, f"there is no image {posixpath.join(entry.folder, 'images', safe)}")


def _project(sparse: str) -> str:
    """The folder that holds `images` and `sparse`, from the one that holds the model."""
    head, last = posixpath.split(sparse)
    if last.isdigit() and posixpath.basename(head) == "sparse":
        return posixpath.dirname(head)
    return head if last in ("sparse", "0") else sparse


def _pinhole(camera: ColmapCamera, image: ColmapImage) -> Pinhole:
    names = _DISTORTION.get(camera.model)
    if names is None:
        raise LeftOutError(
            Reason.CAMERA_INVALID,
            f"the camera model {camera.model} has lens distortion; undistort the pictures (COLMAP's image_undistorter "
            "writes PINHOLE)",
        )
    values = camera.parameters
    one = camera.model.startswith(("SIMPLE", "RADIAL"))
    fx, fy, cx, cy = (values[0], *values[:3]) if one else values[:4]
    check_distortion(
        dict(zip(names, values[3 if one else 4 :], strict=True)), fx, camera.width, camera.height, image.name
    )
    size = camera.width, camera.height
    return from_colmap(image.quaternion, image.translation, "PINHOLE", [fx, fy, cx, cy], size)
