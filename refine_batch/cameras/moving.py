"""Cameras as variables: how far each has moved about the object that it looks at, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refine_batch.cameras.camera import Camera, Cameras, cameras_from_parameters, parameters_of

# What moves of a camera: the turn about the object's upright axis and the rise over it (radians), both as if the object
# turned in the picture, and the logarithm of the distance.
MOVED = ("azimuth", "elevation", "distance")
_STEEPEST = math.radians(89.0)


class MovingCameras:
    """N cameras that move about a point, each on its own.

    One that looks at that point changes its azimuth, elevation and distance. One that looks past it orbits it all the
    same, and keeps it where it was in the picture. An orthographic camera that moves away sees more at once: the
    distance is its scale.

    Parameters
    ----------
    starts
        Where they begin.
    spread : (N, 3) float
        One standard deviation of each change, in the order of `MOVED`, radians and logarithm; 0 is exact, and what is
        exact does not move. Infinite: free, at no cost.
    pivots : (N, 3) float
        What each moves about; default: the origin, a working mesh's centre.

    Attributes
    ----------
    change : (N, 3) float64 on the device
        What has been added: the variable. Zero where exact.
    """

    def __init__(
        self,
        starts: Sequence[Camera],
        spread: np.ndarray | Float[Tensor, "n 3"] | None = None,
        device: torch.device | str = "cpu",
        pivots: np.ndarray | None = None,
    ):
        self._starts = list(starts)
        self._pivots = np.zeros((len(self._starts), 3)) if pivots is None else np.asarray(pivots, np.float64)
        count = len(self._starts)
        table = parameters_of(self._starts)
        spread = torch.full((count, 3), torch.inf) if spread is None else torch.as_tensor(spread)
        # Whether any of them can move.
        self.free = bool((spread > 0).any())
        self._spread = spread.to(device, torch.float64).reshape(count, 3)
        self._free = self._spread > 0
        unrolled = table.clone()
        unrolled[:, 4] = 0.0
        still, straight = cameras_from_parameters(table), cameras_from_parameters(unrolled)
        self._exact = still.float_on(device)
        # (N, 3, 3): a point p about the pivot is seen at p·upright·roll + place.
        self._upright = straight.rotation.to(device)
        self._roll = (straight.rotation.transpose(1, 2) @ still.rotation).to(device)
        pivot = torch.from_numpy(self._pivots)[:, None]
        self._pivot = pivot.to(device)
        self._place = ((pivot @ still.rotation)[:, 0] + still.translation).to(device)
        self._focal, self._offset = still.focal.to(device), still.offset.to(device)
        self._parallel = still.parallel.to(device)
        rise = torch.deg2rad(table[:, 1])
        steep = rise.abs() > _STEEPEST
        self._lowest = torch.where(steep, -torch.inf, -_STEEPEST - rise)[:, None].to(device)
        self._highest = torch.where(steep, torch.inf, _STEEPEST - rise)[:, None].to(device)
        self.change = torch.zeros((count, 3), dtype=torch.float64, device=device)

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def distance_free(self) -> Bool[Tensor, " n"]:
        """Whether each may be nearer or farther."""
        return self._free[:, 2]

    def now(self, change: Float[Tensor, "n 3"] | None = None) -> Cameras:
        """Where they are, float32 on the device and differentiable in `change` (default: the attribute)."""
        turn, rise, farther = self._allowed(self.change if change is None else change).unbind(dim=1)
        rotation = _about_y(turn) @ self._upright @ _about_x(rise) @ self._roll
        translation = self._place * torch.exp(farther)[:, None] - (self._pivot @ rotation)[:, 0]
        parallel = self._parallel * torch.exp(farther)
        moved = Cameras(rotation, translation, self._focal, self._offset, parallel).float_on(self.change.device)
        # To the last bit as given where nothing may move.
        still = ~self._free.any(dim=1)
        return Cameras(
            torch.where(still[:, None, None], self._exact.rotation, moved.rotation),
            torch.where(still[:, None], self._exact.translation, moved.translation),
            moved.focal,
            moved.offset,
            torch.where(still, self._exact.parallel, moved.parallel),
        )

    def cost(self, change: Float[Tensor, "n 3"] | None = None) -> Float[Tensor, " n"]:
        """Σ (change / spread)² of each, float64: −2·ln of a Gaussian's density, up to a constant."""
        change = self._allowed(self.change if change is None else change)
        counted = self._free & self._spread.isfinite()
        return torch.where(counted, change / torch.where(counted, self._spread, 1.0), 0.0).square().sum(dim=1)

    def ends(self) -> list[Camera]:
        """Where they are; an azimuth that may change is in [−180, 180). What may not change is so to the last bit."""
        change = self._allowed(self.change.detach()).cpu()
        return [
            _moved(start, pivot, *numbers) if free else start
            for start, pivot, numbers, free in zip(
                self._starts, self._pivots, change.tolist(), self._free.any(dim=1).tolist(), strict=True
            )
        ]

    def _allowed(self, change: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Without what is exact, and no steeper than a camera can look and still know which way is up."""
        kept = torch.where(self._free, change, 0.0)
        rise = torch.minimum(torch.maximum(kept[:, 1:2], self._lowest), self._highest)
        return torch.cat([kept[:, :1], rise, kept[:, 2:]], dim=1)


def _moved(camera: Camera, pivot: np.ndarray, turn: float, rise: float, farther: float) -> Camera:
    """`camera` after a change of its place about `pivot`."""
    if not (turn or rise or farther):
        return camera
    scale = math.exp(farther)
    azimuth, elevation = camera.azimuth, camera.elevation + math.degrees(rise)
    if turn:
        azimuth = (azimuth + math.degrees(turn) + 180.0) % 360.0 - 180.0
    end = replace(camera, azimuth=azimuth, elevation=elevation, distance=camera.distance * scale)
    aside = np.asarray(camera.target) - pivot
    if not aside.any():
        return end
    # The pivot stays where it was seen: place = −(aside + C)·R, so aside = −place·Rᵀ − C, with C = −(0, 0, d)·Rᵀ.
    about = replace(camera, target=tuple(aside.tolist()))
    old, new = (cameras_from_parameters(parameters_of([c])) for c in (about, replace(end, target=(0.0, 0.0, 0.0))))
    seen = scale * old.translation[0] - new.translation[0]
    return replace(end, target=tuple((pivot - (new.rotation[0] @ seen).numpy()).tolist()))


def _about_y(angle: Float[Tensor, " n"]) -> Float[Tensor, "n 3 3"]:
    """What turns row vectors so that a camera's azimuth grows by `angle`, radians."""
    sin, cos, zero, one = torch.sin(angle), torch.cos(angle), torch.zeros_like(angle), torch.ones_like(angle)
    rows = [cos, zero, sin, zero, one, zero, -sin, zero, cos]
    return torch.stack(rows, dim=-1).reshape(-1, 3, 3)


def _about_x(angle: Float[Tensor, " n"]) -> Float[Tensor, "n 3 3"]:
    """What turns row vectors, seen by a camera, so that its elevation grows by `angle`, radians."""
    sin, cos, zero, one = torch.sin(angle), torch.cos(angle), torch.zeros_like(angle), torch.ones_like(angle)
    rows = [one, zero, zero, zero, cos, -sin, zero, sin, cos]
    return torch.stack(rows, dim=-1).reshape(-1, 3, 3)
