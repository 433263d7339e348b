"""One vertex where a file has several."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from shapes import box, flat_shaded, icosphere, joined, soup

from refine_batch.mesh import Mesh
from refine_batch.mesh.welding import TOLERANCE, positions, weld


def split_sphere(rows: int = 8, columns: int = 12, radius: float = 0.5) -> Mesh:
    """A sphere of latitudes and longitudes as texture coordinates want it: a seam twice, and a row of vertices at each
    pole; the faces at the poles that have no area are among the others."""
    latitude = np.linspace(0.0, np.pi, rows + 1)
    # The seam's two sides are at the same place to the last bit, and so is each pole.
    longitude = np.linspace(0.0, 2 * np.pi, columns + 1)[np.arange(columns + 1) % columns]
    y, across = np.cos(latitude), np.sin(latitude) * (np.arange(rows + 1) % rows > 0)
    x, z = across[:, None] * np.cos(longitude), across[:, None] * np.sin(longitude)
    points = np.stack(np.broadcast_arrays(x, y[:, None], z), axis=2)
    corner = np.arange((rows + 1) * (columns + 1)).reshape(rows + 1, columns + 1)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], axis=2), np.stack([a, c, d], axis=2)]).reshape(-1, 3)
    return Mesh(radius * points.reshape(-1, 3), faces)


def solid(mesh: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


@given(st.lists(st.tuples(*[st.sampled_from([0.0, -0.0, 1.0, -1.5, 1e-40, 3e38])] * 3), min_size=1, max_size=40))
def test_positions_are_the_distinct_rows_in_their_order(rows):
    vertices = np.array(rows, np.float32)
    distinct, of_vertex = positions(vertices)
    np.testing.assert_array_equal(distinct[of_vertex], vertices)
    expected = list(dict.fromkeys(tuple(row) for row in (vertices + np.float32(0)).tolist()))
    assert [tuple(row) for row in (distinct + np.float32(0)).tolist()] == expected


def test_two_positions_with_one_key(monkeypatch):
    """What is next to never is right all the same."""
    zeros = tuple(np.uint64(0) for _ in range(3))
    monkeypatch.setattr("refine_batch.mesh.welding._ODD", zeros)
    vertices = np.array([[1, 2, 3], [1, 5, 3], [1, 2, 3], [4, 2, 3]], np.float32)
    distinct, of_vertex = positions(vertices)
    assert len(distinct) == 3
    np.testing.assert_array_equal(distinct[of_vertex], vertices)


def test_a_seam_and_poles_are_closed():
    source = split_sphere()
    assert not solid(source).is_watertight
    surface, place = weld(source)
    # 7 rows of 12 between two poles.
    assert (len(surface.vertices), len(surface.faces)) == (7 * 12 + 2, 2 * 12 * 7)
    assert solid(surface).is_watertight
    assert solid(surface).euler_number == 2
    np.testing.assert_array_equal(surface.vertices[place], source.vertices)


@pytest.mark.parametrize("mesh", [box(), icosphere(2)], ids=["box", "sphere"])
def test_flat_shading_is_welded_to_what_it_was_made_of(mesh):
    source = flat_shaded(mesh)
    surface, place = weld(source)
    assert len(surface.vertices) == len(mesh.vertices)
    np.testing.assert_array_equal(surface.vertices[surface.faces], mesh.vertices[mesh.faces])
    np.testing.assert_array_equal(surface.vertices[place], source.vertices)


def test_what_is_one_surface_stays_as_it_is():
    mesh = icosphere(2)
    surface, place = weld(mesh)
    np.testing.assert_array_equal(surface.vertices, mesh.vertices)
    np.testing.assert_array_equal(surface.faces, mesh.faces)
    np.testing.assert_array_equal(place, np.arange(len(mesh.vertices)))


def test_strays_go_and_faces_without_an_area_go():
    """Wherever they stand in the file: a face may name one corner twice, or three corners of one line."""
    ball = icosphere(1)
    line = np.array([[0.0, 0.0, 0.0], [0.1, 0.1, 0.1], [0.2, 0.2, 0.2]])
    vertices = np.concatenate([[[9.0, 9.0, 9.0]], ball.vertices, line])
    last = len(vertices)
    faces = np.concatenate([[[1, 1, 2]], ball.faces + 1, [[last - 3, last - 2, last - 1]], [[0, 0, 0]]])
    surface, place = weld(Mesh(vertices, faces))
    np.testing.assert_array_equal(surface.vertices, ball.vertices)
    np.testing.assert_array_equal(surface.faces, ball.faces)
    assert place.tolist() == [-1, *range(len(ball.vertices)), -1, -1, -1]


def test_a_face_twice_is_one_whichever_way_it_is_wound():
    ball = icosphere(1)
    double = Mesh(ball.vertices, np.concatenate([ball.faces, ball.faces[:, [0, 2, 1]], ball.faces[:5, [1, 2, 0]]]))
    surface, _ = weld(double)
    np.testing.assert_array_equal(surface.faces, ball.faces)
    # So does one whose backs have vertices of their own.
    backs = Mesh(ball.vertices, ball.faces[:, ::-1])
    np.testing.assert_array_equal(weld(joined(ball, backs))[0].faces, ball.faces)


def halves(apart: float) -> Mesh:
    """Two halves of a box cut through its middle, whose borders lie `apart`."""
    cut = np.array([[0, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1]], np.float64)
    left, right = cut - np.array([0.5, 0, 0]), cut + np.array([0.5, 0, 0])
    sides = [[k, (k + 1) % 4, 4 + (k + 1) % 4] for k in range(4)] + [[k, 4 + (k + 1) % 4, 4 + k] for k in range(4)]
    one = Mesh(np.concatenate([left, cut]), [*sides, [0, 2, 1], [0, 3, 2]])
    other = Mesh(np.concatenate([cut + np.array([apart, 0, 0]), right]), [*sides, [4, 5, 6], [4, 6, 7]])
    return joined(one, other)


@pytest.mark.parametrize(("apart", "closed"), [(0.0, True), (0.5 * TOLERANCE, True), (2.0 * TOLERANCE, False)])
def test_border_vertices_within_the_tolerance_are_one(apart, closed):
    """A seam that was rounded apart; the tolerance is a share of the extent, which is 1."""
    source = halves(apart)
    surface, place = weld(source)
    assert solid(surface).is_watertight == closed
    assert len(surface.vertices) == (12 if closed else 16)
    np.testing.assert_allclose(surface.vertices[place], source.vertices, atol=1.1 * TOLERANCE)
    if closed:
        assert (place[4:8] == place[8:12]).all()
    large = weld(Mesh(source.vertices * 1000, source.faces))[0]
    assert len(large.vertices) == len(surface.vertices)


def test_surfaces_without_a_border_are_never_joined():
    """Two closed boxes with hardly anything between them."""
    two = joined(box(1, 1, 1), box(1, 1, 1, centre=(1.0 + 2e-7, 0, 0)))
    assert len(np.unique(two.vertices, axis=0)) == 16
    assert len(weld(two)[0].vertices) == 16


@given(st.integers(4, 30), st.integers(1, 60), st.integers(0, 1000))
def test_any_triangles_become_a_surface_that_can_be_used(vertices, faces, seed):
    mesh = soup(vertices, faces, seed)
    rounded = Mesh(np.round(mesh.vertices * 4) / 4, mesh.faces)
    surface, place = weld(rounded)
    kept = place >= 0
    np.testing.assert_array_equal(surface.vertices[place[kept]], rounded.vertices[kept])
    if not len(surface.faces):
        return
    assert sorted(np.unique(surface.faces)) == list(range(len(surface.vertices)))
    assert len(np.unique(np.sort(surface.faces, axis=1), axis=0)) == len(surface.faces)
    assert len(np.unique(surface.vertices, axis=0)) == len(surface.vertices)
    a, b, c = (surface.vertices[surface.faces[:, k]].astype(np.float64) for k in range(3))
    assert (np.linalg.norm(np.cross(b - a, c - a), axis=1) > 0).all()
    # Nothing of the surface is lost: as a set of triangles by their corners' places.
    a, b, c = (rounded.vertices[rounded.faces[:, k]].astype(np.float64) for k in range(3))
    with_area = (np.cross(b - a, c - a) != 0).any(axis=1)
    before = {tuple(sorted(map(tuple, t))) for t in rounded.vertices[rounded.faces[with_area]].tolist()}
    assert before == {tuple(sorted(map(tuple, t))) for t in surface.vertices[surface.faces].tolist()}


def test_nothing_of_a_mesh_without_area_is_left():
    surface, place = weld(Mesh(np.zeros((3, 3)), [[0, 1, 2]]))
    assert (len(surface.vertices), len(surface.faces)) == (0, 0)
    assert place.tolist() == [-1, -1, -1]
