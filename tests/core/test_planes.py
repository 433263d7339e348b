"""Symmetry planes that follow the shapes they were found in."""

from __future__ import annotations

import math

import numpy as np
import torch
from shapes import box, icosphere, joined

from refine_batch.losses.vertex_symmetry import symmetric_distance
from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.methods.planes import Planes

CPU = torch.device("cpu")


def mirrored_pair(plane: SymmetryPlane) -> Mesh:
    """Scattered points and their mirror images in a plane; the triangles do not matter."""
    random = np.random.default_rng(0)
    points = random.uniform(-0.5, 0.5, (40, 3))
    vertices = np.concatenate([points, plane.reflect(points)])
    return Mesh(vertices, np.arange(78).reshape(-1, 3))


def upright(degrees: float, offset: float, free: bool = True, trust: float = 1.0) -> SymmetryPlane:
    a = math.radians(degrees)
    return SymmetryPlane((math.sin(a), 0.0, math.cos(a)), offset, trust, free)


def follow(planes: Planes, batch: MeshBatch, steps: int) -> None:
    for _ in range(steps):
        _, partner = planes.squared(batch.vertices, batch)
        planes.follow(batch.vertices, partner, torch.ones(batch.vertex_mask.shape), batch)


def test_a_plane_that_was_found_goes_where_the_shape_is_its_own_image():
    true = upright(25.0, 0.1)
    batch = MeshBatch.of([mirrored_pair(true), box()])
    planes = Planes([upright(23.0, 0.12), None], CPU)
    follow(planes, batch, 60)
    np.testing.assert_allclose(planes.normal[0], true.normal, atol=1e-3)
    assert abs(planes.offset[0].item() - 0.1) < 1e-3
    # What has none gets none.
    assert planes.normal[1].tolist() == [0.0, 0.0, 0.0]
    assert planes.trust.tolist() == [1.0, 0.0]


def test_a_plane_that_was_given_stays():
    batch = MeshBatch.of([mirrored_pair(upright(25.0, 0.1))])
    given = upright(23.0, 0.12, free=False, trust=0.5)
    planes = Planes([given], CPU)
    follow(planes, batch, 10)
    np.testing.assert_array_equal(planes.normal[0], np.float32(given.normal))
    assert planes.offset.item() == np.float32(0.12)
    assert planes.trust.item() == 0.5


def test_padding_and_batch_mates_pull_on_none():
    mesh, large = mirrored_pair(upright(70.0, -0.05)), joined(icosphere(3), box())
    alone, together = Planes([upright(72.0, 0.0)], CPU), Planes([upright(72.0, 0.0), upright(0.0, 0.1)], CPU)
    follow(alone, MeshBatch.of([mesh]), 10)
    follow(together, MeshBatch.of([mesh, large]), 10)
    torch.testing.assert_close(together.normal[:1], alone.normal, rtol=0, atol=1e-6)
    torch.testing.assert_close(together.offset[:1], alone.offset, rtol=0, atol=1e-6)


def test_distances_are_those_of_the_loss():
    mesh, plane = icosphere(2, 0.5), upright(40.0, 0.07)
    batch, planes = MeshBatch.of([mesh]), Planes([plane], CPU)
    squared, partner = planes.squared(batch.vertices, batch)
    expected = symmetric_distance(batch.vertices, planes.normal, batch, planes.offset)
    torch.testing.assert_close(squared, expected)
    distances = np.linalg.norm(plane.reflect(mesh.vertices)[:, None] - mesh.vertices[None], axis=2).min(axis=1)
    np.testing.assert_allclose(squared[0], distances**2, atol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(plane.reflect(mesh.vertices) - partner[0].numpy(), axis=1), distances, atol=1e-6
    )
