"""The nearest point of a surface, against another program."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from shapes import box, icosphere, soup, torus

from refine_batch.mesh import Mesh
from refine_batch.mesh.mirrored import fitted, held
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.mesh.surface import Surface


@pytest.mark.parametrize("mesh", [box(), icosphere(2), torus(), soup(20, 30, 0), Mesh(np.eye(3), [[0, 1, 2]])], ids=str)
@pytest.mark.parametrize("far", [0.5, 20.0])
def test_nearest_points_are_those_that_trimesh_finds(mesh, far):
    points = np.random.default_rng(0).uniform(-far, far, (200, 3))
    surface = Surface(mesh)
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    expected, distance, _ = trimesh.proximity.closest_point(solid, points)
    found = surface.nearest(points)
    np.testing.assert_allclose(np.linalg.norm(points - found, axis=1), distance, rtol=1e-4, atol=1e-5)
    alike = np.linalg.norm(found - expected, axis=1) < 1e-3 * far
    # Of two points at one distance either will do.
    assert alike.mean() > 0.95
    face, share = surface.closest(points)
    assert ((face >= 0) & (face < len(mesh.faces))).all()
    np.testing.assert_allclose(share.sum(axis=1), 1.0, atol=1e-5)
    assert share.min() > -1e-4


def test_the_surfaces_own_points_are_nearest_to_themselves():
    ball = icosphere(2)
    np.testing.assert_allclose(Surface(ball).nearest(ball.vertices), ball.vertices, atol=1e-6)


def test_no_points():
    face, share = Surface(box()).closest(np.zeros((0, 3)))
    assert (len(face), share.shape) == (0, (0, 3))


def test_points_held_against_a_surface_in_a_plane_are_mirrored_and_looked_up():
    points = np.random.default_rng(1).uniform(-1.0, 1.0, (50, 3))
    surface = Surface(torus())
    plane = SymmetryPlane((0.6, 0.0, 0.8), 0.1)
    mirrored = plane.reflect(points[10:40])
    expected = ((mirrored - surface.nearest(mirrored)) ** 2).sum()
    numbers = np.array([[*plane.normal, plane.offset], [0.0, 1.0, 0.0, 0.0]])
    assert held(surface, points, numbers, 10, 40)[0] == pytest.approx(expected, rel=1e-6)
    assert len(held(surface, points, numbers[:0], 10, 40)) == 0


@pytest.mark.parametrize("turn", [True, False])
def test_what_is_known_of_the_distance_while_a_plane_is_fitted_changes_nothing(turn):
    surface = Surface(box())
    points = surface.nearest(np.random.default_rng(1).uniform(-1.0, 1.0, (60, 3)))
    begun = np.array([[np.sin(0.2), 0.0, np.cos(0.2), 0.03], [1.0, 0.0, 0.0, -0.02]])
    found, squared = fitted(surface, points, begun, 50, 5, turn)
    # Beyond the first step nearest points are looked up within what the last ones bound.
    assert np.abs(found - begun).max(axis=1).min() > 1e-4
    np.testing.assert_allclose(held(surface, points, found, 0, 50), squared, rtol=1e-9)
    assert (squared < held(surface, points, begun, 0, 50)).all()
    np.testing.assert_array_equal(found[:, 1], 0.0)
    if not turn:
        np.testing.assert_array_equal(found[:, :3], begun[:, :3])
