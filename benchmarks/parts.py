"""Where a step's time goes: each part of a method's step on its own, forward and backward, on real inputs."""

from __future__ import annotations

import time
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from refine_batch.cameras.camera import project, stack_cameras
from refine_batch.config import RefineConfig
from refine_batch.losses import (
    depth_loss,
    displacement_loss,
    excess_bend_loss,
    image_symmetry_loss,
    laplacian_change_loss,
    silhouette_error,
    silhouette_loss,
    vertex_symmetry_loss,
)
from refine_batch.losses.vertex_symmetry import symmetric_distance
from refine_batch.mesh.batch import mean_edge_length
from refine_batch.mesh.preconditioner import Preconditioner
from refine_batch.methods import PreparedInstance, large_steps, refine
from refine_batch.methods.scene import Scene
from refine_batch.methods.trust import ViewTrust
from refine_batch.methods.whole_shape import WholeShape
from refine_batch.networks import Sampler, initial_parameters, refine_vertices, refiner, stack_parameters
from refine_batch.networks.encoder import encode
from refine_batch.render import load_renderer

Part = Callable[[], None]
WHOLE = "whole step"


def shares(
    method: str, instances: list[PreparedInstance], config: RefineConfig, device: torch.device, repeats: int
) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds of each part of a step and of the whole step, the least of `repeats`, taken in turns."""
    parts = {"refine": _refine_parts, "large-steps": _large_steps_parts}[method](instances, config, device)
    best = {name: (float("inf"), float("inf")) for name in parts}
    for _ in range(repeats + 1):
        for name, part in parts.items():
            found = _timed(part, device)
            best[name] = min(best[name][0], found[0]), min(best[name][1], found[1])
    return best


def _timed(part: Part, device: torch.device) -> tuple[float, float]:
    def now() -> tuple[float, float]:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter(), time.process_time()

    before = now()
    part()
    after = now()
    return after[0] - before[0], after[1] - before[1]


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


def _refine_parts(instances: list[PreparedInstance], config: RefineConfig, device: torch.device) -> dict[str, Part]:
    options = config.paper
    scene = Scene.of(instances, load_renderer(config.renderer), device)
    shape = WholeShape([i.mesh for i in instances], scene, options.whole_depth)
    objective, amounts = refine.Objective.of(scene, shape, options), shape.none()
    batch, views, size = scene.batch, objective.views, scene.mask.shape[-1]
    networks = [initial_parameters(i, zero_start=False) for i in range(len(instances))]
    parameters = stack_parameters(networks, device)
    optimiser = torch.optim.Adam(parameters.values(), lr=options.learning_rate, fused=True)
    image = torch.from_numpy(np.stack([i.image for i in instances])).permute(0, 3, 1, 2).to(device)
    sampler = Sampler(project(batch.vertices, stack_cameras([i.camera for i in instances], device))[..., :2])
    encoder = {name.removeprefix("encoder."): p for name, p in parameters.items() if name.startswith("encoder.")}
    weights = objective.weights[:, 0].tolist()
    # Halfway between the first softness and the last, near the coarse mesh.
    sigma, _ = options.sigma_at(0.5)
    softness = torch.full((), sigma, dtype=torch.float64, device=device)

    with torch.no_grad():
        features = encode(image, encoder)
        displacement, confidence = refine_vertices(parameters, image, batch, sampler)
        displacement = 0.01 * displacement
    vertices = batch.vertices + displacement
    # The gradients that each part hands to the one before it.
    leaves = [_leaf(x) for x in (vertices, displacement, confidence)]
    still, change = scene.cameras.now(), _leaf(scene.cameras.change)
    depth = scene.render(leaves[0], views, size, sigma, still)
    depths = [_leaf(x) for x in (depth.front, depth.straight, depth.mirrored)]
    shown, on_object = scene.confidence_seen(vertices, confidence, views, size)

    def of_silhouette(front: Tensor) -> Tensor:
        return weights[0] * scene.per_instance(silhouette_loss(front, scene.mask, options.log_space, scene.known))

    def of_image_symmetry(straight: Tensor, mirrored: Tensor, seen: Tensor) -> Tensor:
        if not views.per_instance:  # the loss is off
            return torch.zeros_like(scene.trust)
        loss = image_symmetry_loss(straight, mirrored, seen, on_object, views, len(batch), options.symmetry_bias)
        return weights[5] * loss * scene.trust

    upstream = torch.autograd.grad(
        (of_silhouette(depths[0]) + of_image_symmetry(depths[1], depths[2], shown)).sum(),
        depths,
        materialize_grads=True,
    )
    pull = torch.autograd.grad(
        objective(leaves[1], amounts, leaves[2], change, softness)[0].sum(), (leaves[1], leaves[2]), retain_graph=False
    )

    def encoder_part() -> None:
        optimiser.zero_grad(set_to_none=True)
        outputs = encode(image, encoder)
        torch.autograd.backward(outputs, [torch.ones_like(x) for x in outputs])

    def graph_part() -> None:
        optimiser.zero_grad(set_to_none=True)
        given = tuple(_leaf(x) for x in features)
        with mock.patch.object(refiner, "encode", return_value=given):
            torch.autograd.backward(refine_vertices(parameters, image, batch, sampler), pull)

    def silhouettes_part() -> None:
        seen = scene.render(_leaf(vertices), views, size, sigma, scene.cameras.now(_leaf(change)))
        torch.autograd.backward([seen.front, seen.straight, seen.mirrored], list(upstream))
        of_silhouette(_leaf(depth.front)).sum().backward()

    def image_symmetry_part() -> None:
        trusted = _leaf(confidence)
        rendered, _ = scene.confidence_seen(vertices, trusted, views, size)
        of_image_symmetry(_leaf(depth.straight), _leaf(depth.mirrored), rendered).sum().backward()

    def vertex_symmetry_part() -> None:
        bias, offset = options.symmetry_bias, scene.offset
        loss = vertex_symmetry_loss(_leaf(vertices), _leaf(confidence), scene.normal, batch, bias, offset)
        loss.sum().backward()

    def other_losses_part() -> None:
        moved, by = _leaf(vertices), _leaf(displacement)
        loss = displacement_loss(by, batch) + depth_loss(by, scene.ray, batch, scene.hidden)
        loss = loss + laplacian_change_loss(moved, objective.coarse_laplacian, batch)
        (loss + excess_bend_loss(moved, objective.coarse_bends, batch)).sum().backward()

    def whole() -> None:
        by, trusted = refine_vertices(parameters, image, batch, sampler)
        total = objective(0.01 * by, _leaf(amounts), trusted, _leaf(change), softness)[0].sum()
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        optimiser.step()

    return {
        WHOLE: whole,
        # Right after the whole step, whose gradients it takes again.
        "optimiser": optimiser.step,
        "encoder": encoder_part,
        "graph convolutions": graph_part,
        "silhouettes": silhouettes_part,
        **({"symmetry, image": image_symmetry_part} if views.per_instance else {}),
        "symmetry, vertex": vertex_symmetry_part,
        "other losses": other_losses_part,
    }


def _large_steps_parts(
    instances: list[PreparedInstance], config: RefineConfig, device: torch.device
) -> dict[str, Part]:
    options = config.large_steps
    scene = Scene.of(instances, load_renderer(config.renderer), device)
    whole = WholeShape([i.mesh for i in instances], scene, options.whole_depth)
    objective = large_steps.Objective(scene, whole, options, ViewTrust(scene))
    changes = torch.optim.Adam([whole.none()], lr=options.whole_learning_rate)
    batch, size = scene.batch, scene.mask.shape[-1]
    edge = mean_edge_length(batch)
    preconditioner = Preconditioner(batch, (options.reach[-1] / edge).square())
    adam = large_steps.UniformAdam(batch.vertices)
    none = scene.symmetry_views([])
    # The last stage: the full image size and the final softness.
    softness = torch.full((), options.sigma_end, dtype=torch.float64, device=device)
    at_the_end = size, 0, softness, torch.full((), False, device=device)
    displacement = 0.01 * torch.randn(batch.vertices.shape, generator=torch.Generator().manual_seed(0)).to(device)
    displacement = preconditioner.solve(displacement)
    vertices = batch.vertices + displacement
    change = scene.cameras.change
    coarse = batch.sum_neighbours(batch.vertices) / batch.degree.clamp_min(1.0)[..., None] - batch.vertices
    front = scene.render(vertices, none, size, options.sigma_end, scene.cameras.now()).front

    def squared_error(depth: Tensor) -> Tensor:
        return options.weights.silhouette * scene.per_instance(silhouette_error(depth, scene.mask, scene.known)).sum()

    leaf = _leaf(front)
    (upstream,) = torch.autograd.grad(squared_error(leaf), leaf)
    leaf = _leaf(displacement)
    (gradient,) = torch.autograd.grad(objective(leaf, whole.none(), change, *at_the_end)[0].sum(), leaf)
    pull = torch.ones_like(gradient)

    def silhouettes_part() -> None:
        now = scene.cameras.now(_leaf(change))
        scene.render(_leaf(vertices), none, size, options.sigma_end, now).front.backward(upstream)
        squared_error(_leaf(front)).backward()

    def vertex_symmetry_part() -> None:
        symmetric_distance(_leaf(vertices), scene.normal, batch, scene.offset).sum().backward()

    def other_losses_part() -> None:
        moved, by = _leaf(vertices), _leaf(displacement)
        loss = displacement_loss(by, batch) + depth_loss(by, scene.ray, batch, scene.hidden)
        (loss + laplacian_change_loss(moved, coarse, batch)).sum().backward()

    def optimiser_part() -> None:
        preconditioner.solve(adam.direction(preconditioner.solve(gradient)))

    def whole_shape_part() -> None:
        amounts = _leaf(whole.none())
        changes.param_groups[0]["params"] = [amounts]
        whole.displacement(amounts).backward(pull)
        changes.step()

    def whole_step() -> None:
        by, amounts, moved = _leaf(displacement), _leaf(whole.none()), _leaf(change)
        total = objective(by, amounts, moved, *at_the_end)[0].sum()
        found, amounts.grad, _ = torch.autograd.grad(total, (by, amounts, moved))
        changes.param_groups[0]["params"] = [amounts]
        changes.step()
        preconditioner.solve(adam.direction(preconditioner.solve(found)))

    return {
        WHOLE: whole_step,
        "silhouettes": silhouettes_part,
        "symmetry, vertex": vertex_symmetry_part,
        "other losses": other_losses_part,
        "changes of the whole": whole_shape_part,
        "optimiser and solves": optimiser_part,
    }
