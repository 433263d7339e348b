"""`--method refine`: the paper's method, a small network trained per instance (Leung et al., CVPRW 2022).

One optimisation loop serves a batch; nothing in it waits for the device, so that a GPU is never idle between steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from refine_batch.cameras.camera import project
from refine_batch.config import PaperOptions, RefineConfig
from refine_batch.devices.precision import tensor_float_32
from refine_batch.errors import InstanceError
from refine_batch.losses import (
    LOSSES,
    SymmetryViews,
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
from refine_batch.mesh.batch import MeshBatch
from refine_batch.methods.base import MethodOutput, PreparedInstance
from refine_batch.methods.outcome import outcomes
from refine_batch.methods.patience import Patience
from refine_batch.methods.scene import Scene, lower_size
from refine_batch.networks import Sampler, initial_parameters, refine_vertices, stack_parameters
from refine_batch.networks.weights import load_encoder
from refine_batch.render import load_renderer
from refine_batch.seeding import instance_seed

DEFAULT_STEPS = 400


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
    options = config.paper.exact() if config.paper_exact else config.paper
    scene = Scene.of(instances, load_renderer(config.renderer), device)
    objective = Objective.of(scene, options)
    encoder = load_encoder(config.encoder_weights)
    parameters = stack_parameters(
        [
            initial_parameters(instance_seed(config.seed, i.instance_id, "network"), options.zero_start, encoder)
            for i in instances
        ],
        device,
    )
    optimiser = torch.optim.Adam(parameters.values(), lr=options.learning_rate, fused=True)
    image = torch.from_numpy(np.stack([i.image for i in instances])).permute(0, 3, 1, 2).to(device)
    sampler = Sampler(project(scene.batch.vertices, scene.cameras)[..., :2])
    steps = config.steps or DEFAULT_STEPS
    best = Best.start(scene.batch)
    patience = Patience(None if config.paper_exact else config.patience, len(instances), steps, device)
    curve = torch.empty((steps, len(instances)), device=device)
    for step in range(steps):
        displacement, confidence = refine_vertices(parameters, image, scene.batch, sampler)
        vertices = scene.batch.vertices + displacement
        # The last step is always settled, so that a run of any length has an iterate to return.
        progress = (step + 1) / steps
        settled = options.settled_at(progress)
        terms = objective(vertices, displacement, confidence, step, progress)
        total = terms.sum(dim=0)
        curve[step] = total.detach()
        if settled:
            best.update(total.detach(), terms.detach(), vertices.detach(), confidence.detach(), patience.running)
            patience.watch(step, total.detach())
            if patience.over(step):
                break
        optimiser.zero_grad(set_to_none=True)
        total.sum().backward()
        optimiser.step()
    return outcomes(instances, LOSSES, best.vertices, best.confidence, best.terms, curve, patience.taken)


@dataclass(frozen=True, eq=False)
class Objective:
    """The six weighted losses of a batch, as one function of the vertices."""

    scene: Scene
    views: SymmetryViews
    pairs: list[SymmetryViews]
    weights: Float[Tensor, "losses 1"]
    coarse_laplacian: Float[Tensor, "b v 3"]
    coarse_bends: Float[Tensor, "b p"]
    options: PaperOptions

    @classmethod
    def of(cls, scene: Scene, options: PaperOptions) -> Objective:
        weights = [getattr(options.weights, name) for name in LOSSES]
        directions = symmetry_directions(options.symmetry_views)
        return cls(
            scene=scene,
            views=scene.symmetry_views(directions),
            pairs=[scene.symmetry_views([d]) for d in directions] if options.rotate_views else [],
            weights=torch.tensor(weights, device=scene.batch.device)[:, None],
            coarse_laplacian=laplacian(scene.batch.vertices, scene.batch),
            coarse_bends=bends(scene.batch.vertices, scene.batch),
            options=options,
        )

    def __call__(
        self,
        vertices: Float[Tensor, "b v 3"],
        displacement: Float[Tensor, "b v 3"],
        confidence: Float[Tensor, "b v"],
        step: int,
        progress: float,
    ) -> Float[Tensor, "losses b"]:
        """The weighted losses in the order of `LOSSES`, one column per instance, at a step and share of the steps."""
        scene, options, batch = self.scene, self.options, self.scene.batch
        size, sigma = scene.mask.shape[-1], options.sigma_at(progress)[0]
        if options.coarse_at(progress):
            size = lower_size(size, options.coarse_size)
        views = self.views
        if self.pairs and not options.settled_at(progress):
            views = self.pairs[step % len(self.pairs)]
        depth = scene.render(vertices, views, size, sigma)
        shown, on_object = scene.confidence_seen(vertices, confidence, views, size)
        laplacian_term, bend_term = self._smoothness(vertices)
        terms = [
            silhouette_loss(depth.front, scene.mask_at(size), options.log_space),
            displacement_loss(displacement, batch) + options.depth * depth_loss(displacement, scene.ray, batch),
            laplacian_term,
            bend_term,
            vertex_symmetry_loss(vertices, confidence, scene.normal, batch, options.symmetry_bias),
            image_symmetry_loss(
                depth.straight, depth.mirrored, shown, on_object, views, len(batch), options.symmetry_bias
            ),
        ]
        return torch.stack(terms) * self.weights

    def _smoothness(self, vertices: Float[Tensor, "b v 3"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """The Laplacian and the normal consistency loss."""
        batch = self.scene.batch
        if self.options.relative_smoothness:
            return (
                laplacian_change_loss(vertices, self.coarse_laplacian, batch),
                excess_bend_loss(vertices, self.coarse_bends, batch),
            )
        return laplacian_loss(vertices, batch), normal_consistency_loss(vertices, batch)


@dataclass(eq=False)
class Best:
    """The iterate of lowest total loss of every instance so far, kept on the device."""

    total: Float[Tensor, " b"]
    terms: Float[Tensor, "losses b"]
    vertices: Float[Tensor, "b v 3"]
    confidence: Float[Tensor, "b v"]

    @classmethod
    def start(cls, batch: MeshBatch) -> Best:
        size, device = len(batch), batch.device
        return cls(
            total=torch.full((size,), torch.inf, device=device),
            terms=torch.full((len(LOSSES), size), torch.nan, device=device),
            vertices=batch.vertices.clone(),
            confidence=torch.full(batch.vertex_mask.shape, torch.nan, device=device),
        )

    def update(
        self, total: Tensor, terms: Tensor, vertices: Tensor, confidence: Tensor, running: Tensor | None = None
    ) -> None:
        """Take the new iterate where it is lower, of the instances still `running` (None: all); NaN never is."""
        lower = total < self.total
        if running is not None:
            lower = lower & running
        self.total = torch.where(lower, total, self.total)
        self.terms = torch.where(lower, terms, self.terms)
        self.vertices = torch.where(lower[:, None, None], vertices, self.vertices)
        self.confidence = torch.where(lower[:, None], confidence, self.confidence)
