"""What a result says of an instance's several views, and of how much of its pictures is known."""

from __future__ import annotations

import numpy as np
import pytest
from shapes import icosphere

from refine_batch import Camera, Instance, Mesh, RefineConfig, refine
from refine_batch.instance import PictureView
from refine_batch.render import hard_silhouettes

SIZE = 48
FRONT, SIDE = Camera(0, 10, 2.0), Camera(90, 10, 2.0)
BALL = icosphere(2, 0.5)
WIDE = Mesh(BALL.vertices * np.float32([1.2, 0.9, 1.0]), BALL.faces)
CONFIG = RefineConfig(
    method="large-steps", steps=3, image_size=SIZE, guard=False, camera_error="0", symmetry_axis="none"
)
BLANK = np.zeros((SIZE, SIZE, 3), np.uint8)


def silhouette(mesh: Mesh, camera: Camera) -> np.ndarray:
    return hard_silhouettes(mesh, [camera], SIZE)[0]


def iou(mesh: Mesh, camera: Camera, mask: np.ndarray, known: np.ndarray | bool = True) -> float:
    seen = silhouette(mesh, camera)
    return (seen & mask & known).sum() / ((seen | mask) & known).sum()


def test_the_first_view_has_its_own_figure_and_all_have_their_mean():
    masks = [silhouette(WIDE, camera) for camera in (FRONT, SIDE)]
    one = Instance("one", BALL, BLANK, masks[0], FRONT)
    two = Instance("two", BALL, BLANK, masks[0], FRONT, views=(PictureView(masks[1], SIDE),))
    alone, both = refine([one, two], CONFIG, device="cpu")
    assert alone.before.iou_2d_views is alone.after.iou_2d_views is None
    for mesh, found in ((BALL, both.before), (both.mesh, both.after)):
        ious = [iou(mesh, camera, mask) for camera, mask in zip((FRONT, SIDE), masks, strict=True)]
        assert found.iou_2d == pytest.approx(ious[0])
        assert found.iou_2d_views == pytest.approx(np.mean(ious))
        assert ious[0] != pytest.approx(ious[1], abs=0.01)


def test_the_share_that_is_known_is_that_of_mesh_and_object_in_all_views():
    mask, other = silhouette(WIDE, FRONT), silhouette(WIDE, SIDE)
    known = np.ones((SIZE, SIZE), bool)
    known[:, SIZE // 2 :] = False
    whole = Instance("whole", BALL, BLANK, mask, FRONT)
    half = Instance("half", BALL, BLANK, mask & known, FRONT, known=known)
    beside = Instance("beside", BALL, BLANK, mask & known, FRONT, known=known, views=(PictureView(other, SIDE),))
    found = [result.known_share for result in refine([whole, half, beside], CONFIG, device="cpu")]
    there = silhouette(BALL, FRONT) | (mask & known)
    sides = silhouette(BALL, SIDE) | other
    expected = [(there & known).sum() / there.sum()]
    expected += [((there & known).sum() + sides.sum()) / (there.sum() + sides.sum())]
    assert found == pytest.approx([1.0, *expected])
    assert 0.4 < expected[0] < 0.6 < expected[1] < 0.8
