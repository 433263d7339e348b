"""Pieces of a mesh that float apart from it."""

from __future__ import annotations

import numpy as np
from shapes import box, flat_shaded, icosphere, joined

from refine_batch.mesh.pieces import without_small_pieces


def test_floating_pieces_below_the_share_go_and_the_others_stay():
    body, crumb, chip = box(1, 1, 1), box(0.1, 0.1, 0.1, centre=(2, 0, 0)), box(0.3, 0.3, 0.3, centre=(0, 2, 0))
    mesh = joined(crumb, body, chip)
    # Surfaces 0.06, 6 and 0.54 of 6.6.
    for share, expected, dropped in ((0.0, mesh, 0), (0.02, joined(body, chip), 1), (0.5, body, 2), (0.99, body, 2)):
        found, number = without_small_pieces(mesh, share)
        assert number == dropped
        assert np.array_equal(found.vertices, expected.vertices)
        assert np.array_equal(found.faces, expected.faces)


def test_corners_at_one_place_hold_a_piece_together_whatever_their_vertices():
    every = flat_shaded(icosphere(2))
    assert without_small_pieces(every, 0.5) == (every, 0)


def test_the_largest_piece_stays_even_of_many_alike():
    many = joined(*(box(0.1, 0.1, 0.1, centre=(k, 0, 0)) for k in range(10)))
    found, number = without_small_pieces(many, 0.5)
    assert (len(found.faces), number) == (12, 9)


def test_a_vertex_that_no_face_uses_is_no_piece():
    ball = icosphere(1)
    stray = joined(type(ball)([[9, 9, 9]], np.zeros((0, 3), np.int32)), ball)
    assert without_small_pieces(stray, 0.5) == (stray, 0)
