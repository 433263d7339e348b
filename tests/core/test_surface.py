"""The nearest point of a surface, against another program."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from shapes import box, icosphere, soup, torus

from refine_batch.mesh import Mesh
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


def test_what_is_known_of_the_distance_changes_nothing():
    points = np.random.default_rng(1).uniform(-2.0, 2.0, (200, 3))
    surface = Surface(torus())
    face, nearest = surface.located(points)
    distance = np.linalg.norm(points - nearest, axis=1)
    for within in (distance, 3.0 * distance):
        again, same = surface.located(points, within)
        np.testing.assert_array_equal(again, face)
        np.testing.assert_array_equal(same, nearest)
