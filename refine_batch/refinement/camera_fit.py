"""Cameras fitted to a mask by gradient descent through the soft silhouette, many starts of one mesh at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refine_batch.cameras.camera import Camera, project
from refine_batch.cameras.moving import MovingCameras
from refine_batch.mesh import Mesh
from refine_batch.render import alpha
from refine_batch.render.hard import hard_silhouettes
from refine_batch.render.silhouette import warp_renderer

_SIGMA = (1e-3, 5e-5)
_RATE = (0.03, 0.003)
# The last part of a fit, at the mask's own size: a soft silhouette is wider than the mesh, by more the softer it is.
_FINE_SIGMA = (5e-5, 1e-5)
_FINE_RATE = (0.004, 0.0005)


@dataclass(frozen=True)
class Fitted:
    """A camera and the 2D IoU of the mesh's hard silhouette from it with the mask, at the mask's size."""

    camera: Camera
    iou: float


def fit_cameras(
    mesh: Mesh,
    mask: np.ndarray,
    starts: Sequence[Camera],
    *,
    steps: int = 30,
    fine_steps: int = 12,
    keep: int = 2,
    device: torch.device | str = "cpu",
) -> list[Fitted]:
    """Fit starting cameras, each on its own, at half the mask's size, and the best of them on at its full size.

    What is descended is 1 − the soft IoU of silhouette and mask.

    Parameters
    ----------
    mask : (H, H) bool
        True on the object.
    starts
        Cameras to begin with, also candidates themselves.
    keep
        How many of the fits are fitted on.

    Returns
    -------
    list of Fitted
        Best first: every start, every fit.
    """
    descent = _Descent(mesh, mask, device)
    rough = descent(starts, max(32, mask.shape[0] // 2), steps, _SIGMA, _RATE)
    found = [*starts, *rough]
    scores = ious(mesh, mask, found, device)
    best = [found[i] for i in np.argsort(-scores, kind="stable")[:keep]]
    fine = descent(best, mask.shape[0], fine_steps, _FINE_SIGMA, _FINE_RATE)
    fitted = [Fitted(camera, float(score)) for camera, score in zip(found, scores, strict=True)]
    fitted += [Fitted(c, float(score)) for c, score in zip(fine, ious(mesh, mask, fine, device), strict=True)]
    return sorted(fitted, key=lambda f: -f.iou)


class _Descent:
    """Gradient descent (Adam) in azimuth, elevation and the logarithm of the distance."""

    def __init__(self, mesh: Mesh, mask: np.ndarray, device: torch.device | str):
        self._mask, self._device = mask, device
        self._vertices = torch.tensor(mesh.vertices, device=device)
        self._faces = torch.tensor(mesh.faces, device=device)[None]
        self._count = torch.tensor([len(mesh.faces)], dtype=torch.int32, device=device)

    def __call__(
        self,
        starts: Sequence[Camera],
        image_size: int,
        steps: int,
        sigma: tuple[float, float],
        rate: tuple[float, float],
    ) -> list[Camera]:
        moving = MovingCameras(starts, device=self._device)
        change = moving.change.clone().requires_grad_()
        adam = torch.optim.Adam([change], betas=(0.8, 0.95))
        target = reduced(self._mask, image_size).to(self._device)
        view = torch.zeros(len(starts), dtype=torch.int32, device=self._device)
        for step in range(steps):
            share = step / max(1, steps - 1)
            points = project(self._vertices.expand(len(starts), -1, -1), moving.now(change))
            depth = warp_renderer(points, self._faces, self._count, view, image_size, _between(sigma, share))
            loss = _one_minus_iou(alpha(depth), target).sum()
            [gradient] = torch.autograd.grad(loss, [change])
            # No step of a camera whose gradient is not finite.
            change.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
            adam.param_groups[0]["lr"] = _between(rate, share)
            adam.step()
        moving.change = change.detach()
        return moving.ends()


def ious(mesh: Mesh, mask: np.ndarray, cameras: Sequence[Camera], device: torch.device | str = "cpu") -> np.ndarray:
    """(N,) float64 2D IoU of the mesh's hard silhouettes from N cameras with the mask."""
    return ious_of(hard_silhouettes(mesh, cameras, mask.shape[0], device), mask)


def ious_of(seen: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(N,) float64 2D IoU of (N, H, H) bool silhouettes with the mask."""
    union = (seen | mask).sum(axis=(1, 2))
    return (seen & mask).sum(axis=(1, 2)) / np.maximum(union, 1)


def reduced(mask: np.ndarray, size: int) -> Float[Tensor, "h h"]:
    """Covered shares of the mask's pixels at another size."""
    plane = torch.from_numpy(mask.astype(np.float32))[None, None]
    return F.interpolate(plane, (size, size), mode="area")[0, 0]


def _one_minus_iou(silhouette: Float[Tensor, "n h h"], mask: Float[Tensor, "h h"]) -> Float[Tensor, " n"]:
    both = (silhouette * mask).sum(dim=(1, 2))
    return 1.0 - both / (silhouette.sum(dim=(1, 2)) + mask.sum() - both)


def _between(ends: tuple[float, float], share: float) -> float:
    """From one to the other at a constant ratio."""
    return ends[0] * math.exp(share * math.log(ends[1] / ends[0]))
