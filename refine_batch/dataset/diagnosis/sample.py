"""A row with its camera as it was written, so that it can be read in another way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from refine_batch.cameras.camera import Camera, Projection, UnknownCamera
from refine_batch.cameras.matrices import about_z, camera_from_matrices
from refine_batch.config import PictureOptions
from refine_batch.dataset.columns import CAMERA, CAMERA_NUMBERS
from refine_batch.dataset.load import Files, Limits
from refine_batch.dataset.manifest import ManifestRow
from refine_batch.dataset.pictures import whole_picture
from refine_batch.errors import InstanceError
from refine_batch.mesh import Mesh
from refine_batch.mesh.decimation import decimated
from refine_batch.mesh.welding import weld
from refine_batch.refinement.prepare import resize_square

# Enough for a silhouette of a few hundred pixels.
_FACES = 4000
# Columns that a look at the mesh, the picture and its mask does without.
_NOT_NEEDED = {
    *(
        *CAMERA_NUMBERS,
        "intrinsics",
        "extrinsics",
        "camera_axes",
        "up_axis",
        "projection",
        "ground_truth_uri",
        "ignore_uri",
    ),
    *("depth_uri", "depth_kind", "depth_scale", "normals_uri", "normals_axes", "views", "views_uri"),
}


@dataclass(frozen=True)
class Written:
    """A camera as the manifest has it: angles (raw numbers by column) or matrices, the axis that is up, the projection.

    Shapes: `intrinsics` (3, 3) or (4,), `extrinsics` (4, 4), object to camera.
    """

    angles: dict[str, float] | None = None
    intrinsics: np.ndarray | None = None
    extrinsics: np.ndarray | None = None
    axes: str = "opencv"
    up_axis: str = "y"
    projection: Projection = "perspective"

    def camera(self, width: int, height: int, centre: np.ndarray) -> tuple[Camera, tuple[int, int]]:
        """The camera of a picture of this size, and the size to bring the picture to. Raises InstanceError."""
        if self.angles is None:
            return camera_from_matrices(
                self.intrinsics, self.extrinsics, self.axes, width, height, centre, self.projection
            )
        camera = UnknownCamera(**self.angles, projection=self.projection).known(0.0, 0.0, 1.0)
        camera.check("the row")
        return (about_z(camera) if self.up_axis == "z" else camera), (width, height)

    def with_angles(self, **angles: float) -> Written:
        assert self.angles is not None
        return replace(self, angles=self.angles | angles)


@dataclass(frozen=True, eq=False)
class Sample:
    """One row: its picture `rgb` (H, W, 3) uint8 and `mask` (H, W) bool, its mesh, few faces, and its camera."""

    row: int
    instance_id: str
    rgb: np.ndarray
    mask: np.ndarray
    mesh: Mesh
    written: Written

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        return self.mask.shape[1], self.mask.shape[0]

    @property
    def centre(self) -> np.ndarray:
        return (self.mesh.vertices.min(axis=0) + self.mesh.vertices.max(axis=0)) / 2.0

    def camera(self, written: Written | None = None) -> tuple[Camera, tuple[int, int]] | None:
        """What `Written.camera` gives; None where there is no such camera."""
        try:
            return (written or self.written).camera(*self.size, self.centre)
        except (InstanceError, OverflowError):
            return None

    def square(self, pixels: np.ndarray, side: int, size: tuple[int, int] | None = None) -> np.ndarray:
        """(side, side, C) float32 of (H, W, C) `pixels` of the picture, brought to `size` and padded to a square."""
        if size is not None and size != self.size:
            columns, rows = (
                np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(int)
                for new, old in zip(size, self.size, strict=True)
            )
            pixels = pixels[rows][:, columns]
        return resize_square(pixels.astype(np.float32), side)


def read_sample(
    row: ManifestRow, number: int, s3_endpoint: str | None = None, options: PictureOptions | None = None
) -> Sample:
    """The row with its files read, its mask as `options` say; its camera may be anything, or unknown (`camera()` is
    then None).

    Raises
    ------
    InstanceError
        Of the mesh, the picture or the mask.
    """
    bare: dict[str, Any] = {name: None for name in vars(row) if name in _NOT_NEEDED}
    row_of_files = replace(row, **bare)
    problem = row_of_files.problem()
    if problem is not None:
        raise problem
    files = Files(row_of_files, s3_endpoint, Limits())
    mesh = files.mesh("mesh_uri")
    mesh.check(f"instance {row.instance_id!r}")
    rgb, mask = whole_picture(row_of_files, files, options or PictureOptions())
    mesh = mesh if len(mesh.faces) <= _FACES else decimated(weld(mesh)[0], _FACES)
    return Sample(number, row.instance_id, rgb, mask, mesh, written_in(row))


def written_in(row: ManifestRow) -> Written:
    """The camera that a row holds; without angles and matrices where it holds none that could be read in any way."""
    up = row.up_axis or "y"
    projection = cast("Projection", row.projection or "perspective")
    if row.extrinsics is not None and row.intrinsics is not None:
        if len(row.extrinsics) not in (12, 16) or len(row.intrinsics) not in (4, 9):
            return Written()
        matrix = np.eye(4)
        matrix.reshape(-1)[: len(row.extrinsics)] = row.extrinsics
        return Written(None, np.array(row.intrinsics), matrix, row.camera_axes or "opencv", up, projection)
    angles = {name: getattr(row, name) for name in CAMERA_NUMBERS if getattr(row, name) is not None}
    whole = all(name in angles for name in CAMERA)
    return Written(angles if whole else None, up_axis=up, projection=projection)
