"""`--method refine`: the paper's method, a small network trained per instance (Leung et al., CVPRW 2022).

Beside the network the shape changes as a whole (`whole_shape`), which the paper does not have: a network that starts at
nothing would take long to learn a stretch or a shift of all vertices. One optimisation loop serves a batch; nothing in
it waits for the device, so that a GPU is never idle between steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from refine_batch.cameras.camera import project, stack_cameras
from refine_batch.config import RefineConfig
from refine_batch.devices.graphs import Captured
from refine_batch.devices.precision import tensor_float_32
from refine_batch.errors import InstanceError
from refine_batch.losses import (
    LOSSES,
    SymmetryViews,
    area_share,
    depth_loss,
    displacement_loss,
    excess_bend_loss,
    image_symmetry_loss,
    laplacian_change_loss,
    laplacian_loss,
    normal_consistency_loss,
    silhouette_loss,
    symmetry_directions,
    vertex_symmetry_loss,
)
from refine_batch.losses.laplacian import laplacian
from refine_batch.losses.normal_consistency import bends
from refine_batch.mesh import Mesh
from refine_batch.method_options import PaperOptions
from refine_batch.methods.base import MEGABYTE, Costs, MethodOutput, PreparedInstance, costing, usual_vertices
from refine_batch.methods.loop import Iterate, take, with_more
from refine_batch.methods.scene import Depths, Scene
from refine_batch.methods.whole_shape import WholeShape
from refine_batch.networks import Sampler, initial_parameters, refine_vertices, stack_parameters
from refine_batch.networks.weights import load_encoder
from refine_batch.render import load_renderer
from refine_batch.seeding import instance_seed

DEFAULT_STEPS = 400


def _instance_bytes(mesh: Mesh, config: RefineConfig) -> float:
    options = _options(config)
    views = 1 + (4 * options.symmetry_views if options.weights.image_symmetry else 0)
    # With the first layer's patches, which a GPU makes: 147 numbers to a pixel of a quarter as many.
    return 12 * MEGABYTE + 25e3 * usual_vertices(mesh) + (650 + 60 * views) * config.image_size**2


@costing(Costs(_instance_bytes))
def refine(
    instances: Sequence[PreparedInstance], config: RefineConfig, device: torch.device
) -> list[MethodOutput | InstanceError]:
    """Train one network per instance for `config.steps` steps; each returns its iterate of lowest total loss."""
    if device.type == "cpu":
        # As fast as any batch, and exact: of two batches, rounding differs, and the first twenty steps of training
        # amplify it a millionfold.
        return [outcome for instance in instances for outcome in train([instance], config, device)]
    with tensor_float_32(config.tf32, device):
        return train(instances, config, device)


def train(
    instances: Sequence[PreparedInstance], config: RefineConfig, device: torch.device
) -> list[MethodOutput | InstanceError]:
    """The instances' networks as one stack."""
    steps = config.steps or DEFAULT_STEPS
    scene = Scene.of(instances, load_renderer(config.renderer), device)
    return take(
        Training(instances, scene, config, steps), instances, steps, None if config.paper_exact else config.patience
    )


def _options(config: RefineConfig) -> PaperOptions:
    return config.paper.exact() if config.paper_exact else config.paper


class Training:
    """The course of `refine`: the parameters of one network per instance, and the cameras."""

    def __init__(self, instances: Sequence[PreparedInstance], scene: Scene, config: RefineConfig, steps: int):
        self._options = _options(config)
        self.scene, self._steps = scene, steps
        whole = WholeShape([i.mesh for i in instances], scene, self._options.whole_depth)
        self._objective = Objective.of(scene, whole, self._options)
        encoder = load_encoder(config.encoder_weights)
        zero_start, device = self._options.zero_start, scene.batch.device
        self._parameters = stack_parameters(
            [
                initial_parameters(instance_seed(config.seed, i.instance_id, "network"), zero_start, encoder)
                for i in instances
            ],
            device,
        )
        self._amounts = whole.none().requires_grad_()
        self._change = scene.cameras.change.clone().requires_grad_()
        self._adam = torch.optim.Adam(self._parameters.values(), lr=self._options.learning_rate, fused=True)
        self._whole_adam = torch.optim.Adam([self._amounts], lr=self._options.whole_learning_rate, betas=(0.9, 0.99))
        self._camera_adam = torch.optim.Adam([self._change], lr=self._options.camera_learning_rate, betas=(0.8, 0.95))
        self._image = torch.from_numpy(np.stack([i.image for i in instances])).permute(0, 3, 1, 2).to(device)
        first = stack_cameras([i.camera for i in instances], device)
        self._sampler = Sampler(project(scene.batch.vertices, first)[..., :2])

        self._gradients: list[Tensor] = []
        self._evaluate = Captured(self._evaluation, "a step of refine", device)

    def iterate(self, step: int) -> Iterate:
        sigma = self._options.sigma_at((step + 1) / self._steps)[0]
        softness = torch.full((), sigma, dtype=torch.float64, device=self.scene.batch.device)
        terms, vertices, confidence, *self._gradients = self._evaluate(self._amounts, self._change, softness)
        return Iterate(terms, vertices, confidence, self._change.detach())

    def _evaluation(
        self, amounts: Float[Tensor, "b k"], change: Float[Tensor, "n 3"], sigma: Float[Tensor, ""]
    ) -> tuple[Tensor, ...]:
        """The losses and their gradients, the networks' parameters read where they lie."""
        amounts, change = (tensor.detach().requires_grad_() for tensor in (amounts, change))
        displacement, confidence = refine_vertices(self._parameters, self._image, self.scene.batch, self._sampler)
        terms, vertices = self._objective(displacement, amounts, confidence, change, sigma)
        variables = [*self._parameters.values(), amounts, *([change] if self.scene.cameras.free else [])]
        gradients = torch.autograd.grad(terms.sum(dim=0).sum(), variables)
        laid_out = [_laid_out_like(v, gradient) for v, gradient in zip(variables, gradients, strict=True)]
        return terms.detach(), vertices.detach(), confidence.detach(), *laid_out

    def advance(self, step: int) -> None:
        for variable, gradient in zip([*self._parameters.values(), self._amounts], self._gradients, strict=False):
            variable.grad = gradient
        self._adam.step()
        decay = self._options.whole_learning_rate_decay ** (step / self._steps)
        self._whole_adam.param_groups[0]["lr"] = self._options.whole_learning_rate * decay
        self._whole_adam.step()
        if self.scene.cameras.free:
            self._change.grad = self._gradients[-1].nan_to_num(0.0, 0.0, 0.0)
            self._camera_adam.step()

    def settled(self, step: int) -> bool:
        # The last step always is, so that a run of any length has an iterate to return.
        return self._options.settled_at((step + 1) / self._steps)


def _laid_out_like(variable: Tensor, gradient: Tensor) -> Tensor:
    """As an optimiser wants it that goes through the memory of both."""
    if gradient.stride() == variable.stride():
        return gradient
    return torch.empty_like(variable, requires_grad=False).copy_(gradient)


@dataclass(frozen=True, eq=False)
class Objective:
    """The weighted losses of a batch, as one function of the network's displacement, of the amounts by which the whole
    shape changes, of the confidence and of the cameras' changes."""

    scene: Scene
    whole: WholeShape
    views: SymmetryViews
    weights: Float[Tensor, "losses 1"]
    coarse_laplacian: Float[Tensor, "b v 3"]
    coarse_bends: Float[Tensor, "b p"]
    share: Float[Tensor, "b v"] | None
    options: PaperOptions

    @classmethod
    def of(cls, scene: Scene, whole: WholeShape, options: PaperOptions) -> Objective:
        weights = [getattr(options.weights, name) for name in LOSSES]
        directions = symmetry_directions(options.symmetry_views) if options.weights.image_symmetry else []
        return cls(
            scene=scene,
            whole=whole,
            views=scene.symmetry_views(directions),
            weights=torch.tensor(weights, device=scene.batch.device)[:, None],
            coarse_laplacian=laplacian(scene.batch.vertices, scene.batch),
            coarse_bends=bends(scene.batch.vertices, scene.batch),
            share=area_share(scene.batch.vertices, scene.batch) if options.by_area else None,
            options=options,
        )

    def __call__(
        self,
        displacement: Float[Tensor, "b v 3"],
        amounts: Float[Tensor, "b k"],
        confidence: Float[Tensor, "b v"],
        change: Float[Tensor, "n 3"],
        sigma: Float[Tensor, ""],
    ) -> tuple[Float[Tensor, "losses b"], Float[Tensor, "b v 3"]]:
        """The losses and the vertices, at a softness of the silhouettes."""
        scene, options, batch = self.scene, self.options, self.scene.batch
        size = scene.mask.shape[-1]
        vertices = batch.vertices + displacement + self.whole.displacement(amounts)
        depth = scene.render(vertices, self.views, size, sigma, scene.cameras.now(change))
        laplacian_term, bend_term = self._smoothness(vertices)
        bias = options.symmetry_bias
        share = self.share
        hidden = scene.hidden if share is None else scene.hidden * share
        along_ray = depth_loss(displacement, scene.ray, batch, hidden)
        terms = [
            scene.per_instance(silhouette_loss(depth.front, scene.mask, options.log_space, scene.known)),
            displacement_loss(displacement, batch, share) + options.depth * along_ray,
            laplacian_term,
            bend_term,
            vertex_symmetry_loss(vertices, confidence, scene.normal, batch, bias, scene.offset) * scene.trust,
            self._image_symmetry(vertices, confidence, depth) * scene.trust,
            scene.camera_cost(change),
            torch.zeros_like(scene.trust),
            torch.zeros_like(scene.trust),
        ]
        more = self.whole.cost(amounts, self.whole.grown(vertices), options.weights)
        return with_more(torch.stack(terms) * self.weights, "displacement", more), vertices

    def _image_symmetry(
        self, vertices: Float[Tensor, "b v 3"], confidence: Float[Tensor, "b v"], depth: Depths
    ) -> Float[Tensor, " b"]:
        if not len(self.views.mesh_of_view):
            return torch.zeros_like(self.scene.trust)
        shown, on_object = self.scene.confidence_seen(vertices, confidence, self.views, depth.straight.shape[-1])
        bias, count = self.options.symmetry_bias, len(self.scene.batch)
        return image_symmetry_loss(depth.straight, depth.mirrored, shown, on_object, self.views, count, bias)

    def _smoothness(self, vertices: Float[Tensor, "b v 3"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """The Laplacian and the normal consistency loss."""
        batch = self.scene.batch
        if self.options.relative_smoothness:
            return (
                laplacian_change_loss(vertices, self.coarse_laplacian, batch),
                excess_bend_loss(vertices, self.coarse_bends, batch),
            )
        return laplacian_loss(vertices, batch), normal_consistency_loss(vertices, batch)
