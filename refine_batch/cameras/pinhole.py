"""Any camera without lens distortion, where an object stands before it, and how to turn it towards the object.

A camera that looks past the origin sees the same rays as one at the same place that looks at it, on another image
plane. No shift of the principal point makes up for the tilt between the planes; a homography of the picture does,
exactly.

Pixel coordinates run right and down from the top left corner of the image: the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from refine_batch.cameras.camera import Projection
from refine_batch.errors import ErrorKind, InstanceError

# Beyond this angle a pixel is stretched more than fourfold along the turn.
LARGEST_TURN = 60.0
# Where nothing in the picture moves by more than this many pixels, two cameras are the same.
SAME_PIXEL = 0.01
_ORTHONORMAL = 1e-3
# In widths of its picture: nearer an orthographic camera's field of view would be all but a half circle.
_NEAR = 0.01


@dataclass(frozen=True, eq=False)
class Placement:
    """Where an object stands in a world: `world = scale · rotation · point + translation`.

    Shapes: `rotation` (3, 3), `translation` (3,).
    """

    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))
    scale: float = 1.0
    translation: np.ndarray = field(default_factory=lambda: np.zeros(3))

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise invalid(f"an object's scale is {self.scale}; it must be above 0")
        object.__setattr__(self, "rotation", rotation_matrix(self.rotation))
        object.__setattr__(self, "translation", numbers(self.translation, (3,), "an object's translation"))

    def apply(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) points of the object in the world."""
        return self.scale * (np.asarray(points, np.float64) @ self.rotation.T) + self.translation

    def inverse(self) -> Placement:
        """Where the world stands in the object's coordinates."""
        turned = self.rotation.T
        return Placement(turned, 1.0 / self.scale, -(turned @ self.translation) / self.scale)

    @property
    def is_identity(self) -> bool:
        return self.scale == 1.0 and not self.translation.any() and np.array_equal(self.rotation, np.eye(3))


@dataclass(frozen=True, eq=False)
class Pinhole:
    """Any camera without distortion: `pixel ~ intrinsics · (rotation · point + translation)`, of an orthographic one
    with a depth of 1 for all points: its focal lengths are in pixels per unit of the world.

    Parameters
    ----------
    rotation : (3, 3) float64
        World to camera; the camera's x axis points right, y down, z forward.
    translation : (3,) float64
        The world's origin seen from the camera.
    intrinsics : (3, 3) float64
        [[fx, skew, cx], [0, fy, cy], [0, 0, 1]], pixels.
    width, height
        Of the image, pixels.
    """

    rotation: np.ndarray
    translation: np.ndarray
    intrinsics: np.ndarray
    width: int
    height: int
    projection: Projection = "perspective"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rotation", rotation_matrix(self.rotation))
        object.__setattr__(self, "translation", numbers(self.translation, (3,), "a camera's translation"))
        k = numbers(self.intrinsics, (3, 3), "a camera's intrinsic matrix")
        if k[2, 2] != 0:
            k = k / k[2, 2]
        if k[0, 0] <= 0 or k[1, 1] <= 0 or k[1, 0] != 0 or k[2].tolist() != [0.0, 0.0, 1.0]:
            raise invalid("a camera's intrinsic matrix must be [[fx, skew, cx], [0, fy, cy], [0, 0, 1]], fx, fy > 0")
        object.__setattr__(self, "intrinsics", k)
        if self.width < 1 or self.height < 1:
            raise invalid(f"a camera's image is {self.width}×{self.height} pixels")

    @property
    def centre(self) -> np.ndarray:
        """(3,) the camera's position in the world."""
        return -self.rotation.T @ self.translation

    @property
    def off_axis(self) -> float:
        """Angle between the optical axis and the direction to the world's origin, degrees; NaN at the origin itself."""
        x, y, z = self.translation
        return math.degrees(math.atan2(math.hypot(x, y), z)) if (x, y, z) != (0.0, 0.0, 0.0) else math.nan

    def project(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) pixel coordinates and depth of (N, 3) world points; NaN pixels at depth 0 or less."""
        seen = np.asarray(points, np.float64) @ self.rotation.T + self.translation
        depth = seen[:, 2:]
        if self.projection == "orthographic":
            flat = np.column_stack([seen[:, :2], np.ones(len(seen))])
            return np.column_stack([(flat @ self.intrinsics.T)[:, :2], depth])
        pixels = seen @ self.intrinsics.T
        return np.column_stack([np.where(depth > 0, pixels[:, :2] / np.where(depth > 0, depth, 1.0), np.nan), depth])

    def about(self, placement: Placement) -> Pinhole:
        """The same camera in the coordinates of an object that stands in its world like this. Exact."""
        rotation = self.rotation @ placement.rotation
        translation = (self.rotation @ placement.translation + self.translation) / placement.scale
        k = self.intrinsics
        if self.projection == "orthographic":
            k = k @ np.diag([placement.scale, placement.scale, 1.0])
        return replace(self, rotation=rotation, translation=translation, intrinsics=k)

    def window(self, left: float, top: float, width: int, height: int) -> Pinhole:
        """The camera of a crop, which may reach beyond the image. Exact."""
        shift = np.array([[1.0, 0.0, -left], [0.0, 1.0, -top], [0.0, 0.0, 1.0]])
        return replace(self, intrinsics=shift @ self.intrinsics, width=width, height=height)

    def resized(self, width: int, height: int) -> Pinhole:
        """The camera of the resampled image. Exact."""
        scale = np.diag([width / self.width, height / self.height, 1.0])
        return replace(self, intrinsics=scale @ self.intrinsics, width=width, height=height)


def turned_to_origin(pinhole: Pinhole) -> tuple[Pinhole, np.ndarray]:
    """The camera at the same place that looks at the world's origin over square pixels, and the image's homography.

    The turn is the smallest there is. Image size and principal point stay; `homography` (3, 3) takes a pixel of the old
    image to the one of the new image that sees the same ray (x', y' = (h·(x, y, 1))[:2] / [2]), so a picture resampled
    by it is what the new camera would have taken.

    Raises
    ------
    InstanceError
        CAMERA_INVALID: the origin is behind the camera, or more than `LARGEST_TURN` off its axis.
    """
    if pinhole.projection == "orthographic":
        return _shifted_to_origin(pinhole)
    check_in_front(pinhole)
    if pinhole.off_axis > LARGEST_TURN:
        raise invalid(f"the camera looks {pinhole.off_axis:.0f}° past the object; {LARGEST_TURN:.0f}° is the limit")
    turn = _rotation_between(pinhole.translation / np.linalg.norm(pinhole.translation), np.array([0.0, 0.0, 1.0]))
    k = pinhole.intrinsics
    focal = math.sqrt(k[0, 0] * k[1, 1])
    square = np.array([[focal, 0.0, k[0, 2]], [0.0, focal, k[1, 2]], [0.0, 0.0, 1.0]])
    distance = float(np.linalg.norm(pinhole.translation))
    turned = replace(
        pinhole, rotation=turn @ pinhole.rotation, translation=np.array([0.0, 0.0, distance]), intrinsics=square
    )
    return turned, square @ turn @ np.linalg.inv(k)


def _shifted_to_origin(pinhole: Pinhole) -> tuple[Pinhole, np.ndarray]:
    """What an orthographic camera needs: it sees the same beside its axis as on it, so that nothing is turned."""
    k = pinhole.intrinsics.copy()
    k[:2, 2] += (k @ [*pinhole.translation[:2], 0.0])[:2]
    focal = math.sqrt(k[0, 0] * k[1, 1])
    square = np.array([[focal, 0.0, k[0, 2]], [0.0, focal, k[1, 2]], [0.0, 0.0, 1.0]])
    back = camera_distance(pinhole, float(pinhole.translation[2]))
    return replace(pinhole, translation=np.array([0.0, 0.0, back]), intrinsics=square), square @ np.linalg.inv(k)


def camera_distance(pinhole: Pinhole, depth: float) -> float:
    """From what lies at a depth: the depth, unless the camera is orthographic and stands beyond or hardly before it,
    which no picture shows; then its picture's width."""
    k = pinhole.intrinsics
    width = max(pinhole.width, pinhole.height) / math.sqrt(k[0, 0] * k[1, 1])
    return width if pinhole.projection == "orthographic" and depth < _NEAR * width else depth


def moved_pixels(pinhole: Pinhole, homography: np.ndarray) -> float:
    """How far a homography moves the corners of the image at most, pixels: 0 where it changes nothing."""
    w, h = pinhole.width, pinhole.height
    corners = np.array([[0.0, 0.0, 1.0], [w, 0.0, 1.0], [0.0, h, 1.0], [w, h, 1.0]])
    mapped = corners @ homography.T
    if (mapped[:, 2] <= 0).any():
        return math.inf
    return float(np.abs(mapped[:, :2] / mapped[:, 2:] - corners[:, :2]).max())


def nearest_on_axis(pinhole: Pinhole, point: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0)) -> np.ndarray:
    """(3,) the world point on the optical axis that is nearest to `point`.

    About `Placement(translation=…)` of it the camera looks at the origin, and no image has to be turned.
    """
    forward = pinhole.rotation[2]
    depth = float(forward @ (np.asarray(point, np.float64) - pinhole.centre))
    if depth <= 0 and pinhole.projection == "perspective":
        raise invalid("the point lies behind the camera")
    return pinhole.centre + depth * forward


def rotation_matrix(values: Any) -> np.ndarray:
    """(3, 3) float64, the rotation nearest to `values`, which may be off by rounding and no more.

    Raises
    ------
    InstanceError
        CAMERA_INVALID: not a rotation; a reflection is none.
    """
    matrix = numbers(values, (3, 3), "a rotation matrix")
    if np.abs(matrix @ matrix.T - np.eye(3)).max() > _ORTHONORMAL:
        raise invalid("a rotation matrix is not orthonormal; scale and shear cannot be part of it")
    if np.linalg.det(matrix) < 0:
        raise invalid("a rotation matrix has determinant −1: it mirrors the object")
    u, _, v = np.linalg.svd(matrix)
    return matrix if np.abs(matrix @ matrix.T - np.eye(3)).max() < 1e-12 else u @ v


def _rotation_between(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes one unit vector to another, not opposite to it."""
    x, y, z = np.cross(source, target)
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + skew + skew @ skew / (1.0 + float(source @ target))


def check_in_front(pinhole: Pinhole) -> None:
    if not pinhole.translation[2] > 0 and pinhole.projection == "perspective":
        raise invalid("the object's origin lies at or behind the camera")


def numbers(values: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise invalid(f"{what} must be {_shape(shape)} numbers") from None
    if array.shape != shape:
        raise invalid(f"{what} must be {_shape(shape)} numbers, not {_shape(array.shape) or 'one'}")
    if not np.isfinite(array).all():
        raise invalid(f"{what} holds NaN or infinity")
    return array


def unit(vector: np.ndarray, what: str) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    if length == 0:
        raise invalid(f"{what} is zero")
    return vector / length


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def invalid(message: str) -> InstanceError:
    return InstanceError(ErrorKind.CAMERA_INVALID, message)
