"""How large an object is, and where it stands, no silhouette tells alone where its camera may be off: the coarse mesh
does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from shapes import armchair, unit
from subjects import subject, view

from refine_batch.cameras.camera import Camera
from refine_batch.config import RefineConfig
from refine_batch.losses import LOSSES
from refine_batch.method_options import LargeStepsOptions, PaperOptions
from refine_batch.methods import PreparedInstance, large_steps, load_method, refine
from refine_batch.methods.scene import Scene
from refine_batch.methods.trust import ViewTrust
from refine_batch.methods.whole_shape import WholeShape
from refine_batch.render import load_renderer

CPU = torch.device("cpu")
SIZE = 64
CAMERA = Camera(azimuth=35, elevation=20, distance=2.2)
CHAIR = unit(armchair())
FREE, EXACT = (math.radians(5.0), math.radians(5.0), 0.1), (0.0, 0.0, 0.0)


def chair(*views) -> PreparedInstance:
    given = subject("chair", CHAIR, CHAIR, CAMERA, SIZE, "none")
    return replace(given, views=views)


@pytest.fixture(params=["large-steps", "refine"])
def cost(request) -> Callable[..., float]:
    """What the losses that hold a shape say of one that has grown about its centroid, and changed as a whole, at these
    weights."""

    def of(
        given: PreparedInstance, factor: float, size: float, amounts: Sequence[float] = (), shift: float = 0.0
    ) -> float:
        weights = {"size": size, "shift": shift}
        scene = Scene.of([given], load_renderer("warp"), CPU)
        whole = WholeShape([given.mesh], scene)
        vertices, change = scene.batch.vertices, scene.cameras.change
        grown = (factor - 1.0) * (vertices - vertices.mean(dim=1, keepdim=True))
        sigma, judge = torch.tensor(1e-4, dtype=torch.float64), torch.tensor(True)
        changed = whole.none()
        changed[0, : len(amounts)] = torch.tensor(amounts)
        if request.param == "refine":
            objective = refine.Objective.of(scene, whole, PaperOptions(weights=weights))
            terms = objective(grown, changed, torch.full(vertices.shape[:2], 0.5), change, sigma)[0]
        else:
            objective = large_steps.Objective(scene, whole, LargeStepsOptions(weights=weights), ViewTrust(scene))
            terms = objective(grown, changed, change, SIZE, 0, sigma, judge)[0]
        return float(terms[LOSSES.index("displacement"), 0])

    return of


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.1])
def test_growth_costs_the_square_of_its_logarithm_where_a_distance_may_be_wrong(cost, factor):
    looks = view(CHAIR, CAMERA, SIZE)
    free, exact = chair(replace(looks, spread=FREE)), chair(replace(looks, spread=EXACT))
    more = cost(free, factor, 3.0) - cost(free, factor, 0.0)
    assert more == pytest.approx(3.0 * (math.log(factor) / 0.1) ** 2, rel=1e-3, abs=1e-6)
    assert cost(exact, factor, 3.0) == cost(exact, factor, 0.0)
    # One of several is enough: however many there are, it counts once.
    several = chair(*(replace(looks, spread=spread) for spread in (EXACT, FREE, FREE)))
    assert cost(several, factor, 3.0) - cost(several, factor, 0.0) == pytest.approx(more, rel=1e-3, abs=1e-6)


def test_a_shift_costs_more_where_a_distance_may_be_wrong_and_nothing_else_does(cost):
    """Three of the fourteen changes, the last but one: 0.5, −1 and 2 of what is usual."""
    looks = view(CHAIR, CAMERA, SIZE)
    free, exact = chair(replace(looks, spread=FREE)), chair(replace(looks, spread=EXACT))
    amounts = [0.3] * 10 + [0.5, -1.0, 2.0, 0.7]
    more = cost(free, 1.0, 0.0, amounts, 4.0) - cost(free, 1.0, 0.0, amounts)
    assert more == pytest.approx(4.0 * (0.25 + 1.0 + 4.0), rel=1e-5)
    assert cost(exact, 1.0, 0.0, amounts, 4.0) == cost(exact, 1.0, 0.0, amounts)
    still = [0.3] * 10 + [0.0, 0.0, 0.0, 0.7]
    assert cost(free, 1.0, 0.0, still, 4.0) == cost(free, 1.0, 0.0, still)


def test_a_camera_that_is_told_too_far_away_comes_nearer_rather_than_the_shape_grows():
    told = replace(view(CHAIR, CAMERA, SIZE, spread=FREE), camera=replace(CAMERA, distance=1.1 * CAMERA.distance))
    grown, too_far = [], []
    for weight in (0.0, 20.0):
        config = RefineConfig(method="large-steps", image_size=SIZE, large_steps={"weights": {"size": weight}})
        [found] = load_method("large-steps")([chair(told)], config, CPU)
        grown.append(math.log(found.vertices.std(axis=0).sum() / CHAIR.vertices.std(axis=0).sum()))
        too_far.append(math.log(found.cameras[0].distance / CAMERA.distance))
    assert 0.0 < grown[1] < 0.7 * grown[0]
    assert 0.0 < too_far[1] < 0.8 * too_far[0]
