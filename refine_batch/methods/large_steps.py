"""`--method large-steps`: the vertices themselves, optimised in smooth coordinates, with REFINE's losses.

Nicolet, Jacobson and Jakob, "Large Steps in Inverse Rendering of Geometry" (SIGGRAPH Asia 2021): with M = I + λL the
variables are u = M·v and Adam keeps one second moment for all of an instance's coordinates, so that a step moves the
surface smoothly and as a whole. The silhouette is softened less and less and seen at a low resolution first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refine_batch.config import LargeStepsOptions, RefineConfig
from refine_batch.errors import InstanceError
from refine_batch.losses import LOSSES, displacement_loss, normal_consistency_loss
from refine_batch.losses.image_symmetry import symmetry_directions
from refine_batch.losses.laplacian import laplacian, safe_norm
from refine_batch.losses.vertex_symmetry import symmetric_distance
from refine_batch.mesh.preconditioner import Preconditioner
from refine_batch.methods.base import MethodOutput, PreparedInstance
from refine_batch.methods.outcome import outcomes
from refine_batch.methods.scene import Scene
from refine_batch.render import alpha, load_renderer

DEFAULT_STEPS = 160


def large_steps(
    instances: Sequence[PreparedInstance], config: RefineConfig, device: torch.device
) -> list[MethodOutput | InstanceError]:
    """Optimise the vertices of each instance for `config.steps` steps and return the last iterate."""
    options = config.large_steps
    scene = Scene.of(instances, load_renderer(config.renderer), device)
    objective = Objective(scene, options)
    preconditioner = Preconditioner(scene.batch, options.smoothness)
    optimiser = UniformAdam(scene.batch.vertices)
    steps = config.steps or DEFAULT_STEPS
    # The displacement is the variable: it is zero at the start, and M·v is linear in it.
    smooth = torch.zeros_like(scene.batch.vertices)
    displacement = torch.zeros_like(smooth)
    curve = torch.empty((steps, len(instances)), device=device)
    for step in range(steps):
        displacement.requires_grad_()
        terms, confidence = objective(displacement, step, steps)
        curve[step] = terms.detach().sum(dim=0)
        (gradient,) = torch.autograd.grad(terms.sum(), displacement)
        rate = options.learning_rate * options.learning_rate_decay ** (step / steps)
        smooth = smooth - rate * optimiser.direction(preconditioner.solve(gradient))
        displacement = preconditioner.solve(smooth)
    with torch.no_grad():
        terms, confidence = objective(displacement, steps, steps)
    return outcomes(instances, LOSSES, scene.batch.vertices + displacement, confidence, terms, curve)


class UniformAdam:
    """Adam (Kingma and Ba, 2015) with one second moment per instance: the largest of its coordinates'."""

    def __init__(self, like: Float[Tensor, "b v 3"], beta1: float = 0.9, beta2: float = 0.999):
        self._beta1, self._beta2 = beta1, beta2
        self._first = torch.zeros_like(like)
        self._second = torch.zeros_like(like)
        self._step = 0

    def direction(self, gradient: Float[Tensor, "b v 3"]) -> Float[Tensor, "b v 3"]:
        """The step to take for this gradient, at a learning rate of 1."""
        self._step += 1
        self._first = self._beta1 * self._first + (1 - self._beta1) * gradient
        self._second = self._beta2 * self._second + (1 - self._beta2) * gradient.square()
        first = self._first / (1 - self._beta1**self._step)
        second = self._second / (1 - self._beta2**self._step)
        return first / (second.amax(dim=(1, 2), keepdim=True).sqrt() + 1e-8)


class Objective:
    """The weighted losses as a function of the displacement and of how far the run has come."""

    def __init__(self, scene: Scene, options: LargeStepsOptions):
        self._scene, self._options = scene, options
        # One pair of mirrored views a step, in rotation.
        self._views = [scene.symmetry_views([d]) for d in symmetry_directions(options.symmetry_azimuths)]
        self._coarse_laplacian = laplacian(scene.batch.vertices, scene.batch)
        weights = [getattr(options.weights, name) for name in LOSSES]
        self._weights = torch.tensor(weights, device=scene.batch.device)[:, None]

    def __call__(
        self, displacement: Float[Tensor, "b v 3"], step: int, steps: int
    ) -> tuple[Float[Tensor, "losses b"], Float[Tensor, "b v"]]:
        """The losses in the order of `LOSSES`, and the symmetry confidence."""
        scene, options, batch = self._scene, self._options, self._scene.batch
        progress = step / steps
        full = scene.mask.shape[-1]
        size = full if progress >= options.coarse_share else max(16, int(full * options.coarse_size))
        annealed = 1.0 if progress >= options.coarse_share else progress / options.coarse_share
        sigma = options.sigma_start * (options.sigma_end / options.sigma_start) ** annealed
        vertices = batch.vertices + displacement
        views = self._views[step % len(self._views)]
        depth = scene.render(vertices, views, size, sigma)
        squared = symmetric_distance(vertices, scene.normal, batch)
        confidence = (options.symmetry_bias / squared.detach().clamp_min(1e-20)).clamp_max(1.0)
        shown, on_object = scene.confidence_seen(vertices, confidence, views, size)
        difference = (alpha(depth.straight).flip(-1) - alpha(depth.mirrored)).square()
        mirrored = torch.where(on_object, difference * shown, 0.0).mean(dim=(1, 2))
        image_symmetry = torch.zeros(len(batch), device=vertices.device).index_add(
            0, views.mesh_of_view.long(), mirrored
        )
        robust = batch.vertex_mean(confidence * squared) * (scene.normal != 0).any(dim=1)
        change = batch.vertex_mean(safe_norm(laplacian(vertices, batch) - self._coarse_laplacian))
        terms = [
            (alpha(depth.front) - scene.mask_at(size)).square().mean(dim=(1, 2)),
            displacement_loss(displacement, batch),
            change,
            normal_consistency_loss(vertices, batch),
            robust,
            image_symmetry,
        ]
        return torch.stack(terms) * self._weights, confidence
