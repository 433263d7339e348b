"""`--method large-steps`: the vertices themselves, optimised in smooth coordinates, with REFINE's losses.

Nicolet, Jacobson and Jakob, "Large Steps in Inverse Rendering of Geometry" (SIGGRAPH Asia 2021): with M = I + λL the
variables are u = M·v and Adam keeps one second moment for all of an instance's coordinates, so that a step moves the
surface smoothly. Before and beside them the shape changes as a whole (`whole_shape`), and λ falls in stages, from the
whole to its details. Meanwhile the silhouette is softened less and less, and is seen at a low resolution first.
Lengths are in shares of the mesh's largest extent: the outcome depends neither on the object's units nor much on its
tessellation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refine_batch.config import RefineConfig
from refine_batch.devices.graphs import Captured
from refine_batch.devices.precision import tensor_float_32
from refine_batch.errors import InstanceError
from refine_batch.losses import (
    LOSSES,
    SymmetryViews,
    depth_loss,
    displacement_loss,
    laplacian_change_loss,
    normal_consistency_loss,
    silhouette_error,
)
from refine_batch.losses.image_symmetry import symmetry_directions
from refine_batch.losses.laplacian import laplacian
from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch, mean_edge_length
from refine_batch.mesh.preconditioner import Preconditioner
from refine_batch.method_options import LargeStepsOptions
from refine_batch.methods.base import MEGABYTE, Costs, MethodOutput, PreparedInstance, costing, usual_vertices
from refine_batch.methods.loop import Iterate, take, with_more
from refine_batch.methods.planes import Planes
from refine_batch.methods.scene import Depths, Scene, lower_size
from refine_batch.methods.trust import ViewTrust
from refine_batch.methods.whole_shape import WholeShape
from refine_batch.render import alpha, load_renderer

DEFAULT_STEPS = 160
# Softness of the silhouette, squared NDC, from which hints count in full.
HEARD = 1e-4


def _instance_bytes(mesh: Mesh, config: RefineConfig) -> float:
    views = 3 if config.large_steps.weights.image_symmetry else 1
    return MEGABYTE + 2.1e3 * usual_vertices(mesh) + 50 * views * config.image_size**2


@costing(Costs(_instance_bytes, cpu_batch=4))
def large_steps(
    instances: Sequence[PreparedInstance], config: RefineConfig, device: torch.device
) -> list[MethodOutput | InstanceError]:
    """Optimise the vertices of each instance for `config.steps` steps, and its cameras as far as they may be wrong."""
    steps = config.steps or DEFAULT_STEPS
    with tensor_float_32(config.tf32, device):
        scene = Scene.of(instances, load_renderer(config.renderer), device)
        return take(Descent(instances, scene, config.large_steps, steps), instances, steps, config.patience)


class Descent:
    """The course of `large-steps`: displacements in smooth coordinates, amounts of the whole shape, cameras."""

    def __init__(self, instances: Sequence[PreparedInstance], scene: Scene, options: LargeStepsOptions, steps: int):
        self.scene, self._options, self._steps = scene, options, steps
        self._whole = WholeShape([i.mesh for i in instances], scene, options.whole_depth)
        self._trust = ViewTrust(scene)
        self._objective = Objective(scene, self._whole, options, self._trust)
        self._stages = [(first, reach) for reach, first, last in stages(options, steps) if first < last]
        self._details: Details | None = None
        # In extents: it is zero at the start, and M·v is linear in it.
        self._displacement = torch.zeros_like(scene.batch.vertices)
        self._amounts = self._whole.none().requires_grad_()
        self._change = scene.cameras.change.clone().requires_grad_()
        self._adam = torch.optim.Adam([self._amounts], lr=options.whole_learning_rate, betas=(0.9, 0.99))
        self._camera_adam = torch.optim.Adam([self._change], lr=options.camera_learning_rate, betas=(0.8, 0.95))
        self._gradients: list[Tensor] = []
        # By image size and symmetry view.
        self._evaluations: dict[tuple[int, int], Captured] = {}

    def iterate(self, step: int) -> Iterate:
        size, sigma = self._objective.resolution(step / self._steps)
        which = step % self._objective.rotation
        if (size, which) not in self._evaluations:
            self._evaluations[size, which] = self._evaluation(size, which)
        device = self.scene.batch.device
        # Losses compare only at one trust in the views.
        softness = torch.full((), sigma, dtype=torch.float64, device=device)
        judge = torch.full((), not self.settled(step), device=device)
        evaluate = self._evaluations[size, which]
        found = evaluate(self._displacement, self._amounts, self._change, softness, judge)
        terms, vertices, confidence, *self._gradients = found
        return Iterate(terms, vertices, confidence, self._change.detach())

    def _evaluation(self, size: int, which: int) -> Captured:
        """The losses and their gradients as one function of the variables and of what the schedule says."""
        moving = self.scene.cameras.free

        def evaluate(displacement: Tensor, amounts: Tensor, change: Tensor, sigma: Tensor, judge: Tensor):
            by, of_whole, moved = (tensor.detach().requires_grad_() for tensor in (displacement, amounts, change))
            terms, vertices, confidence = self._objective(by, of_whole, moved, size, which, sigma, judge)
            gradients = torch.autograd.grad(terms.sum(dim=0).sum(), [by, of_whole, *([moved] if moving else [])])
            return terms.detach(), vertices.detach(), confidence, *gradients

        name = f"a step of large-steps at {size} pixels"
        return Captured(evaluate, name, self.scene.batch.device, state=self._objective.state)

    def advance(self, step: int) -> None:
        if self._stages and step == self._stages[0][0]:
            _, reach = self._stages.pop(0)
            if reach is not None:
                smoothness = (reach / mean_edge_length(self.scene.batch)).square()
                self._details = Details(self._displacement, self.scene.batch, smoothness)
        gradient, self._amounts.grad, *of_cameras = self._gradients
        decay = self._options.learning_rate_decay ** (step / self._steps)
        self._adam.param_groups[0]["lr"] = self._options.whole_learning_rate * decay
        self._adam.step()
        if of_cameras:
            # No step of a camera whose gradient is not finite.
            self._change.grad = of_cameras[0].nan_to_num(0.0, 0.0, 0.0)
            self._camera_adam.param_groups[0]["lr"] = self._options.camera_learning_rate * decay
            self._camera_adam.step()
        if self._details is not None:
            self._displacement = self._details.step(gradient, self._options.learning_rate * decay)

    def settled(self, step: int) -> bool:
        return step + 1 == self._steps or self._options.settled_at(step / self._steps)


def stages(options: LargeStepsOptions, steps: int) -> list[tuple[float | None, int, int]]:
    """(reach, first step, last step, exclusive) of each stage; None is the reach while only the whole shape changes."""
    alone = int(steps * options.whole_share)
    count, rest = len(options.reach), steps - alone
    ends = [alone + rest * i // count for i in range(count + 1)]
    return [(None, 0, alone), *zip(options.reach, ends, ends[1:], strict=False)]


class Details:
    """One stage of the displacements, in its smooth coordinates: from where the stage before it ended."""

    def __init__(self, displacement: Float[Tensor, "b v 3"], batch: MeshBatch, smoothness: Float[Tensor, " b"]):
        self._preconditioner = Preconditioner(batch, smoothness)
        self._optimiser = UniformAdam(displacement)
        self._start, self._smooth = displacement.detach(), torch.zeros_like(displacement)

    def step(self, gradient: Float[Tensor, "b v 3"], learning_rate: float) -> Float[Tensor, "b v 3"]:
        """The displacement one step on."""
        solve = self._preconditioner.solve
        self._smooth = self._smooth - learning_rate * self._optimiser.direction(solve(gradient))
        return self._start + solve(self._smooth)


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
    """The weighted losses as a function of the displacement (in extents), of the amounts by which the whole shape
    changes, of how the cameras have moved, and of how far the run has come."""

    def __init__(self, scene: Scene, whole: WholeShape, options: LargeStepsOptions, trust: ViewTrust):
        self._scene, self._whole, self._options, self._trust = scene, whole, options, trust
        # One pair of mirrored views a step, in rotation; none where they would count for nothing.
        directions = symmetry_directions(options.symmetry_azimuths) if options.weights.image_symmetry else []
        self._views = [scene.symmetry_views([d]) for d in directions] or [scene.symmetry_views([])]
        self._planes = Planes(scene.planes, scene.batch.device)
        self._coarse_laplacian = laplacian(scene.batch.vertices, scene.batch)
        full = scene.mask.shape[-1]
        # By size; no step works them out again.
        self._pictures = {
            s: (self._mask_at(s), scene.known_at(s)) for s in {full, lower_size(full, options.coarse_size)}
        }
        weights = [getattr(options.weights, name) for name in LOSSES]
        self._weights = torch.tensor(weights, device=scene.batch.device)[:, None]
        # What a call changes in place.
        self.state = [trust.now, self._planes.normal, self._planes.offset]
        # How many symmetry views there are, one a step.
        self.rotation = len(self._views)

    def __call__(
        self,
        displacement: Float[Tensor, "b v 3"],
        amounts: Float[Tensor, "b k"],
        change: Float[Tensor, "n 3"],
        size: int,
        which: int,
        sigma: Float[Tensor, ""],
        judge: Bool[Tensor, ""],
    ) -> tuple[Float[Tensor, "losses b"], Float[Tensor, "b v 3"], Float[Tensor, "b v"]]:
        """The losses there, the vertices and the confidence.

        `size` is the pictures', `which` the number of the symmetry view, `sigma` the silhouette's softness, and `judge`
        whether the trust in each view may change. Nothing here waits for the device or depends on values.

        The confidence is in closed form: of b·ln(1/s) + s·d² the minimum over s in (0, 1] is at min(1, b/d²).
        """
        scene, options, batch = self._scene, self._options, self._scene.batch
        vertices = batch.vertices + displacement + self._whole.displacement(amounts)
        views = self._views[which]
        cameras = scene.cameras.now(change)
        depth = scene.render(vertices, views, size, sigma, cameras)
        error = silhouette_error(depth.front, *self._pictures[size])
        self._trust.update(error, judge)
        # A soft silhouette is wider than its mesh, which shrinks to fit, and hints that know no scale draw the camera
        # after it: they are heard as the softness goes.
        heard = (HEARD / sigma).clamp_max(1.0)
        hints = [heard * loss for loss in scene.hint_losses(vertices, cameras, self._trust.now)]
        squared, partner = self._planes.squared(vertices, batch)
        confidence = (options.symmetry_bias / squared.detach().clamp_min(1e-20)).clamp_max(1.0)
        self._planes.follow(vertices, partner, confidence, batch)
        none = torch.zeros_like(scene.trust)
        grown = self._whole.grown(vertices)
        terms = torch.stack(
            [
                scene.per_instance(error, self._trust.now),
                displacement_loss(displacement, batch),
                laplacian_change_loss(vertices, self._coarse_laplacian, batch),
                normal_consistency_loss(vertices, batch) if options.weights.normal_consistency else none,
                self._asymmetry(confidence * squared, grown) * scene.trust,
                self._image_symmetry(vertices, confidence, depth, views, size),
                scene.camera_cost(change),
                *hints,
            ]
        )
        weights = options.weights
        along_ray = weights.along_ray * depth_loss(displacement, scene.ray, batch, scene.hidden)
        more = along_ray + self._whole.cost(amounts, grown, weights)
        return with_more(terms * self._weights, "displacement", more), vertices, confidence

    def _asymmetry(self, squared: Float[Tensor, "b v"], grown: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The mean squared distance from the mirror image, by how much the squared size has grown. What is smaller is
        no more its own mirror image: where the camera may come as much nearer, or a hint bears out any size, the shape
        would shrink."""
        return (self._scene.batch.vertex_mean(squared.double()) / grown).to(squared.dtype)

    def _mask_at(self, size: int) -> Float[Tensor, "n h h"]:
        """The masks as covered shares, and at the full size as what is covered by half or more: there a silhouette is
        far sharper than a pixel, and a share would be met by an edge through the pixel's very centre alone."""
        mask = self._scene.mask_at(size)
        return mask if size < self._scene.mask.shape[-1] else (mask >= 0.5).to(mask.dtype)

    def resolution(self, progress: float) -> tuple[int, float]:
        """Image size and softness after this share of the steps."""
        options, full = self._options, self._scene.mask.shape[-1]
        size = full if progress >= options.coarse_share else lower_size(full, options.coarse_size)
        return size, options.sigma_at(progress)

    def _image_symmetry(
        self, vertices: Tensor, confidence: Tensor, depth: Depths, views: SymmetryViews, size: int
    ) -> Float[Tensor, " b"]:
        none = torch.zeros(len(self._scene.batch), device=vertices.device)
        if not len(views.mesh_of_view):
            return none
        shown, on_object = self._scene.confidence_seen(vertices, confidence, views, size)
        difference = (alpha(depth.straight).flip(-1) - alpha(depth.mirrored)).square()
        per_view = torch.where(on_object, difference * shown, 0.0).mean(dim=(1, 2))
        return none.index_add(0, views.mesh_of_view.long(), per_view) * self._scene.trust
