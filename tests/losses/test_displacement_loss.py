"""The displacement loss against the mean written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from shapes import box, icosphere, soup

from refine_batch.losses import area_share, depth_loss, displacement_loss
from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch

MESHES = [box(), icosphere(1), soup(5, 4, 0)]


def test_mean_of_all_components_of_each_instance():
    batch = MeshBatch.of(MESHES)
    moved = torch.from_numpy(np.random.default_rng(0).normal(size=batch.vertices.shape).astype(np.float32))
    expected = [float((moved[i, : len(m.vertices)].double() ** 2).mean()) for i, m in enumerate(MESHES)]
    # What the padding holds does not count.
    spoilt = torch.where(batch.vertex_mask[..., None], moved, torch.nan)
    np.testing.assert_allclose(displacement_loss(spoilt, batch), expected, rtol=1e-5)


def test_gradient_is_twice_the_displacement_over_the_count():
    batch = MeshBatch.of(MESHES)
    moved = torch.from_numpy(np.random.default_rng(1).normal(size=batch.vertices.shape).astype(np.float32))
    moved.requires_grad_()
    displacement_loss(moved, batch).sum().backward()
    expected = torch.zeros_like(moved)
    for i, mesh in enumerate(MESHES):
        count = len(mesh.vertices)
        expected[i, :count] = 2 * moved[i, :count].detach() / (3 * count)
    torch.testing.assert_close(moved.grad, expected, rtol=1e-5, atol=0)


def test_nothing_moved_costs_nothing():
    batch = MeshBatch.of(MESHES)
    assert (displacement_loss(torch.zeros_like(batch.vertices), batch) == 0).all()


def test_depth_counts_what_is_along_the_ray():
    batch = MeshBatch.of(MESHES)
    random = np.random.default_rng(2)
    moved, ray = (torch.from_numpy(random.normal(size=batch.vertices.shape).astype(np.float32)) for _ in range(2))
    ray = torch.nn.functional.normalize(ray, dim=-1)
    expected = [
        (np.einsum("vc,vc->v", moved[i, : len(m.vertices)].double(), ray[i, : len(m.vertices)].double()) ** 2).mean()
        for i, m in enumerate(MESHES)
    ]
    np.testing.assert_allclose(depth_loss(moved, ray, batch), expected, rtol=1e-5)
    across = torch.linalg.cross(ray, moved)
    np.testing.assert_allclose(depth_loss(across, ray, batch), 0.0, atol=1e-12)


def test_what_other_views_see_counts_less():
    """Each square by how little of it they see."""
    batch = MeshBatch.of(MESHES)
    random = np.random.default_rng(3)
    moved, ray = (torch.from_numpy(random.normal(size=batch.vertices.shape).astype(np.float32)) for _ in range(2))
    hidden = torch.from_numpy(random.uniform(size=batch.vertex_mask.shape).astype(np.float32))
    expected = []
    for i, mesh in enumerate(MESHES):
        count = len(mesh.vertices)
        along = np.einsum("vc,vc->v", moved[i, :count].double(), ray[i, :count].double())
        expected.append((hidden[i, :count].double().numpy() * along**2).mean())
    np.testing.assert_allclose(depth_loss(moved, ray, batch, hidden), expected, rtol=1e-5)
    torch.testing.assert_close(depth_loss(moved, ray, batch, torch.ones_like(hidden)), depth_loss(moved, ray, batch))
    assert (depth_loss(moved, ray, batch, torch.zeros_like(hidden)) == 0).all()


def test_a_unit_step_along_one_axis_costs_a_third():
    batch = MeshBatch.of([box()])
    step = torch.tensor([0.0, 1.0, 0.0]).expand(1, 8, 3)
    torch.testing.assert_close(displacement_loss(step, batch), torch.tensor([1 / 3]))


def test_vertices_count_half_by_their_surface():
    """Two triangles of areas 1/2 and 4 on one edge: of the four corners two hold both, one each alone."""
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, -8, 0]], np.float32)
    batch = MeshBatch.of([Mesh(vertices, np.array([[0, 1, 2], [1, 0, 3]])), icosphere(2, 0.5)])
    share = area_share(batch.vertices, batch)
    held = np.array([4.5, 4.5, 0.5, 4.0])
    np.testing.assert_allclose(share[0, :4], 0.5 + 0.5 * held / held.mean(), rtol=1e-6)
    assert float((share[1][batch.vertex_mask[1]] - 1).abs().max()) < 0.2
    assert float(batch.vertex_mean(share)[1]) == pytest.approx(1.0, rel=1e-6)
    moved = torch.zeros_like(batch.vertices)
    moved[0, 3, 2] = 0.3
    expected = 0.09 * (0.5 + 0.5 * 4.0 / held.mean()) / 12
    assert float(displacement_loss(moved, batch, share)[0]) == pytest.approx(expected, rel=1e-6)
