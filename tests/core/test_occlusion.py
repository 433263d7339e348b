"""Masks of which a part is hidden without anyone having said so, drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from refine_batch.refinement.occlusion import occlusion_doubt

Y, X = np.mgrid[:120, :120]
DISC = (X - 60) ** 2 + (Y - 60) ** 2 < 40**2


def test_a_side_that_is_hidden_is_told_with_its_share():
    reason = occlusion_doubt(DISC, DISC & (X < 72))
    assert "hidden" in reason
    assert "32%" in reason


def test_a_bar_across_is_told_by_the_pieces_it_leaves():
    reason = occlusion_doubt(DISC, DISC & (np.abs(X - 60) > 8))
    assert "across" in reason


@pytest.mark.parametrize(
    "mask",
    [
        DISC,
        # The mesh is too fat all around, too wide, or beside its place.
        (X - 60) ** 2 + (Y - 60) ** 2 < 31**2,
        ((X - 60) / 0.75) ** 2 + (Y - 60) ** 2 < 40**2,
        (X - 68) ** 2 + (Y - 60) ** 2 < 40**2,
        # It is smaller than the object.
        (X - 60) ** 2 + (Y - 60) ** 2 < 50**2,
        # A thin gap is one of the shape's own.
        DISC & (np.abs(X - 60) > 1),
    ],
)
def test_what_is_wrong_with_a_shape_is_no_occluder(mask):
    assert occlusion_doubt(DISC, mask) is None


SQUARE = (np.abs(X - 60) < 30) & (np.abs(Y - 60) < 30)


@pytest.mark.parametrize("degrees", [0, 33, 90, 217])
def test_a_straight_edge_across_the_mesh_is_told_where_less_is_hidden(degrees):
    angle = np.radians(degrees)
    cut = DISC & ((X - 60) * np.cos(angle) + (Y - 60) * np.sin(angle) < 22)
    assert "straight line with 1" in occlusion_doubt(DISC, cut)


def test_an_edge_that_the_camera_s_fit_has_moved_out_of_sight_is_told_from_the_given_one():
    cut = DISC & (X < 82)
    fitted = (X - 50) ** 2 + (Y - 60) ** 2 < 32**2
    assert occlusion_doubt(fitted, cut) is None
    assert "straight line" in occlusion_doubt(fitted, cut, as_given=DISC)
    # A fit that meets the mask explains it.
    assert occlusion_doubt(cut, cut, as_given=DISC) is None


@pytest.mark.parametrize(
    "mask",
    [
        # The mesh is out of its place, and of another size.
        (np.abs(X - 46) < 30) & (np.abs(Y - 60) < 30),
        (np.abs(X - 54) < 26) & (np.abs(Y - 57) < 26),
        # It is too wide, on both sides.
        (np.abs(X - 60) < 22) & (np.abs(Y - 60) < 30),
    ],
)
def test_what_is_out_of_its_place_is_not_cut_off(mask):
    assert occlusion_doubt(SQUARE, mask) is None


def test_what_is_said_to_be_unknown_is_not_missing():
    assert occlusion_doubt(DISC, DISC & (X < 72), known=X < 72) is None


def test_what_lies_beside_unknown_pixels_is_not_deep_in_the_picture():
    # The object goes on beyond the left edge, as far as anyone can tell; so may the strip below it.
    seen = (X < 90) & (np.abs(Y - 60) < 12)
    mask = seen & (Y < 50)
    known = X > 0
    assert "hidden" in occlusion_doubt(seen | (X < 5), mask & (X > 60), known=None)
    tall = (X < 12) & (Y > 20) & (Y < 110)
    assert occlusion_doubt(seen | tall, seen, known=known) is None


def test_nothing_seen_or_nothing_in_the_mask_is_somebody_else_s_finding():
    assert occlusion_doubt(np.zeros_like(DISC), DISC) is None
    assert occlusion_doubt(DISC, np.zeros_like(DISC)) is None
