"""Turns and shifts of a picture as a whole, against cameras whose roll and principal point are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from shapes import armchair

from refine_batch.cameras.camera import Camera
from refine_batch.refinement.picture_plane import aligned
from refine_batch.render import hard_silhouettes

SIZE = 160
TRUE = Camera(35.0, 20.0, 2.4, roll=4.0, offset_x=0.05, offset_y=-0.1)
CHAIR = armchair()
ALL = np.ones((SIZE, SIZE), bool)


def seen(camera: Camera) -> np.ndarray:
    return hard_silhouettes(CHAIR, [camera], SIZE)[0]


@pytest.mark.parametrize(
    ("roll", "right", "up"), [(5.0, 0.0, 0.0), (0.0, 0.06, 0.0), (0.0, 0.0, -0.06), (-4.0, 0.03, 0.05)]
)
def test_a_known_roll_and_principal_point_are_found_again(roll, right, up):
    wrong = replace(TRUE, roll=TRUE.roll + roll, offset_x=TRUE.offset_x + right, offset_y=TRUE.offset_y + up)
    found = aligned(wrong, seen(wrong), seen(TRUE), ALL, 5.0)
    assert found is not None
    assert found.roll == pytest.approx(TRUE.roll, abs=0.15)
    assert (found.offset_x, found.offset_y) == pytest.approx((TRUE.offset_x, TRUE.offset_y), abs=0.002)
    # Nothing else is touched.
    assert replace(found, roll=0.0, offset_x=0.0, offset_y=0.0) == replace(TRUE, roll=0.0, offset_x=0.0, offset_y=0.0)


def test_what_is_not_known_says_nothing():
    """Something stands before the chair's left half; its edge is no outline."""
    wrong = replace(TRUE, roll=TRUE.roll + 4.0)
    known = ALL.copy()
    known[:, : SIZE // 2] = False
    found = aligned(wrong, seen(wrong), seen(TRUE) & known, known, 5.0)
    assert found is not None
    assert found.roll == pytest.approx(TRUE.roll, abs=0.8)


def test_nothing_is_found_beyond_the_trust():
    wrong = replace(TRUE, roll=TRUE.roll + 8.0)
    assert aligned(wrong, seen(wrong), seen(TRUE), ALL, 5.0) is not None
    assert aligned(wrong, seen(wrong), seen(TRUE), ALL, 3.0) is None
    # By small steps neither.
    halfway = replace(TRUE, roll=TRUE.roll + 4.0)
    assert aligned(halfway, seen(halfway), seen(TRUE), ALL, 3.0, given=wrong) is None


def test_a_camera_that_may_point_anywhere_is_no_fault():
    wrong = replace(TRUE, roll=TRUE.roll + 5.0)
    found = aligned(wrong, seen(wrong), seen(TRUE), ALL, 120.0)
    assert found is not None
    assert found.roll == pytest.approx(TRUE.roll, abs=0.15)


def test_where_there_is_no_outline_nothing_is_found():
    nothing = np.zeros((SIZE, SIZE), bool)
    for one, other in ((nothing, seen(TRUE)), (seen(TRUE), nothing), (seen(TRUE), ALL)):
        assert aligned(TRUE, one, other, ALL, 5.0) is None
