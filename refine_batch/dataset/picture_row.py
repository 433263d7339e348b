"""What the manifest says about one picture, be it a row's own or a further view: which files, taken by which camera."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol, cast

from refine_batch.dataset.columns import CAMERA, CAMERA_NUMBERS, NUMBERS
from refine_batch.errors import ErrorKind, InstanceError, UsageError
from refine_batch.io.uri import normalise, redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from refine_batch.cameras.camera import Camera, Projection, UnknownCamera
    from refine_batch.instance import CameraError

PICTURE_URIS = ("image_uri", "mask_uri", "ignore_uri", "depth_uri", "normals_uri")
CHOICES = {
    "camera_axes": ("opencv", "opengl"),
    "depth_kind": ("metric", "relative", "inverse"),
    "normals_axes": ("opengl", "opencv"),
    "up_axis": ("y", "z"),
    "projection": ("perspective", "orthographic"),
}
_LENGTHS = {"intrinsics": (4, 9), "extrinsics": (12, 16)}


class PictureRow(Protocol):
    """Columns that a row of the manifest and a further view have in common."""

    @property
    def image_uri(self) -> str | None: ...
    @property
    def mask_uri(self) -> str | None: ...
    @property
    def ignore_uri(self) -> str | None: ...
    @property
    def depth_uri(self) -> str | None: ...
    @property
    def depth_kind(self) -> str | None: ...
    @property
    def depth_scale(self) -> float | None: ...
    @property
    def normals_uri(self) -> str | None: ...
    @property
    def normals_axes(self) -> str | None: ...
    @property
    def up_axis(self) -> str | None: ...
    @property
    def projection(self) -> str | None: ...
    @property
    def azimuth(self) -> float | None: ...
    @property
    def elevation(self) -> float | None: ...
    @property
    def distance(self) -> float | None: ...
    @property
    def fov(self) -> float | None: ...
    @property
    def intrinsics(self) -> Sequence[float] | None: ...
    @property
    def extrinsics(self) -> Sequence[float] | None: ...
    @property
    def camera_axes(self) -> str | None: ...
    @property
    def camera_error_degrees(self) -> float | None: ...
    @property
    def camera_error_distance(self) -> float | None: ...


def picture_camera(
    row: PictureRow, width: int, height: int, centre: np.ndarray | None = None
) -> tuple[Camera | UnknownCamera, tuple[int, int]]:
    """The camera of a picture of `width` × `height` pixels, and the size that the picture is to be brought to first.

    Matrices count before angles. The size is the picture's own unless the matrices' pixels are not square. Where
    azimuth, elevation or distance is null the camera is what is known of it.

    Parameters
    ----------
    centre : (3,)
        Of the object: what a camera given as matrices is said to look at lies as near to it as its axis goes.

    Raises
    ------
    InstanceError
        CAMERA_INVALID: the matrices are no camera's.
    """
    if row.extrinsics is not None:
        from refine_batch.cameras.matrices import camera_from_matrices

        axes, projection = row.camera_axes or "opencv", cast("Projection", row.projection or "perspective")
        return camera_from_matrices(row.intrinsics, row.extrinsics, axes, width, height, centre, projection)
    camera = camera_of_angles(row)
    if row.up_axis == "z":
        from refine_batch.cameras.camera import Camera
        from refine_batch.cameras.matrices import about_z

        camera = about_z(camera) if isinstance(camera, Camera) else camera
    return camera, (width, height)


def camera_of_angles(row: PictureRow) -> Camera | UnknownCamera:
    """The camera by its angles about y; what is known of it where azimuth, elevation or distance is null."""
    from refine_batch.cameras.camera import Camera, UnknownCamera

    known: dict[str, Any] = {n: getattr(row, n) for n in CAMERA_NUMBERS if getattr(row, n) is not None}
    whole = all(name in known for name in CAMERA)
    known["projection"] = row.projection or "perspective"
    return Camera(**known) if whole else UnknownCamera(**known)


def picture_camera_error(row: PictureRow) -> CameraError | None:
    """How far the camera is trusted; None where the row says nothing."""
    from refine_batch.instance import CameraError

    if row.camera_error_degrees is None and row.camera_error_distance is None:
        return None
    return CameraError(row.camera_error_degrees or 0.0, row.camera_error_distance or 0.0)


def picture_problem(row: PictureRow, name: str) -> InstanceError | None:
    """What makes a picture's columns unusable, before any file is looked at; None where nothing does.

    ROW_INVALID for a URI that means nothing or an unknown word, CAMERA_INVALID for a number that is NaN, infinite or
    out of range and for matrices of another size. `name` begins each message.
    """
    for column in PICTURE_URIS:
        found = uri_problem(column, getattr(row, column), name)
        if found is not None:
            return found
    for column, allowed in CHOICES.items():
        value = getattr(row, column)
        if value not in (None, *allowed):
            words = f"{', '.join(allowed[:-1])} or {allowed[-1]} (or empty)"
            said = f"{column} is {redact(value)[:40]!r}; it must be {words}"
            return InstanceError(ErrorKind.ROW_INVALID, f"{name}: {said}")
    return _numbers_problem(row, name) or _matrices_problem(row, name)


def uri_problem(column: str, uri: str | None, name: str) -> InstanceError | None:
    """ROW_INVALID where a URI means nothing."""
    try:
        if uri is not None:
            normalise(uri)
    except UsageError as error:
        return InstanceError(ErrorKind.ROW_INVALID, f"{name}: {column}: {error}")
    return None


def _numbers_problem(row: PictureRow, name: str) -> InstanceError | None:
    for column in NUMBERS:
        value = getattr(row, column)
        if value is not None and not math.isfinite(value):
            return InstanceError(
                ErrorKind.CAMERA_INVALID, f"{name}: {column} is {value}, not a number; leave it empty if unknown"
            )
    for column in ("distance", "depth_scale"):
        value = getattr(row, column)
        if value is not None and value <= 0:
            kind = ErrorKind.CAMERA_INVALID if column == "distance" else ErrorKind.ROW_INVALID
            return InstanceError(kind, f"{name}: {column} is {value:g}; it must be above 0")
    for column in ("camera_error_degrees", "camera_error_distance"):
        value = getattr(row, column)
        if value is not None and value < 0:
            return InstanceError(ErrorKind.CAMERA_INVALID, f"{name}: {column} is {value:g}; it must not be negative")
    some = [column for column in ("azimuth", "elevation") if getattr(row, column) is not None]
    if row.up_axis == "z" and row.extrinsics is None and some and any(getattr(row, c) is None for c in CAMERA):
        said = f"{some[0]} alone cannot be used where up_axis is z; give azimuth, elevation and distance, or neither"
        return InstanceError(ErrorKind.CAMERA_INVALID, f"{name}: {said}")
    if row.fov is not None and not 0 < row.fov < 180:
        return InstanceError(ErrorKind.CAMERA_INVALID, f"{name}: fov is {row.fov:g}°; it must be between 0 and 180")
    return None


def _matrices_problem(row: PictureRow, name: str) -> InstanceError | None:
    given = {column: getattr(row, column) for column in _LENGTHS if getattr(row, column) is not None}
    for column, values in given.items():
        lengths = _LENGTHS[column]
        if len(values) not in lengths:
            said = f"{column} has {len(values)} numbers; it must have {lengths[0]} or {lengths[1]}"
            return InstanceError(ErrorKind.CAMERA_INVALID, f"{name}: {said}")
        if not all(math.isfinite(value) for value in values):
            return InstanceError(ErrorKind.CAMERA_INVALID, f"{name}: {column} holds what is not a number")
    if len(given) == 1:
        missing = next(column for column in _LENGTHS if column not in given)
        return InstanceError(ErrorKind.CAMERA_INVALID, f"{name}: {missing} is empty beside {next(iter(given))}")
    return None
