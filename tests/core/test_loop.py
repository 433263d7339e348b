"""The loop that every method shares, driven by courses whose losses are written down."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from shapes import box, icosphere
from subjects import subject, view

from refine_batch.cameras.camera import Camera
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.losses import LOSSES
from refine_batch.methods import MethodOutput
from refine_batch.methods.loop import Iterate, take
from refine_batch.methods.scene import Scene
from refine_batch.render import load_renderer

CPU = torch.device("cpu")
CAMERA = Camera(30.0, 20.0, 2.0)
ONE = subject("one", icosphere(0, 0.5), icosphere(0, 0.5), CAMERA, 16).seen_by([CAMERA], (1.0, 1.0, 1.0))
TWO = subject("two", box(1.0, 0.6, 0.8), box(1.0, 0.6, 0.8), CAMERA, 16, axis="none")
# Seen twice: the instances' views are of unlike number.
TWO = type(TWO)("two", TWO.mesh, TWO.image, (*TWO.views, view(TWO.mesh, Camera(90, 0, 2), 16))).seen_by(
    [CAMERA, Camera(90, 0, 2)], (1.0, 1.0, 1.0)
)


class Scripted:
    """A course whose total at each step is written down; at step k everything has moved by k hundredths."""

    def __init__(self, instances, totals: np.ndarray, settled_from: int = 0):
        self.scene = Scene.of(instances, load_renderer("warp"), CPU)
        self._totals = torch.as_tensor(np.asarray(totals), dtype=torch.float32).reshape(len(totals), -1)
        self._settled_from = settled_from
        self.advanced: list[int] = []

    def iterate(self, step: int) -> Iterate:
        batch, moved = self.scene.batch, 0.01 * step
        # Two thirds of a total are of the first loss, the rest is of the last but two.
        terms = torch.zeros(len(LOSSES), len(batch))
        terms[0], terms[6] = self._totals[step] * 2 / 3, self._totals[step] / 3
        confidence = torch.full(batch.vertex_mask.shape, moved)
        return Iterate(terms, batch.vertices + moved, confidence, torch.full_like(self.scene.cameras.change, moved))

    def advance(self, step: int) -> None:
        self.advanced.append(step)

    def settled(self, step: int) -> bool:
        return step + 1 == len(self._totals) or step >= self._settled_from


def run(totals, settled_from: int = 0, patience: int | None = None, instances=(ONE,)):
    course = Scripted(instances, totals, settled_from)
    return course, take(course, instances, len(course._totals), patience)


def assert_is_step(found, instance, step: int, total: float) -> None:
    assert isinstance(found, MethodOutput), found
    np.testing.assert_allclose(found.vertices, instance.mesh.vertices + np.float32(0.01 * step), atol=1e-6)
    assert sum(found.losses.values()) == pytest.approx(total)
    assert found.losses["silhouette"] == pytest.approx(total * 2 / 3)
    for seen, camera in zip(instance.views, found.cameras, strict=True):
        assert camera.distance == pytest.approx(seen.camera.distance * math.exp(0.01 * step))
        assert camera.elevation == pytest.approx(seen.camera.elevation + math.degrees(0.01 * step))
    if instance.plane is not None:
        np.testing.assert_allclose(found.symmetry_confidence, 0.01 * step, atol=1e-7)
    else:
        assert found.symmetry_confidence is None


def test_the_lowest_iterate_is_returned_whole():
    course, [found] = run([5.0, 3.0, 4.0, 1.0, 2.0])
    assert_is_step(found, ONE, 3, 1.0)
    assert found.steps == 5
    np.testing.assert_allclose(found.loss_curve, [5, 3, 4, 1, 2])
    # After the last iterate nothing moves any more.
    assert course.advanced == [0, 1, 2, 3]


def test_before_losses_compare_none_is_the_best():
    _, [found] = run([0.1, 0.2, 5.0, 4.0, 4.5], settled_from=2)
    assert_is_step(found, ONE, 3, 4.0)
    _, [found] = run([0.1, 0.2, 0.3], settled_from=99)
    assert_is_step(found, ONE, 2, 0.3)


def test_of_equal_ones_the_first():
    _, [found] = run([2.0, 1.0, 1.0, 1.0])
    assert_is_step(found, ONE, 1, 1.0)


def test_each_instance_has_its_own_best():
    _, [one, two] = run([[3.0, 9.0], [1.0, 8.0], [2.0, 7.0]], instances=(ONE, TWO))
    assert_is_step(one, ONE, 1, 1.0)
    assert_is_step(two, TWO, 2, 7.0)
    assert len(two.cameras) == 2
    np.testing.assert_allclose(two.loss_curve, [9, 8, 7])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_never_the_best(bad):
    _, [one, two] = run([[bad, 9.0], [3.0, bad], [bad, bad], [4.0, bad]], instances=(ONE, TWO))
    assert_is_step(one, ONE, 1, 3.0)
    assert_is_step(two, TWO, 0, 9.0)
    _, [one, two] = run([[bad, 9.0], [bad, 8.0]], instances=(ONE, TWO))
    assert isinstance(one, InstanceError)
    assert one.kind is ErrorKind.DIVERGED
    assert_is_step(two, TWO, 1, 8.0)


def test_patience_ends_what_no_longer_falls():
    """By a thousandth at least: after two settled steps without that it is over, and what comes then is not seen."""
    curve = [9.0, 5.0, 4.0, 4.0 * 0.9995, 4.1, 0.1, 0.1]
    course, [found] = run(curve, settled_from=1, patience=2)
    # What is lower by less than a thousandth is the best all the same.
    assert_is_step(found, ONE, 3, 4.0 * 0.9995)
    assert found.steps == 5
    np.testing.assert_allclose(found.loss_curve, curve[:5], rtol=1e-6)
    assert len(course.advanced) == 4
    _, [found] = run(curve, settled_from=1)
    assert_is_step(found, ONE, 5, 0.1)


def test_steps_before_losses_compare_do_not_try_patience():
    _, [found] = run([1.0, 1.0, 1.0, 1.0, 3.0, 2.0, 2.0, 2.0, 0.5], settled_from=4, patience=2)
    assert found.steps == 8
    assert_is_step(found, ONE, 5, 2.0)


def test_the_batch_ends_when_all_have_stopped_and_none_is_touched_after_its_own():
    totals = [[3.0, 9.0], [3.0, 8.0], [1.0, 7.0], [1.0, 7.0], [0.5, 6.0], [0.5, 6.0], [0.5, 6.0]]
    course, [one, two] = run(totals, patience=1, instances=(ONE, TWO))
    assert (one.steps, two.steps) == (2, 4)
    assert_is_step(one, ONE, 0, 3.0)
    assert_is_step(two, TWO, 2, 7.0)
    assert len(course.advanced) == 3
