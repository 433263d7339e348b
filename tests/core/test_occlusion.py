"""Masks of which a part is hidden without anyone having said so, drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from refine_batch.refinement.occlusion import Line, cut_off, probably_hidden

Y, X = np.mgrid[:120, :120]
DISC = (X - 60) ** 2 + (Y - 60) ** 2 < 40**2


def test_a_side_that_is_hidden_is_told_with_its_share():
    found = probably_hidden(DISC, DISC & (X < 72))
    assert "hidden" in found.reason
    assert "32%" in found.reason
    # All beyond the line, and the pixels at it, where the mask ends.
    np.testing.assert_array_equal(found.where, X >= 70)


def test_a_bar_across_is_told_by_the_pieces_it_leaves():
    bar = np.abs(X - 60) <= 8
    found = probably_hidden(DISC, DISC & ~bar)
    assert "across" in found.reason
    assert found.where[bar & DISC].all()
    # Round it as well, where the object may go on: the bar's own length beyond the disc, and little of the disc.
    far = (np.abs(X - 60) > 11) & DISC
    assert not found.where[far].any()
    assert found.where[60 - 44, 60]
    assert not found.where[:10].any()


def test_what_is_missing_deep_inside_is_left_open_by_itself():
    """No line ends the mask there: a corner is bitten out."""
    bite = (X - 85) ** 2 + (Y - 60) ** 2 < 36**2
    found = probably_hidden(DISC, DISC & ~bite)
    assert found.where[DISC & bite].all()
    assert not found.where[DISC & (X < 40)].any()


def test_a_line_s_far_side_begins_a_little_before_its_end():
    line = Line(0.2, 0.9, (0.0, 1.0), 71.0)
    np.testing.assert_array_equal(line.past(DISC.shape), X > 69)
    slanted = Line(0.2, 0.9, (0.6, -0.8), 3.0)
    np.testing.assert_array_equal(slanted.past(DISC.shape), 0.6 * Y - 0.8 * X > 1.0)


def test_the_line_is_where_the_mask_ends():
    line = cut_off(DISC, DISC & (Y < 80))
    assert line.across == pytest.approx((1.0, 0.0), abs=1e-6)
    assert line.end == 79
    assert line.beyond == pytest.approx(np.count_nonzero(DISC & (Y > 79)) / np.count_nonzero(DISC))
    assert line.both > 0.9


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
    assert probably_hidden(DISC, mask) is None


SQUARE = (np.abs(X - 60) < 30) & (np.abs(Y - 60) < 30)


@pytest.mark.parametrize("degrees", [0, 33, 90, 217])
def test_a_straight_edge_across_the_mesh_is_told_where_less_is_hidden(degrees):
    angle = np.radians(degrees)
    cut = DISC & ((X - 60) * np.cos(angle) + (Y - 60) * np.sin(angle) < 22)
    found = probably_hidden(DISC, cut)
    assert "straight line with 1" in found.reason
    # Nothing is known of what was cut off, and all but the edge of the rest.
    assert found.where[DISC & ~cut].all()
    assert np.count_nonzero(found.where & cut) < 0.06 * np.count_nonzero(cut)


def test_an_edge_that_the_camera_s_fit_has_moved_out_of_sight_is_told_from_the_given_one():
    cut = DISC & (X < 82)
    fitted = (X - 50) ** 2 + (Y - 60) ** 2 < 32**2
    assert probably_hidden(fitted, cut) is None
    assert "straight line" in probably_hidden(fitted, cut, as_given=DISC).reason
    # A fit that meets the mask explains it.
    assert probably_hidden(cut, cut, as_given=DISC) is None


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
    assert probably_hidden(SQUARE, mask) is None


def test_what_is_said_to_be_unknown_is_not_missing():
    assert probably_hidden(DISC, DISC & (X < 72), known=X < 72) is None


def test_what_lies_beside_unknown_pixels_is_not_deep_in_the_picture():
    # The object goes on beyond the left edge, as far as anyone can tell; so may the strip below it.
    seen = (X < 90) & (np.abs(Y - 60) < 12)
    mask = seen & (Y < 50)
    known = X > 0
    assert "hidden" in probably_hidden(seen | (X < 5), mask & (X > 60), known=None).reason
    tall = (X < 12) & (Y > 20) & (Y < 110)
    assert probably_hidden(seen | tall, seen, known=known) is None


def test_nothing_seen_or_nothing_in_the_mask_is_somebody_else_s_finding():
    assert probably_hidden(np.zeros_like(DISC), DISC) is None
    assert probably_hidden(DISC, np.zeros_like(DISC)) is None
