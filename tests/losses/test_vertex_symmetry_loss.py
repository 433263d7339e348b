"""The vertex symmetry loss against the formula over all pairs of vertices, and its gradient against autograd's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from shapes import box, icosphere, jittered, soup, torus

from refine_batch.losses import vertex_symmetry_loss
from refine_batch.losses.vertex_symmetry import reflect
from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch

BIAS = 0.0005
MESHES = [jittered(icosphere(1), 0.03), jittered(box(), 0.1), soup(30, 5, 4), jittered(torus(), 0.02)]
OBLIQUE = torch.tensor([2.0, -1.0, 2.0]) / 3
NORMALS = torch.stack([torch.tensor([0.0, 0, 1]), torch.tensor([1.0, 0, 0]), OBLIQUE, torch.tensor([0.0, 1, 0])])


def confidences(batch: MeshBatch) -> torch.Tensor:
    return torch.rand(batch.vertex_mask.shape, generator=torch.Generator().manual_seed(0)) * 0.98 + 0.01


def over_all_pairs(
    vertices: torch.Tensor, confidence: torch.Tensor, normal: torch.Tensor, offset: float
) -> torch.Tensor:
    """One instance's loss with the distance of every reflected vertex to every vertex."""
    mirrored = vertices - 2 * torch.outer(vertices @ normal - offset, normal)
    squared = (mirrored[:, None] - vertices[None]).square().sum(-1).amin(dim=1)
    return (BIAS * torch.log(1 / confidence) + confidence * squared).mean()


@pytest.mark.parametrize("offsets", [None, (0.1, -0.2, 0.15, 0.0)], ids=["through the origin", "beside it"])
def test_values_and_gradients_of_each_instance(offsets):
    batch = MeshBatch.of(MESHES)
    vertices, confidence = batch.vertices.clone().requires_grad_(), confidences(batch).requires_grad_()
    planes = None if offsets is None else torch.tensor(offsets)
    found = vertex_symmetry_loss(vertices, confidence, NORMALS, batch, BIAS, planes)
    (found * torch.arange(1, 5)).sum().backward()
    for i, mesh in enumerate(MESHES):
        count = len(mesh.vertices)
        own = vertices[i, :count].detach().double().requires_grad_()
        trust = confidence[i, :count].detach().double().requires_grad_()
        expected = over_all_pairs(own, trust, NORMALS[i].double(), offsets[i] if offsets else 0.0)
        (expected * (i + 1)).backward()
        assert found[i].item() == pytest.approx(expected.item(), rel=1e-5)
        torch.testing.assert_close(vertices.grad[i, :count].double(), own.grad, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(confidence.grad[i, :count].double(), trust.grad, rtol=1e-4, atol=1e-7)
        assert (vertices.grad[i, count:] == 0).all()
        assert (confidence.grad[i, count:] == 0).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_symmetric_mesh_pays_for_its_doubt_alone(axis):
    batch = MeshBatch.of([box(), icosphere(1)])
    confidence = torch.full(batch.vertex_mask.shape, 0.25)
    normal = torch.eye(3)[[axis, axis]]
    found = vertex_symmetry_loss(batch.vertices, confidence, normal, batch, BIAS)
    torch.testing.assert_close(found, torch.full((2,), BIAS * math.log(4)), rtol=1e-5, atol=1e-8)


def test_distance_of_a_shifted_mesh():
    """A flat square at height h sees its reflection 2h below."""
    square = np.array([[0, 0, 0.1], [1, 0, 0.1], [1, 1, 0.1], [0, 1, 0.1]])
    batch = MeshBatch.of([Mesh(square, np.array([[0, 1, 2], [0, 2, 3]]))])
    confidence = torch.full((1, 4), 0.5)
    found = vertex_symmetry_loss(batch.vertices, confidence, torch.tensor([[0.0, 0.0, 1.0]]), batch, BIAS)
    assert found.item() == pytest.approx(BIAS * math.log(2) + 0.5 * 0.2**2, rel=1e-5)


def test_a_mesh_is_symmetric_in_the_plane_through_it():
    """Moved, in the plane that moved along; twice as far from its image as it is from that plane."""
    moved = Mesh(box().vertices + np.array([0.0, 0.0, 0.3]), box().faces)
    batch = MeshBatch.of([moved, moved])
    confidence = torch.ones(batch.vertex_mask.shape)
    normal = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    through = vertex_symmetry_loss(batch.vertices, confidence, normal, batch, BIAS, torch.tensor([0.3, -0.3]))
    torch.testing.assert_close(through, torch.zeros(2), rtol=0, atol=1e-12)
    beside = vertex_symmetry_loss(batch.vertices, confidence, normal, batch, BIAS, torch.tensor([0.25, -0.25]))
    torch.testing.assert_close(beside, torch.full((2,), 0.1**2), rtol=1e-5, atol=0)


def test_best_confidence_is_the_bias_over_the_squared_distance():
    """Where b/s = d² the two terms balance."""
    square = np.array([[0, 0, 0.05], [1, 0, 0.05], [0, 1, 0.05]])
    batch = MeshBatch.of([Mesh(square, np.array([[0, 1, 2]]))])
    confidence = torch.full((1, 3), BIAS / 0.1**2, requires_grad=True)
    vertex_symmetry_loss(batch.vertices, confidence, torch.tensor([[0.0, 0.0, 1.0]]), batch, BIAS).sum().backward()
    torch.testing.assert_close(confidence.grad, torch.zeros(1, 3), rtol=0, atol=1e-6)


def test_no_plane_costs_nothing_and_pulls_on_nothing():
    batch = MeshBatch.of(MESHES)
    vertices, confidence = batch.vertices.clone().requires_grad_(), confidences(batch).requires_grad_()
    normals = NORMALS.clone()
    normals[1] = 0
    found = vertex_symmetry_loss(vertices, confidence, normals, batch, BIAS)
    found.sum().backward()
    assert found[1] == 0
    assert (vertices.grad[1] == 0).all()
    assert (confidence.grad[1] == 0).all()
    assert (found[[0, 2, 3]] > 0).all()


def test_confidence_of_zero_is_not_infinite():
    batch = MeshBatch.of([box()])
    confidence = torch.zeros((1, 8), requires_grad=True)
    found = vertex_symmetry_loss(batch.vertices, confidence, NORMALS[:1], batch, BIAS)
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(confidence.grad).all()


def test_a_broken_instance_does_not_touch_the_others():
    batch = MeshBatch.of(MESHES)
    confidence = confidences(batch)
    expected = vertex_symmetry_loss(batch.vertices, confidence, NORMALS, batch, BIAS)
    spoilt = batch.vertices.clone()
    spoilt[1] = math.nan
    spoilt.requires_grad_()
    found = vertex_symmetry_loss(spoilt, confidence, NORMALS, batch, BIAS)
    found.sum().backward()
    torch.testing.assert_close(found[[0, 2, 3]], expected[[0, 2, 3]], rtol=0, atol=0)
    assert torch.isfinite(spoilt.grad[[0, 2, 3]]).all()


def test_reflection_turns_the_normal_and_keeps_the_plane():
    normal = OBLIQUE[None]
    in_plane = torch.tensor([[1.0, 2.0, 0.0], [0.0, 2.0, 1.0]])
    torch.testing.assert_close(in_plane @ normal[0], torch.zeros(2))
    points = torch.cat([normal * 0.7, in_plane])[None]
    expected = torch.cat([normal * -0.7, in_plane])[None]
    torch.testing.assert_close(reflect(points, normal), expected)
    torch.testing.assert_close(reflect(reflect(points, normal), normal), points)
    beside = torch.tensor([0.2])
    expected = torch.cat([normal * (0.4 - 0.7), in_plane + 0.4 * normal])[None]
    torch.testing.assert_close(reflect(points, normal, beside), expected)
