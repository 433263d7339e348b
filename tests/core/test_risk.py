"""The signs of a worse shape, where each has a closed form; and what they come to."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from shapes import box, icosphere

from refine_batch.cameras.camera import Camera
from refine_batch.mesh import Mesh
from refine_batch.refinement.risk import BIAS, LEAST, MOST, WEIGHTS, Signs, risk, signs

FAR = Camera(0.0, 0.0, 1000.0)
USUAL = Signs(camera_share=0.13, distance_change=0.03, along_ray=0.3)
NAMES = [field.name for field in fields(Signs)]


def test_what_the_camera_explains_is_a_share_of_what_was_missing():
    ball = icosphere(2, 0.5)
    found = signs(ball, ball.vertices * 1.1, FAR, FAR, 0.6, 0.9)
    assert found.camera_share == pytest.approx(0.75)
    assert signs(ball, ball.vertices, FAR, FAR, 1.0, 1.0).camera_share == 0.0


def test_distances_are_compared_by_their_ratio():
    ball = icosphere(1, 0.5)
    for ratio in (1.25, 0.8):
        found = signs(ball, ball.vertices, FAR, replace(FAR, distance=1000.0 * ratio), 0.6, 0.6)
        assert found.distance_change == pytest.approx(math.log(1.25))


@pytest.mark.parametrize(("direction", "share"), [((0, 0, 1), 1.0), ((1, 0, 0), 0.0), ((3, 0, 4), 0.8)])
def test_of_a_shift_what_lies_along_the_ray(direction, share):
    ball = icosphere(2, 0.5)
    moved = ball.vertices + 0.01 * np.array(direction, np.float32)
    assert signs(ball, moved, FAR, FAR, 0.5, 0.5).along_ray == pytest.approx(share, abs=2e-3)


def test_displacements_count_by_area():
    """A sphere of many vertices beside a box of few, as large: half of the surface moves along the ray, half across."""
    ball, cube = icosphere(4, 0.5), box(1.0, 1.0, 1.0)
    vertices = np.concatenate([ball.vertices, cube.vertices + np.float32([2, 0, 0])])
    mesh = Mesh(vertices, np.concatenate([ball.faces, cube.faces + len(ball.vertices)]))
    moved = vertices.copy()
    moved[: len(ball.vertices), 2] += 0.01
    moved[len(ball.vertices) :, 0] += 0.01
    expected = math.sqrt(math.pi / (math.pi + 6.0))
    assert signs(mesh, moved, FAR, FAR, 0.5, 0.5).along_ray == pytest.approx(expected, rel=1e-2)


def test_nothing_moved_is_no_sign():
    ball = icosphere(1, 0.5)
    assert signs(ball, ball.vertices, FAR, FAR, 0.5, 0.5) == Signs(0.0, 0.0, 0.0)


def test_risk_is_the_logistic_function_of_the_weighted_signs():
    score = BIAS + sum(getattr(WEIGHTS, name) * getattr(USUAL, name) for name in NAMES)
    assert risk(USUAL) == pytest.approx(1 / (1 + math.exp(-score)))
    assert 0.03 < risk(USUAL) < 0.12


@pytest.mark.parametrize("name", NAMES)
def test_each_sign_tells_in_its_own_direction_and_no_further_than_is_known(name):
    more = replace(USUAL, **{name: getattr(USUAL, name) + 0.01})
    assert (risk(more) > risk(USUAL)) == (getattr(WEIGHTS, name) > 0)
    for bound, beyond in ((getattr(LEAST, name), -1e6), (getattr(MOST, name), 1e6)):
        at_bound = replace(USUAL, **{name: bound})
        assert risk(replace(USUAL, **{name: beyond})) == risk(at_bound)
        assert 0.0 < risk(at_bound) < 1.0
