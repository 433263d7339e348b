"""Cameras fitted to meshes as they are: what a camera alone explains of the disagreement with the picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refine_batch.config import RefineConfig
from refine_batch.devices.graphs import Captured
from refine_batch.errors import InstanceError
from refine_batch.losses import LOSSES, silhouette_error
from refine_batch.method_options import LargeStepsOptions
from refine_batch.methods.base import MethodOutput, PreparedInstance
from refine_batch.methods.loop import Iterate, take
from refine_batch.methods.scene import Scene, lower_size
from refine_batch.render import load_renderer

STEPS = 40
# Softness of the silhouette from start to end, squared NDC, and from which share of the steps on it is final.
SIGMA = (1e-3, 2e-5)
SETTLED = 0.75
LEARNING_RATE = (0.03, 0.003)
# Of the pictures' side; an outline is placed far better than to a pixel.
SIZE = 0.5


def fit_cameras(
    instances: Sequence[PreparedInstance], config: RefineConfig, device: torch.device
) -> list[MethodOutput | InstanceError]:
    """Move each instance's cameras, as far as they may be wrong, and nothing of its mesh, until the masks are met."""
    scene = Scene.of(instances, load_renderer(config.renderer), device)
    return take(CameraFit(scene, config.large_steps), instances, STEPS, None)


class CameraFit:
    """The course of cameras alone: the silhouettes' squared error and what the cameras' changes cost."""

    def __init__(self, scene: Scene, options: LargeStepsOptions):
        self.scene, self._weights = scene, options.weights
        self._size = lower_size(scene.mask.shape[-1], SIZE)
        self._picture = scene.mask_at(self._size), scene.known_at(self._size)
        self._change = scene.cameras.change.clone().requires_grad_()
        self._adam = torch.optim.Adam([self._change], betas=(0.8, 0.95))
        self._none = scene.symmetry_views([])
        self._trusted = torch.ones(scene.batch.vertex_mask.shape, device=scene.batch.device)
        self._gradient: Tensor | None = None
        self._evaluate = Captured(self._evaluation, "a step of cameras alone", scene.batch.device)

    def iterate(self, step: int) -> Iterate:
        sigma = SIGMA[0] * (SIGMA[1] / SIGMA[0]) ** min(1.0, step / (SETTLED * STEPS))
        softness = torch.full((), sigma, dtype=torch.float64, device=self.scene.batch.device)
        terms, self._gradient = self._evaluate(self._change, softness)
        return Iterate(terms, self.scene.batch.vertices, self._trusted, self._change.detach())

    def _evaluation(self, change: Float[Tensor, "n 3"], sigma: Float[Tensor, ""]) -> tuple[Tensor, ...]:
        """The losses and their gradient."""
        scene, size, change = self.scene, self._size, change.detach().requires_grad_()
        depth = scene.render(scene.batch.vertices, self._none, size, sigma, scene.cameras.now(change))
        error = scene.per_instance(silhouette_error(depth.front, *self._picture))
        terms = torch.zeros((len(LOSSES), len(scene.batch)), device=error.device)
        terms[LOSSES.index("silhouette")] = self._weights.silhouette * error
        terms[LOSSES.index("camera")] = self._weights.camera * scene.camera_cost(change)
        [gradient] = torch.autograd.grad(terms.sum(dim=0).sum(), [change])
        return terms.detach(), gradient

    def advance(self, step: int) -> None:
        assert self._gradient is not None
        # No step of a camera whose gradient is not finite.
        self._change.grad = self._gradient.nan_to_num(0.0, 0.0, 0.0)
        first, last = LEARNING_RATE
        self._adam.param_groups[0]["lr"] = first * (last / first) ** (step / STEPS)
        self._adam.step()

    def settled(self, step: int) -> bool:
        return step >= SETTLED * STEPS
