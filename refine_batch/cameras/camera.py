"""The camera: directions in degrees, the look-at transform and the projection to NDC.

Conventions are PyTorch3D's (https://pytorch3d.org/docs/cameras): object space is y-up, row vectors, NDC +x left and +y
up, square images. `project` is the only place where object space becomes image space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from refine_batch.errors import ErrorKind, InstanceError

Projection = Literal["perspective", "orthographic"]
# Depths of orthographic cameras count from a plane so many half widths of the picture before the point looked at:
# nothing lies behind such a camera, and the rasteriser's hyperbolic depth is as good as linear so far away.
_LIFT = 32.0


@dataclass(frozen=True)
class Camera:
    """A camera that looks at `target` from `distance`, up being +y.

    Parameters
    ----------
    azimuth, elevation
        Direction of the camera seen from the target, degrees; azimuth 0 is +z, 90 is +x.
    distance
        From the target, object units.
    fov
        Field of view over the whole image, degrees.
    roll
        Turn about the viewing axis, degrees.
    offset_x, offset_y
        Added to the NDC point: the principal point of a crop.
    target
        The point looked at, object units; the origin, unless a camera was given as matrices.
    projection
        An orthographic camera sees everything as large as a perspective one sees it at the target's depth: its picture
        is 2·distance·tan(fov / 2) object units wide.
    """

    azimuth: float
    elevation: float
    distance: float
    fov: float = 60.0
    roll: float = 0.0
    offset_x: float = 0.0
    offset_y: float = 0.0
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)
    projection: Projection = "perspective"

    def check(self, name: str) -> None:
        """Raise `InstanceError` unless every number can be used; `name` tells the reader whose camera it is."""
        if self.projection not in get_args(Projection):
            said = f"the camera's projection is {self.projection!r}; it must be {' or '.join(get_args(Projection))}"
            raise InstanceError(ErrorKind.CAMERA_INVALID, f"{name}: {said}")
        for field in self.__dataclass_fields__.keys() - {"projection"}:
            value = getattr(self, field)
            if not np.isfinite(value).all():
                raise InstanceError(ErrorKind.CAMERA_INVALID, f"{name}: the camera's {field} is {value}, not a number")
        if self.distance <= 0:
            raise InstanceError(
                ErrorKind.CAMERA_INVALID, f"{name}: the camera's distance is {self.distance:g}; it must be above 0"
            )
        if not 0 < self.fov < 180:
            raise InstanceError(
                ErrorKind.CAMERA_INVALID, f"{name}: the camera's fov is {self.fov:g}°; it must be between 0 and 180"
            )

    @property
    def width(self) -> float:
        """Of what the picture shows at the target's depth, object units."""
        return 2.0 * self.distance * math.tan(math.radians(self.fov) / 2.0)

    def mirrored(self, normal: tuple[float, float, float], offset: float = 0.0) -> Camera:
        """The camera reflected in the plane p·normal = offset, `normal` being of unit length.

        Its image of the reflected object is this camera's image of the object with left and right swapped, for every
        plane: a reflection that turns the up direction over (normal y) is made good by the roll.
        """
        n = np.asarray(normal, dtype=np.float64)
        reflection = np.eye(3) - 2.0 * np.outer(n, n)
        x, y, z = reflection @ (camera_position(self) - self.target)
        azimuth = math.degrees(math.atan2(x, z))
        elevation = math.degrees(math.asin(max(-1.0, min(1.0, y / self.distance))))
        # Three reflected axes make a left-handed frame. Turning x back is what swaps left and right.
        side = -reflection @ camera_axes(self)[:, 0]
        across, up, _ = camera_axes(Camera(azimuth, elevation, self.distance)).T
        roll = math.degrees(math.atan2(side @ up, side @ across))
        target = tuple((reflection @ self.target + 2.0 * offset * n).tolist())
        return replace(self, azimuth=azimuth, elevation=elevation, roll=roll, offset_x=-self.offset_x, target=target)


@dataclass(frozen=True)
class UnknownCamera:
    """A camera of which azimuth, elevation or distance is not known and has to be estimated; None is unknown."""

    azimuth: float | None = None
    elevation: float | None = None
    distance: float | None = None
    fov: float = 60.0
    roll: float = 0.0
    offset_x: float = 0.0
    offset_y: float = 0.0
    projection: Projection = "perspective"

    def known(self, azimuth: float, elevation: float, distance: float) -> Camera:
        """The camera, with what is not known taken from the arguments."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return Camera(**{"azimuth": azimuth, "elevation": elevation, "distance": distance} | given)

    def check(self, name: str) -> None:
        """Raise `InstanceError` unless every number that is known can be used."""
        self.known(0.0, 0.0, 1.0).check(name)


@dataclass(frozen=True)
class LikelyCamera:
    """A camera from which a picture may have been taken, and how credible that is beside the likeliest one's 1."""

    camera: Camera
    credibility: float = 1.0


def camera_position(camera: Camera) -> np.ndarray:
    """(3,) float64 position in object units: d·(cos e·sin a, sin e, cos e·cos a) from the target."""
    return np.asarray(camera.target) + camera.distance * _direction(camera)


def rays_to(points: np.ndarray, camera: Camera) -> np.ndarray:
    """(N, 3) vectors along which a camera sees (N, 3) points, of no particular length, in the points' precision."""
    if camera.projection == "orthographic":
        return np.broadcast_to(-_direction(camera), points.shape).astype(points.dtype)
    return points - camera_position(camera).astype(points.dtype)


def _direction(camera: Camera) -> np.ndarray:
    a, e = math.radians(camera.azimuth), math.radians(camera.elevation)
    return np.array([math.cos(e) * math.sin(a), math.sin(e), math.cos(e) * math.cos(a)])


def angle_between(a: Camera, b: Camera) -> float:
    """Degrees between the directions in which two cameras stand, each seen from its target."""
    one, other = _direction(a), _direction(b)
    return math.degrees(math.atan2(np.linalg.norm(np.cross(one, other)), one @ other))


def camera_axes(camera: Camera) -> np.ndarray:
    """(3, 3) float64 with the camera's x, y and z axes in object space as columns."""
    return cameras_from_parameters(parameters_of([camera])).rotation[0].numpy()


def parameters_of(cameras: Sequence[Camera]) -> Float[Tensor, "n 11"]:
    """(N, 11) float64: the cameras' numbers in the order of `cameras_from_parameters`."""
    even = [float(c.projection == "orthographic") for c in cameras]
    rows = [
        [c.azimuth, c.elevation, c.distance, c.fov, c.roll, c.offset_x, c.offset_y, *c.target, flag]
        for c, flag in zip(cameras, even, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 11)


@dataclass(frozen=True)
class Cameras:
    """A batch of N cameras as tensors, all on one device and differentiable.

    Shapes: `rotation` (N, 3, 3), `translation` (N, 3), `focal` (N,), `offset` (N, 2), `parallel` (N,). A world point p
    (row vector) becomes p·rotation + translation; the roll is part of both. `parallel` is 0 of a perspective camera; an
    orthographic one sees everything as if it lay at this depth.
    """

    rotation: Float[Tensor, "n 3 3"]
    translation: Float[Tensor, "n 3"]
    focal: Float[Tensor, " n"]
    offset: Float[Tensor, "n 2"]
    parallel: Float[Tensor, " n"]

    def __len__(self) -> int:
        return self.rotation.shape[0]

    def __getitem__(self, index) -> Cameras:
        return Cameras(*(t[index] for t in vars(self).values()))

    def float_on(self, device: torch.device | str) -> Cameras:
        """The cameras in float32 on `device`, as renderers take them."""
        return Cameras(*(t.to(device=device, dtype=torch.float32) for t in vars(self).values()))


def stack_cameras(cameras: Sequence[Camera], device: torch.device | str = "cpu") -> Cameras:
    """`Cameras` of a list of `Camera`, float32 on `device`."""
    return cameras_from_parameters(parameters_of(cameras)).float_on(device)


def cameras_from_parameters(parameters: Float[Tensor, "n 11"]) -> Cameras:
    """`Cameras` of rows (azimuth, elevation, distance, fov, roll, offset_x, offset_y, target x, y, z, 1 where
    orthographic), differentiable in all but the last.

    With C the position about the target t and up = +y: z = −C/|C|, x = normalise(up × z), y = z × x, R = [x y z] as
    columns, T = −(t + C)·R, as PyTorch3D's `look_at_view_transform` has it; the roll turns x and y in their plane.
    Looking straight up or down, where up × z vanishes, x is taken as the limit for an elevation that approaches ±90°.
    """
    azimuth, elevation, distance, fov, roll, offset_x, offset_y = parameters[..., :7].unbind(-1)
    a, e, r = torch.deg2rad(azimuth), torch.deg2rad(elevation), torch.deg2rad(roll)
    sin_a, cos_a, sin_e, cos_e = torch.sin(a), torch.cos(a), torch.sin(e), torch.cos(e)
    about_target = distance[..., None] * torch.stack([cos_e * sin_a, sin_e, cos_e * cos_a], dim=-1)
    position = parameters[..., 7:10] + about_target
    # up × z in closed form: (−cos e·cos a, 0, cos e·sin a), whose direction does not depend on |cos e|.
    side = torch.where(cos_e < 0, -1.0, 1.0).to(parameters.dtype)
    x = torch.stack([-cos_a * side, torch.zeros_like(a), sin_a * side], dim=-1)
    z = -torch.stack([cos_e * sin_a, sin_e, cos_e * cos_a], dim=-1)
    y = torch.linalg.cross(z, x)
    cos_r, sin_r = torch.cos(r)[..., None], torch.sin(r)[..., None]
    rotation = torch.stack([x * cos_r + y * sin_r, -x * sin_r + y * cos_r, z], dim=-1)
    translation = -torch.einsum("...i,...ij->...j", position, rotation)
    focal = 1.0 / torch.tan(torch.deg2rad(fov) / 2)
    parallel = torch.where(parameters[..., 10] > 0, distance, 0.0)
    return Cameras(rotation, translation, focal, torch.stack([offset_x, offset_y], dim=-1), parallel)


def project(points: Float[Tensor, "n v 3"], cameras: Cameras) -> Float[Tensor, "n v 3"]:
    """(x, y) in NDC and z, the depth along the viewing axis in object units, of points in object space.

    Points at or behind the camera keep their depth (z ≤ 0) and get NDC coordinates as if at depth 1e-6, so that nothing
    is infinite; the rasterisers leave their triangles out. Nothing lies behind an orthographic camera: its z counts
    from far before the picture's middle.
    """
    view = points @ cameras.rotation + cameras.translation[:, None, :]
    depth = view[..., 2:]
    focal, parallel = cameras.focal[:, None, None], cameras.parallel[:, None, None]
    even = parallel > 0
    ndc = view[..., :2] * (focal / torch.where(even, parallel, depth.clamp_min(1e-6))) + cameras.offset[:, None, :]
    depth = torch.where(even, depth + parallel * (_LIFT / focal - 1.0), depth)
    return torch.cat([ndc, depth], dim=-1)
