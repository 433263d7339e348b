"""Cameras of other conventions to this project's: pure functions of numbers, in float64.

Every convention goes through `Pinhole`, which holds any camera without lens distortion. From OpenCV, COLMAP, OpenGL,
Blender and PyTorch3D to `Pinhole` nothing is lost. `Camera` is narrower: its pixels are square
(`matrices.camera_of_pinhole`), and what is here makes it look at the origin of object space.

- `to_camera` is exact where the optical axis meets the origin. A principal point off the centre, which is all that a
  crop does, is an offset; a roll is a roll; an object that was moved, turned or scaled is `Pinhole.about` a
  `Placement`.
- A camera that looks past the origin is refused, as are pixels that are not square. `turned_to_origin` gives the camera
  at the same place that does look there and the homography between the two images: exact, at the price of resampling
  the picture. Where the object may be moved instead, `nearest_on_axis` says to where.
- Refused for good: lens distortion, mirrored axes, an origin at or behind the camera or more than `LARGEST_TURN` off
  its axis.

Pixel coordinates run right and down from the top left corner of the image, so that the centre of the first pixel is
(0.5, 0.5), as COLMAP and OpenGL have it; OpenCV's own calibrations call that point (0, 0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from refine_batch.cameras.camera import Camera, camera_axes, camera_position
from refine_batch.cameras.pinhole import (
    Pinhole,
    check_in_front,
    invalid,
    numbers,
    rotation_matrix,
    turned_to_origin,
    unit,
)

_ON_AXIS = 1e-6  # radians
_SQUARE = 1e-6

_FLIP_XY = np.diag([-1.0, -1.0, 1.0])  # between PyTorch3D's axes (x left, y up) and OpenCV's (x right, y down)
_FLIP_YZ = np.diag([1.0, -1.0, -1.0])  # between OpenGL's axes (y up, z backward) and OpenCV's

# Blender's importers stand a y-up object upright in its z-up world: (x, y, z) becomes (x, −z, y).
BLENDER_FROM_Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def from_camera(camera: Camera, size: int) -> Pinhole:
    """The pinhole of a `Camera` whose square image has `size` pixels a side."""
    camera.check("camera")
    # The camera's own axes are x left, y up, z forward.
    rotation = _FLIP_XY @ camera_axes(camera).T
    focal = size / (2.0 * math.tan(math.radians(camera.fov) / 2.0))
    if camera.projection == "orthographic":
        focal /= camera.distance
    middle = [size * (1.0 - offset) / 2.0 for offset in (camera.offset_x, camera.offset_y)]
    intrinsics = [[focal, 0.0, middle[0]], [0.0, focal, middle[1]], [0.0, 0.0, 1.0]]
    return Pinhole(rotation, -rotation @ camera_position(camera), np.array(intrinsics), size, size, camera.projection)


def to_camera(pinhole: Pinhole) -> Camera:
    """The `Camera` of a pinhole that looks at the world's origin, exact.

    The field of view spans the square that a non-square image is padded to evenly before it is used.

    Raises
    ------
    InstanceError
        CAMERA_INVALID: it does not look at the origin, or its pixels are not square; `turned_to_origin` helps.
    """
    if (
        pinhole.projection == "orthographic"
        and abs(pinhole.intrinsics[0, 0] / pinhole.intrinsics[1, 1] - 1.0) < _SQUARE
    ):
        pinhole, _ = turned_to_origin(pinhole)  # Exact: a shift of the principal point.
    check_in_front(pinhole)
    k = pinhole.intrinsics
    if abs(k[0, 0] / k[1, 1] - 1.0) > _SQUARE or abs(k[0, 1]) > _SQUARE * k[0, 0]:
        raise invalid(f"the camera's pixels are not square (focal lengths {k[0, 0]:g} and {k[1, 1]:g})")
    if math.radians(pinhole.off_axis) > _ON_AXIS:
        raise invalid(
            f"the camera looks {pinhole.off_axis:.3g}° past the origin; the image has to be turned towards it"
        )
    x, y, z = pinhole.centre
    distance = float(np.linalg.norm(pinhole.translation))
    azimuth, elevation = math.degrees(math.atan2(x, z)), math.degrees(math.atan2(y, math.hypot(x, z)))
    across, up, _ = camera_axes(Camera(azimuth, elevation, distance)).T
    left = -pinhole.rotation[0]
    roll = math.degrees(math.atan2(left @ up, left @ across))
    side = max(pinhole.width, pinhole.height)
    focal = math.sqrt(k[0, 0] * k[1, 1]) * (distance if pinhole.projection == "orthographic" else 1.0)
    pad_left, pad_top = (side - pinhole.width) // 2, (side - pinhole.height) // 2
    return Camera(
        azimuth=azimuth,
        elevation=elevation,
        distance=distance,
        fov=math.degrees(2.0 * math.atan(side / (2.0 * focal))),
        roll=roll,
        offset_x=float(1.0 - 2.0 * (k[0, 2] + pad_left) / side),
        offset_y=float(1.0 - 2.0 * (k[1, 2] + pad_top) / side),
        projection=pinhole.projection,
    )


def from_opencv(
    rotation: Any, translation: Any, intrinsics: Any, size: tuple[int, int], *, first_pixel: float = 0.5
) -> Pinhole:
    """OpenCV: `x_camera = rotation · x_world + translation`, x right, y down, z forward; `size` (width, height).

    `first_pixel` is what the calibration calls the centre of the first pixel: OpenCV's own say 0.
    """
    k = numbers(intrinsics, (3, 3), "a camera's intrinsic matrix").copy()
    k[:2, 2] += (0.5 - first_pixel) * k[2, 2]
    return Pinhole(rotation, translation, k, int(size[0]), int(size[1]))


def from_colmap(
    quaternion: Any, translation: Any, model: str, parameters: Sequence[float], size: tuple[int, int]
) -> Pinhole:
    """COLMAP: quaternion (w, x, y, z) and translation of images.txt, model and parameters of cameras.txt.

    Only SIMPLE_PINHOLE (f, cx, cy) and PINHOLE (fx, fy, cx, cy) have no distortion; the others are refused.
    """
    counts = {"SIMPLE_PINHOLE": 3, "PINHOLE": 4}
    if model not in counts:
        raise invalid(f"the camera model {model} has lens distortion; undistort the images, which gives PINHOLE")
    values = numbers(parameters, (counts[model],), f"the parameters of a {model} camera")
    fx, fy, cx, cy = values if model == "PINHOLE" else (values[0], *values)
    turned = unit(numbers(quaternion, (4,), "a camera's quaternion"), "a camera's quaternion")
    rotation = Rotation.from_quat(turned[[1, 2, 3, 0]]).as_matrix()
    return from_opencv(rotation, translation, [[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]], size)


def from_opengl(camera_to_world: Any, intrinsics: Any, size: tuple[int, int]) -> Pinhole:
    """OpenGL, and Blender's or NeRF's camera matrices: (4, 4) camera to world, x right, y up, z backward."""
    matrix = numbers(camera_to_world, (4, 4), "a camera-to-world matrix")
    axes = rotation_matrix(matrix[:3, :3])
    rotation = _FLIP_YZ @ axes.T
    return from_opencv(rotation, -rotation @ matrix[:3, 3], intrinsics, size)


def from_pytorch3d(
    rotation: Any,
    translation: Any,
    focal_length: float | Sequence[float],
    size: tuple[int, int],
    *,
    principal_point: Sequence[float] = (0.0, 0.0),
) -> Pinhole:
    """PyTorch3D's PerspectiveCameras: `x_view = x_world · rotation + translation` (rows), x left, y up, z forward.

    Focal length and principal point are in NDC, of which the shorter side of the image spans 2; a field of view f over
    it is a focal length of 1 / tan(f / 2).
    """
    width, height = size
    half = min(width, height) / 2.0
    fx, fy = np.broadcast_to(np.asarray(focal_length, np.float64), (2,))
    px, py = numbers(principal_point, (2,), "a camera's principal point")
    intrinsics = [[fx * half, 0.0, width / 2 - px * half], [0.0, fy * half, height / 2 - py * half], [0.0, 0.0, 1.0]]
    r = _FLIP_XY @ rotation_matrix(rotation).T
    return from_opencv(r, _FLIP_XY @ numbers(translation, (3,), "a camera's translation"), intrinsics, size)
