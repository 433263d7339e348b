"""Instances that are seen more than once, pictures that are known in part, and cameras of every view."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from shapes import box, icosphere
from subjects import iou, subject, view

from refine_batch.cameras.camera import Camera
from refine_batch.config import RefineConfig
from refine_batch.mesh import Mesh
from refine_batch.methods import MethodOutput, PreparedInstance, load_method
from refine_batch.methods.large_steps import Descent
from refine_batch.methods.scene import Scene
from refine_batch.render import load_renderer

CPU = torch.device("cpu")
SIZE = 32
FRONT, SIDE, ABOVE = Camera(0, 10, 2.0), Camera(90, 10, 2.0), Camera(20, 70, 2.2)
BALL = icosphere(2, 0.5)
METHODS = pytest.mark.parametrize("method", ["refine", "large-steps"])


def seen(
    name: str, true: Mesh, cameras=(FRONT,), weights=None, mesh: Mesh = BALL, size: int = SIZE
) -> PreparedInstance:
    weights = weights or [1.0] * len(cameras)
    first = subject(name, mesh, true, cameras[0], size)
    views = tuple(view(true, c, size, weight=w) for c, w in zip(cameras, weights, strict=True))
    return replace(first, views=views)


def run(method: str, *batch: PreparedInstance, **options) -> list[MethodOutput]:
    config = RefineConfig(method=method, **{"steps": 12, "image_size": SIZE, **options})
    outcomes = load_method(method)(list(batch), config, CPU)
    assert all(isinstance(outcome, MethodOutput) for outcome in outcomes), outcomes
    return outcomes


def stretched(*factors: float) -> Mesh:
    return Mesh(BALL.vertices * np.array(factors, np.float32), BALL.faces)


WIDE = stretched(1.2, 0.9, 1.0)


def test_losses_of_views_are_summed_by_their_weights():
    batch = [
        seen("a", WIDE, (FRONT, SIDE), [1.0, 0.5]),
        seen("b", WIDE),
        seen("c", WIDE, (FRONT,) * 3, [2.0, 0.0, 3.0]),
    ]
    scene = Scene.of(batch, load_renderer("warp"), CPU)
    assert scene.mesh_of_view.tolist() == [0, 0, 1, 2, 2, 2]
    of_view = torch.tensor([1.0, 10.0, 100.0, 1.0, 1000.0, 4.0])
    torch.testing.assert_close(scene.per_instance(of_view), torch.tensor([6.0, 100.0, 14.0]))


def test_changes_of_cameras_are_summed_by_instance():
    """In squared standard deviations, whatever the view's weight: it is the camera's own likelihood."""
    batch = [seen("a", WIDE, (FRONT, SIDE), [1.0, 0.0]).seen_by([FRONT, SIDE], (0.1, 0.2, 0.5)), seen("b", WIDE)]
    scene = Scene.of(batch, load_renderer("warp"), CPU)
    change = torch.tensor([[0.1, 0.0, 0.0], [0.0, 0.4, 0.5], [9.0, 9.0, 9.0]], dtype=torch.float64)
    torch.testing.assert_close(scene.camera_cost(change), torch.tensor([1.0 + 4.0 + 1.0, 0.0]))


def test_pixels_at_a_lower_size_are_means_of_what_is_known():
    """Of four pixels two are known, of which one is covered: half of it is known, and half of that is covered."""
    mask, known = np.zeros((4, 4), np.float32), np.ones((4, 4), bool)
    mask[0, 0], mask[0, 1] = 1.0, 1.0
    mask[2:, 2:] = [[0.25, 0.75], [1.0, 0.0]]
    known[0, 1] = known[1, 1] = False
    instance = replace(seen("a", WIDE), views=(replace(seen("a", WIDE).views[0], mask=mask, known=known),))
    scene = Scene.of([instance], load_renderer("warp"), CPU)
    torch.testing.assert_close(scene.mask_at(4)[0], torch.from_numpy(mask))
    torch.testing.assert_close(scene.mask_at(2)[0], torch.tensor([[0.5, 0.0], [0.0, 0.5]]))
    torch.testing.assert_close(scene.known_at(2)[0], torch.tensor([[0.5, 1.0], [1.0, 1.0]]))
    whole = replace(instance, views=(replace(instance.views[0], known=None),))
    everything = Scene.of([whole], load_renderer("warp"), CPU)
    assert everything.known is everything.known_at(2) is None
    torch.testing.assert_close(everything.mask_at(2)[0], torch.tensor([[0.5, 0.0], [0.0, 0.5]]))


def test_what_other_views_see_of_the_first_ones_rays():
    """sin² of the angle between the rays, as far as the view counts; of several the one that sees most."""
    far = Camera(0, 0, 1e4), Camera(90, 0, 1e4), Camera(30, 0, 1e4)
    for cameras, weights, hidden in (
        (far[:1], [1.0], 1.0),
        (far[:2], [1.0, 1.0], 0.0),
        (far[:2], [1.0, 0.25], 0.75),
        (far[:2], [1.0, 7.0], 0.0),
        ((far[0], far[2]), [1.0, 1.0], 0.75),
        ((far[0], far[2], far[1]), [1.0, 1.0, 0.5], 0.5),
    ):
        scene = Scene.of([seen("a", WIDE, cameras, weights)], load_renderer("warp"), CPU)
        torch.testing.assert_close(scene.hidden, torch.full_like(scene.hidden, hidden), rtol=0, atol=1e-3)


@METHODS
def test_views_of_unlike_number_share_a_batch(method):
    """Each instance as if it were alone, to the last bit."""
    batch = [
        seen("one", WIDE),
        seen("two", WIDE, (FRONT, SIDE, ABOVE), [1.0, 0.5, 2.0]).seen_by((FRONT, SIDE, ABOVE), (0.1, 0.1, 0.1)),
        seen("three", stretched(0.8, 1.1, 1.2), (SIDE, ABOVE), mesh=box(1.0, 0.8, 0.9)),
    ]
    for instance, found in zip(batch, run(method, *batch, steps=8), strict=True):
        [alone] = run(method, instance, steps=8)
        np.testing.assert_array_equal(found.vertices, alone.vertices)
        assert found.cameras == alone.cameras
        assert len(found.cameras) == len(instance.views)


# Without what `refine` changes as a whole: where that has no gradient Adam makes steps of a difference in the last bit.
STILL = {"whole_learning_rate": 0.0}


@METHODS
def test_a_view_of_no_weight_changes_nothing(method):
    [one] = run(method, seen("a", WIDE), paper=STILL)
    [both] = run(method, seen("a", WIDE, (FRONT, SIDE), [1.0, 0.0]), paper=STILL)
    np.testing.assert_allclose(both.vertices, one.vertices, rtol=0, atol=1e-5)
    assert both.losses == pytest.approx(one.losses, rel=1e-3, abs=1e-6)


@METHODS
def test_a_picture_twice_counts_as_one_of_twice_the_weight(method):
    options = {"large_steps": {"weights": {"silhouette": 500.0}}, "paper": STILL | {"weights": {"silhouette": 5.0}}}
    [twice] = run(method, seen("a", WIDE, (FRONT, FRONT)), **options)
    [heavy] = run(method, seen("a", WIDE, (FRONT,), [2.0]), **options)
    np.testing.assert_allclose(twice.vertices, heavy.vertices, rtol=0, atol=1e-4)
    assert twice.losses == pytest.approx(heavy.losses, rel=1e-2, abs=1e-4)


def test_a_view_from_the_side_tells_how_deep_it_is():
    """Longer along the first camera's axis, which from there nobody sees."""
    deep = stretched(1.0, 1.0, 1.25)
    both = seen("a", deep, (FRONT, SIDE), size=64)
    [one] = run("large-steps", seen("a", deep, size=64), steps=60, image_size=64)
    [two] = run("large-steps", both, steps=60, image_size=64)
    depths = [np.ptp(found.vertices[:, 2]) for found in (one, two)]
    assert abs(depths[1] - 1.25) < 0.05
    assert abs(depths[0] - 1.25) > 0.15
    assert iou(two.vertices, both, 1) > 0.98


@METHODS
def test_what_is_not_known_of_a_picture_is_not_read(method):
    """Half a mask is behind something; whatever stands there in its place, the result is the same."""
    instance = seen("a", WIDE)
    known = np.ones((SIZE, SIZE), bool)
    known[:, 18:] = False
    outcomes = []
    for value in (0.0, 1.0, 0.37):
        mask = np.where(known, instance.views[0].mask, np.float32(value)).astype(np.float32)
        hidden = replace(instance, views=(replace(instance.views[0], mask=mask, known=known),))
        outcomes += run(method, hidden)
    for other in outcomes[1:]:
        np.testing.assert_allclose(other.vertices, outcomes[0].vertices, rtol=0, atol=1e-6)
    [whole] = run(method, instance)
    assert np.abs(whole.vertices - outcomes[0].vertices).max() > 1e-3


def test_known_pixels_are_met_though_others_are_missing():
    """An object that is cut off by an occluder is not pulled back to its edge."""
    known = np.ones((64, 64), bool)
    known[:, 40:] = False
    instance = seen("a", stretched(1.3, 0.9, 1.0), size=64)
    cut = np.where(known, instance.views[0].mask, 0.0).astype(np.float32)
    as_seen, as_known = (
        replace(instance, views=(replace(instance.views[0], mask=cut, known=k),)) for k in (None, known)
    )
    pulled, left = (run("large-steps", one, steps=40, image_size=64)[0].vertices for one in (as_seen, as_known))
    assert iou(left, instance) > 0.86
    assert iou(pulled, instance) < iou(left, instance) - 0.05


def test_covered_shares_are_met_as_shares():
    """Of a picture four times as large. A mask of shares is another one than that of its threshold, and as good."""
    true = stretched(1.2, 0.9, 1.0)
    large = view(true, FRONT, 256).mask
    shares = large.reshape(64, 4, 64, 4).mean(axis=(1, 3)).astype(np.float32)
    assert ((shares > 0) & (shares < 1)).sum() > 50
    instance = seen("a", true, size=64)
    outcomes = []
    for mask in (shares, (shares >= 0.5).astype(np.float32)):
        given = replace(instance, views=(replace(instance.views[0], mask=mask),))
        outcomes += run("large-steps", given, steps=100, image_size=64)
    fine = replace(instance, views=(view(true, FRONT, 256),))
    errors = [1.0 - iou(found.vertices, fine) for found in outcomes]
    assert 1.0 - iou(BALL.vertices, fine) > 0.15
    assert max(errors) < 0.04
    assert not np.array_equal(outcomes[0].vertices, outcomes[1].vertices)


def test_at_the_full_size_a_share_is_what_it_is_nearer_to():
    """The silhouette is far sharper than a pixel there; half a pixel would be met at its very centre alone."""
    true = stretched(1.2, 0.9, 1.0)
    shares = view(true, FRONT, 128).mask.reshape(32, 4, 32, 4).mean(axis=(1, 3)).astype(np.float32)
    instance = seen("a", true, size=32)
    losses = []
    for mask in (shares, (shares >= 0.5).astype(np.float32)):
        given = replace(instance, views=(replace(instance.views[0], mask=mask),))
        course = Descent([given], Scene.of([given], load_renderer("warp"), CPU), RefineConfig().large_steps, 10)
        losses.append([float(course.iterate(step).terms[0, 0].detach()) for step in (0, 9)])
    assert losses[0][0] != pytest.approx(losses[1][0], rel=1e-4)
    assert losses[0][1] == losses[1][1]
