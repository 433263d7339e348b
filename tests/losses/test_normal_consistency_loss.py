"""The normal consistency loss against hinges of known angle, pairs found by hand, and finite differences."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shapes import box, double, fan, finite_difference, icosphere, jittered, soup, torus

from refine_batch.losses import excess_bend_loss, normal_consistency_loss
from refine_batch.losses.normal_consistency import bends
from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch


def loss_of(*meshes: Mesh) -> np.ndarray:
    batch = MeshBatch.of(meshes)
    return normal_consistency_loss(batch.vertices, batch).numpy()


def by_hand(mesh: Mesh) -> float:
    """Every pair of faces on a common edge: the angle between the faces, measured across the edge."""
    total, count = 0.0, 0
    points = mesh.vertices.astype(np.float64)
    for one, other in combinations(mesh.faces.tolist(), 2):
        for edge in combinations(sorted(set(one) & set(other)), 2):
            start, end = points[list(edge)]
            along = (end - start) / np.linalg.norm(end - start)
            # What of each third corner stands square to the edge; flat faces reach out in opposite directions.
            arms = []
            for face in (one, other):
                [tip] = set(face) - set(edge)
                arm = points[tip] - start
                arm -= (arm @ along) * along
                arms.append(arm / np.linalg.norm(arm))
            total += 1 + arms[0] @ arms[1]
            count += 1
    return total / count if count else 0.0


@given(st.floats(0, math.pi))
def test_hinge_of_known_angle(angle):
    """1 − cos of the bend: 0 where flat, 2 where folded back onto itself."""
    vertices = np.array([[0, 0, 0], [0, 1, 0], [-1, 0.5, 0], [math.cos(angle), 0.5, math.sin(angle)]])
    [found] = loss_of(Mesh(vertices, np.array([[0, 1, 2], [1, 0, 3]])))
    assert found == pytest.approx(1 - math.cos(angle), abs=2e-6)


@given(st.floats(0, math.pi), st.floats(0, math.pi))
def test_only_bends_beyond_the_coarse_ones_count(before, after):
    def hinge(angle: float) -> Mesh:
        tip = [math.cos(angle), 0.5, math.sin(angle)]
        return Mesh(np.array([[0, 0, 0], [0, 1, 0], [-1, 0.5, 0], tip]), np.array([[0, 1, 2], [1, 0, 3]]))

    batch, moved = MeshBatch.of([hinge(before)]), MeshBatch.of([hinge(after)]).vertices
    [found] = excess_bend_loss(moved, bends(batch.vertices, batch), batch).tolist()
    assert found == pytest.approx(max(0.0, math.cos(before) - math.cos(after)), abs=4e-6)


def test_a_box_may_keep_its_edges():
    batch = MeshBatch.of([box(), icosphere(1)])
    coarse = bends(batch.vertices, batch)
    assert (excess_bend_loss(batch.vertices, coarse, batch) == 0).all()
    assert (excess_bend_loss(1.3 * batch.vertices, coarse, batch) < 1e-6).all()


def test_boxes():
    """Twelve edges of right angle and six flat diagonals."""
    np.testing.assert_allclose(loss_of(box(), box(2, 3, 0.1)), 12 / 18, rtol=1e-6)


def test_pairs_found_by_hand():
    meshes = [icosphere(1), torus(), fan(3), fan(5), soup(9, 14, 0), jittered(box(), 0.1)]
    np.testing.assert_allclose(loss_of(*meshes), [by_hand(mesh) for mesh in meshes], rtol=1e-5)


def test_winding_does_not_count_as_a_fold():
    mesh = icosphere(1)
    turned = mesh.faces.copy()
    turned[::3] = turned[::3, ::-1]
    np.testing.assert_allclose(loss_of(mesh), loss_of(Mesh(mesh.vertices, turned)), rtol=1e-6)


def test_no_pair_costs_nothing_and_pulls_on_nothing():
    batch = MeshBatch.of([Mesh(np.eye(3), np.array([[0, 1, 2]])), icosphere(0)])
    vertices = batch.vertices.clone().requires_grad_()
    found = normal_consistency_loss(vertices, batch)
    found.sum().backward()
    assert found[0] == 0
    assert (vertices.grad[0] == 0).all()
    assert (vertices.grad[1, :12] != 0).any()


def test_gradient_is_the_finite_difference():
    batch = double(MeshBatch.of([jittered(box(), 0.05), fan(4), soup(9, 6, 1)]))
    vertices = batch.vertices.clone().requires_grad_()

    def loss(v):
        return (normal_consistency_loss(v, batch) * torch.tensor([1.0, 3.0, -2.0], dtype=torch.float64)).sum()

    (found,) = torch.autograd.grad(loss(vertices), vertices)
    torch.testing.assert_close(found, finite_difference(loss, vertices), rtol=1e-4, atol=1e-7)


DEGENERATE = {
    "a corner twice": [0, 0, 1],
    "three corners on a line": [0, 1, 12],
    "two corners at one place": [0, 1, 13],
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_faces_pull_no_harder_than_others(name):
    """They have no normal: the loss stays finite and so does what it asks of their corners."""
    sphere = icosphere(0)
    a, b = sphere.vertices[0], sphere.vertices[1]
    vertices = np.concatenate([sphere.vertices, [(a + b) / 2, b]])
    faces = np.concatenate([sphere.faces, [DEGENERATE[name]]])
    batch = MeshBatch.of([Mesh(vertices, faces)])
    variable = batch.vertices.clone().requires_grad_()
    found = normal_consistency_loss(variable, batch)
    found.sum().backward()
    assert 0 < found.item() < 2
    plain = MeshBatch.of([sphere])
    usual = plain.vertices.clone().requires_grad_()
    normal_consistency_loss(usual, plain).sum().backward()
    assert variable.grad.abs().max() < 10 * usual.grad.abs().max() + 1


def test_a_sliver_counts_but_its_own_normal_is_not_turned():
    """Two faces on one edge, one of them a sliver: the other alone is asked to turn."""
    vertices = np.array([[0, 0, 0], [0, 1, 0], [-1, 0.5, 0], [1e-5, 0.5, 1e-5]])
    batch = MeshBatch.of([Mesh(vertices, np.array([[0, 1, 2], [1, 0, 3]]))])
    variable = batch.vertices.clone().requires_grad_()
    found = normal_consistency_loss(variable, batch)
    found.sum().backward()
    assert found.item() == pytest.approx(1 - math.sqrt(0.5), rel=1e-4)
    assert (variable.grad[0, 3] == 0).all()
    assert variable.grad[0, 2].norm() == pytest.approx(math.sqrt(0.5), rel=1e-3)


def test_each_instance_its_own():
    meshes = [icosphere(1), torus(), fan(3)]
    batch = MeshBatch.of(meshes)
    spoilt = batch.vertices.clone()
    spoilt[1] = math.nan
    spoilt = torch.where(batch.vertex_mask[..., None], spoilt, math.nan).requires_grad_()
    found = normal_consistency_loss(spoilt, batch)
    found.sum().backward()
    np.testing.assert_allclose(found[[0, 2]].detach(), loss_of(*meshes)[[0, 2]], rtol=1e-6)
    for i in (0, 2):
        assert torch.isfinite(spoilt.grad[i, : len(meshes[i].vertices)]).all()
