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


def test_what_is_said_to_be_unknown_is_not_missing():
    assert occlusion_doubt(DISC, DISC & (X < 72), known=X < 72) is None


def test_nothing_seen_or_nothing_in_the_mask_is_somebody_else_s_finding():
    assert occlusion_doubt(np.zeros_like(DISC), DISC) is None
    assert occlusion_doubt(DISC, np.zeros_like(DISC)) is None
