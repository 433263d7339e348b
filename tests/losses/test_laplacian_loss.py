"""The Laplacian loss against polyhedra with known answers, neighbours listed by hand, and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from shapes import box, double, fan, finite_difference, icosphere, jittered, soup, torus

from refine_batch.losses import laplacian_change_loss, laplacian_loss
from refine_batch.losses.laplacian import laplacian, safe_norm
from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch

TETRAHEDRON = Mesh(
    np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]), np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
)


def offsets(mesh: Mesh) -> np.ndarray:
    """Mean of the neighbours minus the vertex, from sets of neighbours."""
    around = [set() for _ in mesh.vertices]
    for a, b, c in mesh.faces.tolist():
        around[a] |= {b, c} - {a}
        around[b] |= {a, c} - {b}
        around[c] |= {a, b} - {c}
    points = mesh.vertices.astype(np.float64)
    return np.array([(points[list(n)].mean(axis=0) if n else 0) - p for n, p in zip(around, points, strict=True)])


def test_polyhedra_with_known_answers():
    """The others' mean is −v/3 on a tetrahedron; v/√5 among the five around a vertex of an icosahedron."""
    batch = MeshBatch.of([TETRAHEDRON, icosphere(0, radius=0.5)])
    expected = [4 / 3 * math.sqrt(3), 0.5 * (1 - 1 / math.sqrt(5))]
    np.testing.assert_allclose(laplacian_loss(batch.vertices, batch), expected, rtol=1e-5)


def test_change_of_the_laplacian():
    """None where a mesh is moved as a whole; of a scaled one, what the Laplacian itself changes by."""
    meshes = [TETRAHEDRON, jittered(torus(), 0.02)]
    batch = MeshBatch.of(meshes)
    coarse = laplacian(batch.vertices, batch)
    shifted = batch.vertices + torch.tensor([0.3, -0.1, 0.2])
    np.testing.assert_allclose(laplacian_change_loss(shifted, coarse, batch), 0.0, atol=1e-6)
    expected = [0.5 * np.linalg.norm(offsets(mesh), axis=1).mean() for mesh in meshes]
    np.testing.assert_allclose(laplacian_change_loss(1.5 * batch.vertices, coarse, batch), expected, rtol=1e-4)


def test_neighbours_listed_by_hand():
    meshes = [torus(), fan(4), soup(30, 25, 2), jittered(icosphere(1), 0.05), box()]
    batch = MeshBatch.of(meshes)
    expected = [np.linalg.norm(offsets(mesh), axis=1).mean() for mesh in meshes]
    np.testing.assert_allclose(laplacian_loss(batch.vertices, batch), expected, rtol=1e-5)
    for i, mesh in enumerate(meshes):
        found = laplacian(batch.vertices, batch)[i, : len(mesh.vertices)]
        np.testing.assert_allclose(found, offsets(mesh), atol=1e-6)


def test_unused_vertex_is_its_own_offset():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 3, 4]])
    batch = MeshBatch.of([Mesh(vertices, np.array([[0, 1, 2]]))])
    # Each corner of a triangle against the middle of the other two, and 5.
    expected = (math.sqrt(0.5) + 2 * math.sqrt(1.25) + 5) / 4
    np.testing.assert_allclose(laplacian_loss(batch.vertices, batch), [expected], rtol=1e-6)


def test_corner_used_twice_leaves_one_neighbour():
    batch = MeshBatch.of([Mesh(np.array([[0, 0, 0], [3, 0, 4]]), np.array([[0, 0, 1]]))])
    np.testing.assert_allclose(laplacian_loss(batch.vertices, batch), [5], rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_grows_with_the_mesh(factor):
    batch = MeshBatch.of([torus()])
    grown = laplacian_loss(batch.vertices * factor, batch)
    torch.testing.assert_close(grown, laplacian_loss(batch.vertices, batch) * factor, rtol=1e-5, atol=0)


def test_moving_the_mesh_changes_nothing():
    batch = MeshBatch.of([torus()])
    moved = laplacian_loss(batch.vertices + torch.tensor([0.3, -0.2, 0.5]), batch)
    torch.testing.assert_close(moved, laplacian_loss(batch.vertices, batch), rtol=1e-5, atol=0)


def test_gradient_is_the_finite_difference():
    batch = double(MeshBatch.of([jittered(box(), 0.05), soup(9, 6, 1)]))
    vertices = batch.vertices.clone().requires_grad_()

    def loss(v):
        return (laplacian_loss(v, batch) * torch.tensor([1.0, 3.0], dtype=torch.float64)).sum()

    (found,) = torch.autograd.grad(loss(vertices), vertices)
    torch.testing.assert_close(found, finite_difference(loss, vertices), rtol=1e-5, atol=1e-8)


def test_gradient_stays_finite_where_a_vertex_lies_amid_its_neighbours():
    """The norm has a kink there: six triangles in a plane about their common corner."""
    angles = np.arange(6) * math.pi / 3
    rim = np.stack([np.cos(angles), np.sin(angles), np.zeros(6)], axis=1)
    faces = np.array([[6, i, (i + 1) % 6] for i in range(6)])
    vertices = np.concatenate([rim, np.zeros((1, 3))])
    # Exactly opposite, so that their mean is exactly the centre.
    vertices[3:6] = -vertices[:3]
    batch = MeshBatch.of([Mesh(vertices, faces)])
    variable = batch.vertices.clone().requires_grad_()
    laplacian_loss(variable, batch).sum().backward()
    assert laplacian(batch.vertices, batch)[0, 6].norm() == 0
    assert torch.isfinite(variable.grad).all()
    assert variable.grad.abs().max() > 0.01


def test_norm_and_its_gradient():
    vectors = torch.tensor([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0], [0.0, -2.0, 0.0]], requires_grad=True)
    norms = safe_norm(vectors)
    norms.sum().backward()
    torch.testing.assert_close(norms.detach(), torch.tensor([5.0, 0.0, 2.0]))
    torch.testing.assert_close(vectors.grad, torch.tensor([[0.6, 0.0, 0.8], [0.0, 0.0, 0.0], [0.0, -1.0, 0.0]]))
