"""Cameras given as matrices, as most tools write them, and written down again in that form.

Every pinhole camera over square pixels is exactly a `Camera`: its direction and roll are its rotation, the principal
point is an offset, and the point looked at is any point of its optical axis. That point is taken where the object is,
so that the distance is the object's depth.

Pixels that are not square are made so by resizing the picture, to the size that `camera_from_matrices` returns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from refine_batch.cameras.camera import Camera, Projection, camera_axes
from refine_batch.cameras.conversions import BLENDER_FROM_Y_UP, from_camera, from_opencv
from refine_batch.cameras.pinhole import Pinhole, Placement, camera_distance, invalid, nearest_on_axis, numbers

# A camera's own axes beside OpenCV's (x right, y down, z forward).
AXES = {"opencv": np.eye(3), "opengl": np.diag([1.0, -1.0, -1.0])}

# Pixels of the picture that its edge may be off before it is resized, or a skew refused: far below a working pixel.
_OFF = 0.5
_LONGEST_PIXEL = 4.0
_SAME = 1e-7
# Depth below which the origin lies at the camera rather than before it.
_AT_THE_CAMERA = 1e-9
_SHEAR = 1e-3


def camera_from_matrices(
    intrinsics: Any,
    extrinsics: Any,
    axes: str,
    width: int,
    height: int,
    centre: Sequence[float] | np.ndarray | None = None,
    projection: Projection = "perspective",
) -> tuple[Camera, tuple[int, int]]:
    """The camera of a picture, and the size that the picture has to be brought to first.

    Parameters
    ----------
    intrinsics : 4 or 9 numbers
        fx, fy, cx, cy or the 3 × 3 matrix by rows, in pixels of the picture, whose top left corner is (0, 0); fx and
        fy of an orthographic camera are pixels per object unit.
    extrinsics : 12 or 16 numbers
        Object to camera, 3 × 4 or 4 × 4 by rows. A uniform scale in it is allowed: no perspective picture shows it.
    axes
        The camera's own: `opencv` (x right, y down, z forward) or `opengl` (x right, y up, z backward).
    width, height
        Of the picture, pixels. It is padded to the square about its middle, which the field of view spans.
    centre : (3,)
        Of the object, where it is known; else its origin, or a point at depth 1 where that is not before the camera.

    Returns
    -------
    camera
        It looks at the point of its axis that is nearest to the object's centre.
    size : (width, height)
        As given, unless the pixels are so far from square that an edge of the picture would move by half a pixel: then
        the picture is to be resized to this.

    Raises
    ------
    InstanceError
        CAMERA_INVALID: not numbers of these shapes; mirrored, sheared or skewed; or the centre lies behind the camera.
    """
    pinhole = pinhole_from_matrices(intrinsics, extrinsics, axes, width, height, projection)
    size = _square_pixels(pinhole)
    return camera_of_pinhole(pinhole.resized(*size), centre), size


def pinhole_from_matrices(
    intrinsics: Any, extrinsics: Any, axes: str, width: int, height: int, projection: Projection = "perspective"
) -> Pinhole:
    """The same numbers as a `Pinhole`, whatever its pixels' shape; raises as `camera_from_matrices`."""
    if axes not in AXES:
        raise invalid(f"the camera's axes are {axes!r}; they must be {' or '.join(AXES)}")
    matrix = _by_rows(extrinsics, ((4, 4), (3, 4)), "a camera's extrinsics")
    if len(matrix) == 4:
        if np.abs(matrix[3] - [0.0, 0.0, 0.0, 1.0]).max() > _SAME:
            columns = np.abs(matrix[:, 3] - [0.0, 0.0, 0.0, 1.0]).max() <= _SAME
            hint = "; they were written by columns" if columns else ""
            raise invalid(f"the last row of a camera's extrinsics must be 0, 0, 0, 1{hint}")
        matrix = matrix[:3]
    scale = float(np.cbrt(np.linalg.det(matrix[:, :3])))
    if not scale > 0:
        raise invalid(f"a camera's extrinsics {'mirror' if scale < 0 else 'flatten'} the object")
    if np.abs(matrix[:, :3] @ matrix[:, :3].T / scale**2 - np.eye(3)).max() > _SHEAR:
        raise invalid("a camera's extrinsics must be a rotation and a translation (and one scale at most), not a shear")
    matrix = AXES[axes] @ matrix / scale
    k = _intrinsic_matrix(intrinsics)
    if projection == "orthographic":
        k = k @ np.diag([scale, scale, 1.0])
    return replace(from_opencv(matrix[:, :3], matrix[:, 3], k, (width, height)), projection=projection)


def camera_of_pinhole(pinhole: Pinhole, centre: Sequence[float] | np.ndarray | None = None) -> Camera:
    """The `Camera` that sees what a pinhole over (nearly) square pixels sees; `centre` as in `camera_from_matrices`."""
    k = pinhole.intrinsics
    side = max(pinhole.width, pinhole.height)
    if abs(k[0, 1]) / k[1, 1] * side / 2.0 > _OFF:
        raise invalid(f"the camera's pixels are skewed (by {k[0, 1]:g} for focal lengths {k[0, 0]:g} and {k[1, 1]:g})")
    forward = pinhole.rotation[2]
    if centre is not None:
        target = _before(pinhole, centre)
    elif pinhole.translation[2] > _AT_THE_CAMERA or pinhole.projection == "orthographic":
        target = nearest_on_axis(pinhole)
    else:
        target = pinhole.centre + forward
    distance = camera_distance(pinhole, float(forward @ (target - pinhole.centre)))
    if np.abs(target).max() <= _SAME * distance:
        target = np.zeros(3)
    x, y, z = -forward
    azimuth, elevation = math.degrees(math.atan2(x, z)), math.degrees(math.atan2(y, math.hypot(x, z)))
    across, up, _ = camera_axes(Camera(azimuth, elevation, distance)).T
    left = -pinhole.rotation[0]
    focal = math.sqrt(k[0, 0] * k[1, 1]) * (distance if pinhole.projection == "orthographic" else 1.0)
    pad_left, pad_top = (side - pinhole.width) // 2, (side - pinhole.height) // 2
    return Camera(
        azimuth=azimuth,
        elevation=elevation,
        distance=distance,
        fov=math.degrees(2.0 * math.atan(side / (2.0 * focal))),
        roll=math.degrees(math.atan2(left @ up, left @ across)),
        offset_x=float(1.0 - 2.0 * (k[0, 2] + pad_left) / side),
        offset_y=float(1.0 - 2.0 * (k[1, 2] + pad_top) / side),
        target=(float(target[0]), float(target[1]), float(target[2])),
        projection=pinhole.projection,
    )


def looking_near(camera: Camera, centre: Sequence[float] | np.ndarray) -> Camera:
    """The same camera with its target beside `centre`, on its axis. Raises where that lies behind it."""
    pinhole = from_camera(camera, 2)
    target = _before(pinhole, centre)
    distance = float(pinhole.rotation[2] @ (target - pinhole.centre))
    fov = camera.fov
    if camera.projection == "orthographic":
        distance = camera_distance(pinhole, distance)
        fov = math.degrees(2.0 * math.atan(math.tan(math.radians(fov) / 2.0) * camera.distance / distance))
    point = (float(target[0]), float(target[1]), float(target[2]))
    return replace(camera, distance=distance, fov=fov, target=point)


def matrices_of(camera: Camera, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """(3, 3) intrinsics and (4, 4) extrinsics in OpenCV's axes, object to camera, of a picture of this size.

    The inverse of `camera_from_matrices`: the camera's field of view spans the square that the picture is padded to.
    """
    side = max(width, height)
    pinhole = from_camera(camera, side).window((side - width) // 2, (side - height) // 2, width, height)
    extrinsics = np.eye(4)
    extrinsics[:3, :3], extrinsics[:3, 3] = pinhole.rotation, pinhole.translation
    return pinhole.intrinsics, extrinsics


def about_z(camera: Camera) -> Camera:
    """A camera whose angles were meant about an object that stands on z, as a `Camera` about the same coordinates.

    As if Blender had imported a y-up object: azimuth 0 looks from −y, 90 from +x, and elevation 90 down from +z. The
    target is in the object's own coordinates.
    """
    upright = replace(camera, target=tuple(BLENDER_FROM_Y_UP.T @ camera.target))
    pinhole = from_camera(upright, 2).about(Placement(BLENDER_FROM_Y_UP.T))
    turned = camera_of_pinhole(pinhole, centre=camera.target)
    return replace(turned, distance=camera.distance, fov=camera.fov, target=camera.target)


def _before(pinhole: Pinhole, centre: Sequence[float] | np.ndarray) -> np.ndarray:
    point = numbers(centre, (3,), "the object's centre")
    depth = float(pinhole.rotation[2] @ point + pinhole.translation[2])
    if not depth > 0 and pinhole.projection == "perspective":
        raise invalid(
            f"the object's centre lies {-depth:.3g} behind the camera; the extrinsics may be camera to world where "
            "object to camera is meant, or of other axes than camera_axes says"
        )
    return nearest_on_axis(pinhole, point)


def _square_pixels(pinhole: Pinhole) -> tuple[int, int]:
    """(width, height) of the picture with square pixels: as it is, or with its shorter pixels' side drawn out."""
    width, height = pinhole.width, pinhole.height
    ratio = float(pinhole.intrinsics[1, 1] / pinhole.intrinsics[0, 0])  # a pixel's width by its height
    if not 1 / _LONGEST_PIXEL <= ratio <= _LONGEST_PIXEL:
        raise invalid(
            f"the camera's pixels are {ratio:.3g} times as wide as they are high; focal lengths are in pixels"
        )
    # The mean of the two focal lengths leaves half of their difference to each edge.
    if abs(ratio - 1.0) / 2.0 * max(width, height) / 2.0 <= _OFF:
        return width, height
    return (round(width * ratio), height) if ratio > 1 else (width, round(height / ratio))


def _intrinsic_matrix(values: Any) -> np.ndarray:
    array = np.asarray(_floats(values, "a camera's intrinsics"))
    if array.size == 4:
        fx, fy, cx, cy = array.reshape(-1)
        return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    return _by_rows(array, ((3, 3),), "a camera's intrinsics (4 numbers: fx, fy, cx, cy; or 9)")


def _by_rows(values: Any, shapes: tuple[tuple[int, int], ...], what: str) -> np.ndarray:
    array = _floats(values, what)
    for shape in shapes:
        if array.size == shape[0] * shape[1] and array.shape in (shape, (array.size,)):
            return numbers(array.reshape(shape), shape, what)
    wanted = " or ".join(str(rows * columns) for rows, columns in shapes)
    raise invalid(f"{what} must be {wanted} numbers, not {array.size}")


def _floats(values: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise invalid(f"{what} must be numbers") from None
