"""The preconditioner of large-steps against a dense float64 solve, and its optimiser against the formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from shapes import box, icosphere, soup, torus

from refine_batch.mesh import Mesh, elimination
from refine_batch.mesh import preconditioner as module
from refine_batch.mesh.batch import MeshBatch
from refine_batch.mesh.preconditioner import DenseInverse, Preconditioner, smoothed
from refine_batch.methods.large_steps import UniformAdam

# One has vertices without neighbours.
MESHES = [icosphere(1), soup(30, 12, 0), box(), Mesh(np.eye(4, 3), np.array([[0, 1, 2]])), torus()]


def matrix(mesh: Mesh, smoothness: float) -> np.ndarray:
    """I + λ(D − A) from the faces."""
    joined = np.zeros((len(mesh.vertices),) * 2)
    for a, b, c in mesh.faces:
        for one, other in ((a, b), (b, c), (c, a)):
            joined[one, other] = joined[other, one] = 1
    return np.eye(len(joined)) + smoothness * (np.diag(joined.sum(axis=1)) - joined)


def random_values(batch: MeshBatch) -> torch.Tensor:
    return torch.randn(batch.vertices.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("smoothness", [0.0, 1.0, 20.0, 1000.0])
def test_each_instance_against_a_dense_solve(smoothness):
    batch = MeshBatch.of(MESHES)
    preconditioner = Preconditioner(batch, smoothness)
    values = random_values(batch)
    applied, solved = preconditioner.apply(values), preconditioner.solve(values)
    for i, mesh in enumerate(MESHES):
        count = len(mesh.vertices)
        dense, own = matrix(mesh, smoothness), values[i, :count].double().numpy()
        scale = max(1.0, smoothness)
        np.testing.assert_allclose(applied[i, :count], dense @ own, rtol=1e-4, atol=1e-4 * scale)
        np.testing.assert_allclose(solved[i, :count], np.linalg.solve(dense, own), rtol=1e-3, atol=1e-5)
        # Padding passes through.
        torch.testing.assert_close(solved[i, count:], values[i, count:], rtol=0, atol=0)


@pytest.mark.parametrize("smoothness", [0.0, 1.0, 20.0, 1000.0])
def test_explicit_inverses_and_factors_are_two_ways_to_the_same(smoothness, device):
    batch = MeshBatch.of(MESHES, device)
    values = random_values(MeshBatch.of(MESHES))
    given = values.to(device)
    inverse = DenseInverse(batch, torch.full((len(batch),), smoothness, device=device)).solve(given).cpu()
    once = smoothed(batch, given, smoothness).cpu()
    exact = device.type == "cpu"
    for i, mesh in enumerate(MESHES):
        count = len(mesh.vertices)
        expected = np.linalg.solve(matrix(mesh, smoothness), values[i, :count].double().numpy())
        np.testing.assert_allclose(inverse[i, :count], expected, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(
            once[i, :count], expected, rtol=1e-5 if exact else 1e-3, atol=1e-6 if exact else 1e-5
        )
        for solved in (inverse, once):
            torch.testing.assert_close(solved[i, count:], values[i, count:], rtol=0, atol=0)


def test_large_meshes_are_left_to_a_nested_dissection(monkeypatch):
    batch = MeshBatch.of(MESHES)
    values = random_values(batch)
    expected = Preconditioner(batch, 20.0).solve(values)
    monkeypatch.setattr(module, "MOST_ELIMINATED", 100)
    monkeypatch.delattr(module, "Factor")
    torch.testing.assert_close(Preconditioner(batch, 20.0).solve(values), expected, rtol=1e-3, atol=1e-5)


def test_what_else_is_in_a_batch_changes_no_bit():
    batch = MeshBatch.of(MESHES)
    values = random_values(batch)
    together = Preconditioner(batch, 7.0).solve(values)
    for i, mesh in enumerate(MESHES):
        count = len(mesh.vertices)
        alone = Preconditioner(MeshBatch.of([mesh]), 7.0).solve(values[i : i + 1, :count])
        torch.testing.assert_close(alone[0], together[i, :count], rtol=0, atol=0)


def test_the_order_of_elimination_is_found_once_for_a_batch(monkeypatch):
    batch = MeshBatch.of(MESHES)
    values = random_values(batch)
    first = Preconditioner(batch, 1.0)
    monkeypatch.delattr(elimination, "splu")
    Preconditioner(batch, 1000.0).solve(values)
    # Factors of one batch do not share their numbers.
    torch.testing.assert_close(first.solve(first.apply(values)), values, rtol=1e-4, atol=1e-5)


def test_each_instance_has_a_smoothness_of_its_own():
    batch = MeshBatch.of(MESHES)
    values = random_values(batch)
    smoothness = torch.tensor([0.0, 2.0, 30.0, 5.0, 100.0])
    both = Preconditioner(batch, smoothness)
    applied, solved = both.apply(values), both.solve(values)
    for i, smooth in enumerate(smoothness.tolist()):
        alone = Preconditioner(batch, smooth)
        torch.testing.assert_close(applied[i], alone.apply(values)[i])
        torch.testing.assert_close(solved[i], alone.solve(values)[i], rtol=1e-4, atol=1e-5)


def test_solving_undoes_applying():
    batch = MeshBatch.of(MESHES)
    preconditioner = Preconditioner(batch, 20.0)
    values = random_values(batch)
    torch.testing.assert_close(preconditioner.solve(preconditioner.apply(values)), values, rtol=1e-3, atol=1e-4)


def test_moving_all_vertices_alike_is_left_as_it_is():
    batch = MeshBatch.of([torus()])
    step = torch.tensor([0.3, -1.0, 2.0]).expand(1, 128, 3)
    torch.testing.assert_close(Preconditioner(batch, 20.0).solve(step), step.clone(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_instance_does_not_touch_the_others(value):
    batch = MeshBatch.of(MESHES)
    preconditioner = Preconditioner(batch, 20.0)
    values = random_values(batch)
    expected = preconditioner.solve(values)
    values[2] = value
    found = preconditioner.solve(values)
    others = [0, 1, 3, 4]
    torch.testing.assert_close(found[others], expected[others], rtol=0, atol=0)


def test_optimiser_is_adam_with_the_largest_second_moment_of_each_instance():
    generator = torch.Generator().manual_seed(1)
    gradients = [
        torch.randn((2, 5, 3), generator=generator) * torch.tensor([1.0, 1e-3])[:, None, None] for _ in range(4)
    ]
    optimiser = UniformAdam(gradients[0])
    first, second = np.zeros((2, 5, 3)), np.zeros((2, 5, 3))
    for step, gradient in enumerate(gradients, start=1):
        found = optimiser.direction(gradient)
        g = gradient.double().numpy()
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        unbiased, spread = first / (1 - 0.9**step), second / (1 - 0.999**step)
        expected = unbiased / (np.sqrt(spread.max(axis=(1, 2), keepdims=True)) + 1e-8)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
        # Steps of an instance do not depend on the size of its gradients.
        assert 0.05 < found[1].abs().max() <= 1.01


def test_first_step_is_the_gradient_over_its_largest_component():
    gradient = torch.tensor([[[0.0, 4.0, 0.0], [1.0, 0.0, -2.0]]])
    torch.testing.assert_close(UniformAdam(gradient).direction(gradient), gradient / 4, rtol=1e-4, atol=1e-6)
