"""Cameras as variables: azimuth, elevation and distance that an optimiser moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from refine_batch.cameras.camera import Camera, Cameras, cameras_from_parameters, parameters_of

# Of the numbers of a camera those that move: azimuth, elevation (radians) and the logarithm of the distance.
MOVED = ("azimuth", "elevation", "distance")
_STEEPEST = 89.0


class MovingCameras:
    """N cameras, each moved by gradient descent (Adam) on its own.

    Parameters
    ----------
    starts
        Where they begin; their numbers not in `moved` stay.
    moved
        Which of azimuth, elevation and distance may change.

    Attributes
    ----------
    change : (N, 3) float64
        What has been added to azimuth and elevation (radians) and to the logarithm of the distance: the variable.
    """

    def __init__(self, starts: Sequence[Camera], moved: Sequence[str] = MOVED, device: torch.device | str = "cpu"):
        self._starts, self._moved, self._device = list(starts), tuple(moved), device
        self._table = parameters_of(self._starts)
        self._free = torch.tensor([name in moved for name in MOVED])
        self.change = torch.zeros(len(self._starts), len(MOVED), dtype=torch.float64, requires_grad=True)
        self._optimiser = torch.optim.Adam([self.change], betas=(0.8, 0.95))

    def now(self) -> Cameras:
        """Where they are, float32 on the device and differentiable in `change`."""
        return cameras_from_parameters(self._parameters()).float_on(self._device)

    def step(self, gradient: Float[Tensor, "n 3"], learning_rate: float) -> None:
        """One step against the gradient with respect to `change`; no step of a camera whose gradient is not finite."""
        self.change.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
        self._optimiser.param_groups[0]["lr"] = learning_rate
        self._optimiser.step()

    def ends(self) -> list[Camera]:
        """Where they are; an azimuth that may change is in [-180, 180)."""
        rows = self._parameters().detach()[:, :3].tolist()
        found = []
        for start, (azimuth, elevation, distance) in zip(self._starts, rows, strict=True):
            end = {"azimuth": (azimuth + 180.0) % 360.0 - 180.0, "elevation": elevation, "distance": distance}
            found.append(replace(start, **{name: end[name] for name in self._moved}))
        return found

    def _parameters(self) -> Float[Tensor, "n 10"]:
        start = self._table[:, :3]
        azimuth, elevation, distance = start.unbind(dim=1)
        turn, rise, farther = self.change.unbind(dim=1)
        moved = torch.stack(
            [
                azimuth + torch.rad2deg(turn),
                (elevation + torch.rad2deg(rise)).clamp(-_STEEPEST, _STEEPEST),
                distance * torch.exp(farther),
            ],
            dim=1,
        )
        return torch.cat([torch.where(self._free, moved, start), self._table[:, 3:]], dim=1)
