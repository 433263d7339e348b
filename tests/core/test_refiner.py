"""REFINE's network against its formulas, vertex by vertex, and a stack of networks against single ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from shapes import box, icosphere, soup

from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch
from refine_batch.networks import Sampler, initial_parameters, refine_vertices, stack_parameters
from refine_batch.networks.encoder import encode

MESHES = [box(), icosphere(1), soup(12, 9, 3)]
SIZE = 32


def inputs(batch: MeshBatch) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    image = torch.rand((len(batch), 3, SIZE, SIZE), generator=generator)
    # Some points lie outside the image.
    points = torch.rand((*batch.vertex_mask.shape, 2), generator=generator) * 2.6 - 1.3
    return image, points


def livelier(seed: int) -> dict[str, torch.Tensor]:
    """A network whose graph convolutions pass on more than the thousandth that they start with."""
    parameters = initial_parameters(seed, zero_start=False)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in parameters.items():
        if name.startswith("graph"):
            tensor += torch.randn(tensor.shape, generator=generator) * 0.03
    return parameters


def bilinear(stage: np.ndarray, x: float, y: float) -> np.ndarray:
    """(C,) features at an NDC point, zero beyond the border, from the four nearest cells of (C, h, w)."""
    channels, height, width = stage.shape
    column, row = (1 - x) * width / 2 - 0.5, (1 - y) * height / 2 - 0.5
    found = np.zeros(channels)
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < height and 0 <= j < width:
                found += stage[:, i, j] * (1 - abs(row - i)) * (1 - abs(column - j))
    return found


def vertex_by_vertex(parameters, image, mesh: Mesh, points) -> tuple[np.ndarray, np.ndarray]:
    """The formulas in float64 for one instance, with neighbours from the faces."""
    p = {name: tensor.double().numpy() for name, tensor in parameters.items()}
    weights = {name.removeprefix("encoder."): t[None] for name, t in parameters.items() if name.startswith("encoder.")}
    stages = [stage[0].double().numpy() for stage in encode(image[None], weights)]

    def linear(x, name):
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

    around = [set() for _ in mesh.vertices]
    for face in mesh.faces.tolist():
        for vertex in face:
            around[vertex] |= set(face) - {vertex}
    features = np.array([np.concatenate([bilinear(s, *point) for s in stages]) for point in points.double().numpy()])
    x = np.maximum(linear(features, "bottleneck"), 0)
    x = np.concatenate([x, mesh.vertices.astype(np.float64)], axis=1)
    for layer in range(8):
        own, sent = linear(x, f"graph.{layer}.own"), linear(x, f"graph.{layer}.neighbour")
        x = np.maximum([own[i] + sum(sent[j] for j in around[i]) for i in range(len(x))], 0)
    c = np.maximum(linear(x, "confidence.0"), 0)
    c = np.maximum(linear(c, "confidence.1"), 0)
    return linear(x, "displacement"), 1 / (1 + np.exp(-linear(c, "confidence.2")[:, 0]))


def test_formulas_of_each_instance():
    batch = MeshBatch.of(MESHES)
    image, points = inputs(batch)
    networks = [livelier(seed) for seed in range(len(MESHES))]
    displacement, confidence = refine_vertices(stack_parameters(networks, "cpu"), image, batch, Sampler(points))
    assert ((confidence > 0) & (confidence < 1)).all()
    for i, (mesh, network) in enumerate(zip(MESHES, networks, strict=True)):
        count = len(mesh.vertices)
        moved, trust = vertex_by_vertex(network, image[i], mesh, points[i, :count])
        scale = np.abs(moved).max()
        assert scale > 0.01
        np.testing.assert_allclose(displacement[i, :count].detach(), moved, rtol=1e-3, atol=1e-4 * scale)
        np.testing.assert_allclose(confidence[i, :count].detach(), trust, rtol=1e-4)
        assert np.ptp(trust) > 1e-4


def test_a_stack_of_networks_equals_single_ones():
    batch = MeshBatch.of(MESHES)
    image, points = inputs(batch)
    networks = [livelier(seed) for seed in range(len(MESHES))]
    together = stack_parameters(networks, "cpu")
    displacement, confidence = refine_vertices(together, image, batch, Sampler(points))
    (displacement.square().sum(dim=(1, 2)) + (confidence * batch.vertex_mask).sum(dim=1)).sum().backward()
    for i, mesh in enumerate(MESHES):
        count = len(mesh.vertices)
        single = stack_parameters([networks[i]], "cpu")
        alone = MeshBatch.of([mesh])
        moved, trust = refine_vertices(single, image[i : i + 1], alone, Sampler(points[i : i + 1, :count]))
        torch.testing.assert_close(displacement[i : i + 1, :count], moved, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(confidence[i : i + 1, :count], trust, rtol=1e-4, atol=1e-6)
        # Padded vertices are displaced as well, which reaches the parameters only where a loss counts it.
        if count == displacement.shape[1]:
            (moved.square().sum() + trust.sum()).backward()
            for name, parameter in single.items():
                expected = parameter.grad[0]
                slack = 1e-4 * float(expected.abs().max())
                torch.testing.assert_close(together[name].grad[i], expected, rtol=1e-3, atol=slack, msg=name)


def test_a_broken_instance_does_not_touch_the_others():
    batch = MeshBatch.of(MESHES)
    image, points = inputs(batch)
    parameters = stack_parameters([livelier(seed) for seed in range(3)], "cpu")
    expected = refine_vertices(parameters, image, batch, Sampler(points))
    image[1], points[1], batch.vertices[1] = math.nan, math.nan, math.nan
    found = refine_vertices(parameters, image, batch, Sampler(points))
    for value, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(value[[0, 2]], wanted[[0, 2]], rtol=1e-5, atol=1e-7)
    (found[0].sum() + found[1].sum()).backward()
    for parameter in parameters.values():
        assert torch.isfinite(parameter.grad[[0, 2]]).all()


def test_zero_start_moves_nothing_and_still_learns():
    batch = MeshBatch.of(MESHES)
    image, points = inputs(batch)
    parameters = stack_parameters([initial_parameters(seed, zero_start=True) for seed in range(3)], "cpu")
    displacement, confidence = refine_vertices(parameters, image, batch, Sampler(points))
    assert (displacement == 0).all()
    assert ((confidence > 0) & (confidence < 1)).all()
    (displacement - 1).square().sum().backward()
    assert (parameters["displacement.bias"].grad != 0).all()
    assert (parameters["displacement.weight"].grad != 0).any()
    # The default start moves every vertex at once.
    moved, _ = refine_vertices(
        stack_parameters([initial_parameters(0, zero_start=False)] * 3, "cpu"), image, batch, Sampler(points)
    )
    assert moved.abs().mean() > 0.01


def test_seed_decides_the_start():
    one, same, other = (initial_parameters(seed, zero_start=False) for seed in (7, 7, 8))
    for name, tensor in one.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, same[name], rtol=0, atol=0)
    assert not torch.equal(one["encoder.conv1.weight"], other["encoder.conv1.weight"])
    assert not torch.equal(one["graph.3.own.weight"], other["graph.3.own.weight"])
    assert not torch.equal(one["graph.3.own.weight"], one["graph.3.neighbour.weight"])


def test_zero_start_and_given_encoders_leave_the_other_draws_alone():
    plain, zero = initial_parameters(7, zero_start=False), initial_parameters(7, zero_start=True)
    encoder = {name.removeprefix("encoder."): t + 1 for name, t in plain.items() if name.startswith("encoder.")}
    given = initial_parameters(7, zero_start=False, encoder=encoder)
    assert set(plain) == set(zero) == set(given)
    for name, tensor in plain.items():
        if not name.startswith("displacement."):
            torch.testing.assert_close(zero[name], tensor, rtol=0, atol=0)
        expected = tensor + 1 if name.startswith("encoder.") else tensor
        torch.testing.assert_close(given[name], expected, rtol=0, atol=0)
    assert (zero["displacement.weight"] == 0).all()
    assert (zero["displacement.bias"] == 0).all()


def test_start_of_the_layers():
    """Graph convolutions N(0, 0.01²) with biases of 0; the others as torch.nn.Linear starts them."""
    parameters = initial_parameters(0, zero_start=False)
    for layer in range(8):
        for part in ("own", "neighbour"):
            weight = parameters[f"graph.{layer}.{part}.weight"]
            assert weight.shape == (131 if layer == 0 else 128, 128)
            assert float(weight.std()) == pytest.approx(0.01, rel=0.03)
            assert (parameters[f"graph.{layer}.{part}.bias"] == 0).all()
    shapes = {"bottleneck": (192, 128), "displacement": (128, 3)}
    shapes |= {"confidence.0": (128, 32), "confidence.1": (32, 16), "confidence.2": (16, 1)}
    for name, shape in shapes.items():
        weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
        bound = 1 / math.sqrt(shape[0])
        assert weight.shape == shape
        assert bias.shape == shape[1:]
        assert max(weight.abs().max(), bias.abs().max()) <= bound
        # The spread of a uniform draw is its bound over √3.
        if weight.numel() > 100:
            assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
    names = {name for name in parameters if not name.startswith(("encoder.", "graph."))}
    assert names == {f"{name}.{part}" for name in shapes for part in ("weight", "bias")}


def test_stacked_parameters_are_leaves_of_their_own():
    network = initial_parameters(0, zero_start=True)
    stack = stack_parameters([network, network], "cpu")
    for name, tensor in stack.items():
        assert tensor.is_leaf
        assert tensor.requires_grad
        assert tensor.shape == (2, *network[name].shape)
    with torch.no_grad():
        stack["bottleneck.bias"][0] += 1
    torch.testing.assert_close(stack["bottleneck.bias"][1].detach(), network["bottleneck.bias"], rtol=0, atol=0)
