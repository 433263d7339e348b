"""The distance of two outlines, against shapes for which it is known."""

import numpy as np
import pytest

from refine_batch.figures.outlines import outline, outline_distance


def square(low: int, high: int, size: int = 40) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[low:high, low:high] = True
    return mask


def disc(radius: float, size: int = 400) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size / 2 + 0.5
    return np.hypot(x, y) <= radius


def test_a_mask_is_no_distance_from_itself():
    assert outline_distance(square(5, 20), square(5, 20)) == 0.0


@pytest.mark.parametrize("gap", [3, 10, 25])
def test_concentric_discs_lie_apart_by_the_difference_of_their_radii(gap):
    assert outline_distance(disc(100), disc(100 + gap)) == pytest.approx(gap, abs=0.5)


def test_nested_squares():
    """Of outline pixels the inner ones are all 3 away; of the outer ones those beyond the inner's corners more."""
    inner, outer = square(13, 27), square(10, 30)
    corners = [np.hypot(3, k) for k in (1, 2, 3)] * 2
    corners.remove(np.hypot(3, 3))
    distances = [3.0] * (4 * 13) + [3.0] * (4 * 14) + corners * 4
    assert len(distances) == outline(inner).sum() + outline(outer).sum()
    assert outline_distance(inner, outer) == pytest.approx(np.mean(distances))


def test_thin_or_thick_does_not_matter_for_a_shift():
    """Bars of any width, moved along their short side by 2: what changes is the overlap, hardly the distance."""

    def bar(width: int, top: int) -> np.ndarray:
        mask = np.zeros((100, 100), bool)
        mask[top : top + width, 5:95] = True
        return mask

    assert outline_distance(bar(1, 40), bar(1, 42)) == pytest.approx(2.0)
    assert outline_distance(bar(30, 40), bar(30, 42)) == pytest.approx(1.5, abs=0.4)


def test_the_image_border_belongs_to_the_outline():
    assert outline(np.ones((5, 5), bool)).sum() == 16


def test_nothing_is_infinitely_far():
    assert outline_distance(square(5, 20), np.zeros((40, 40), bool)) == float("inf")


def test_where_both_end_because_no_more_is_known_there_is_no_agreement():
    near, far = square(5, 20), square(5, 24)
    known = np.ones_like(near)
    known[:, :12] = False
    # Two sides of the square are four pixels apart, and hardly closer for what is hidden of them.
    apart = outline_distance(near, far)
    told = outline_distance(near, far, known)
    assert told > apart
    assert told > outline_distance(near & known, far & known)
    assert outline_distance(near, near, known) == 0.0
    assert outline_distance(near, far, np.ones_like(near)) == apart


def test_outlines_of_which_nothing_is_known_say_nothing():
    known = np.zeros((40, 40), bool)
    known[10:15, 10:15] = True
    assert outline_distance(square(5, 20), square(5, 24), known) == 0.0
    assert outline_distance(square(5, 20), square(30, 35), known) == float("inf")
