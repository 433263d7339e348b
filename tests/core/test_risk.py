"""The signs of a worse shape, on shapes where each has a closed form; and what they come to."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from shapes import box, icosphere

from refine_batch.mesh import Mesh
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.refinement.risk import LEAST, MOST, SAMPLING, USUAL_ASYMMETRY, WEIGHTS, Signs, risk, signs, size

X, Z = SymmetryPlane((1.0, 0.0, 0.0)), SymmetryPlane((0.0, 0.0, 1.0))
# The means over the synthetic objects to which the weights were fitted.
USUAL = Signs(asymmetry=-0.65, overlap=0.77, growth=-0.01)


def size_of_box(*extents: float) -> float:
    """A side of a by b, cut in two: the triangles' middles lie a/6 and b/6 from its own, half the third extent out."""
    squares = np.square(extents)
    areas = np.prod(extents) / np.array(extents)
    distance = squares / 4 + (squares.sum() - squares) / 36
    return math.sqrt(areas @ distance / areas.sum())


def test_size():
    assert size(box(1.0, 0.5, 0.4)) == pytest.approx(size_of_box(1.0, 0.5, 0.4), rel=1e-6)
    ball = icosphere(4, 0.3)
    assert size(Mesh(ball.vertices + 2, ball.faces)) == pytest.approx(0.3, rel=5e-3)
    assert size(Mesh(np.zeros_like(ball.vertices), ball.faces)) == 0.0


def test_only_what_grows_beyond_the_shape_counts_as_growth():
    ball = icosphere(3, 0.5)
    larger = Mesh(ball.vertices * 1.3, ball.faces)
    assert signs(ball, larger, None, 0.5).growth == pytest.approx(0.0, abs=1e-6)
    horned = ball.vertices.copy()
    horned[np.argmax(horned[:, 1])] *= 1.2
    expected = math.log(np.ptp(horned, axis=0).max() / np.ptp(ball.vertices, axis=0).max())
    assert signs(ball, Mesh(horned, ball.faces), None, 0.5).growth == pytest.approx(expected, rel=0.05)


def test_a_stretched_box():
    coarse = box(1.0, 0.5, 0.4)
    refined = Mesh(coarse.vertices * np.array([1.2, 1.0, 1.0], np.float32), coarse.faces)
    found = signs(coarse, refined, None, 0.8)
    assert found.overlap == 0.8
    expected = math.log(1.2) - math.log(size_of_box(1.2, 0.5, 0.4) / size_of_box(1.0, 0.5, 0.4))
    assert found.growth == pytest.approx(expected, rel=1e-4)
    assert found.asymmetry == USUAL_ASYMMETRY


def test_growth_knows_no_units():
    coarse = box(1.0, 0.5, 0.4)
    refined = Mesh(coarse.vertices * np.array([1.2, 1.0, 0.9], np.float32), coarse.faces)
    in_millimetres = [Mesh(mesh.vertices * 1000, mesh.faces) for mesh in (coarse, refined)]
    ours, theirs = signs(coarse, refined, None, 0.8), signs(*in_millimetres, None, 0.8)
    assert ours.growth == pytest.approx(theirs.growth, rel=1e-3, abs=1e-6)


def test_asymmetry_by_how_far_a_ball_lies_from_the_plane():
    """A ball of diameter 1 moved by m along z: its mirror image is 2m away, and near points of the two are nearer."""
    ball = icosphere(3, 0.5)
    moved = [Mesh(ball.vertices + np.array([0, 0, m], np.float32), ball.faces) for m in (0.1, 0.02)]
    found = signs(*moved, Z, 0.8).asymmetry
    # A point of the image, seen from the surface's centre 2m off, is ||x − 2m·z| − r| away, rms 2m/√3 for small m.
    expected = math.log((2 * 0.02 / math.sqrt(3) + SAMPLING) / (2 * 0.1 / math.sqrt(3) + SAMPLING))
    assert found == pytest.approx(expected, abs=0.15)
    # About a plane that was moved along, both meshes are symmetric: nothing to compare, and a shorter way to it.
    along = SymmetryPlane((0.0, 0.0, 1.0), offset=0.1)
    assert signs(moved[0], moved[1], along, 0.8).asymmetry == USUAL_ASYMMETRY
    assert signs(moved[1], moved[0], along, 0.8).asymmetry == pytest.approx(
        math.log(SAMPLING / (2 * 0.08 / math.sqrt(3) + SAMPLING)), abs=0.35
    )
    # The other way round it counts for nothing, and so does a plane in which the coarse mesh was symmetric.
    assert signs(*moved[::-1], Z, 0.8).asymmetry == 0.0
    assert signs(*moved, X, 0.8).asymmetry == USUAL_ASYMMETRY


def test_nothing_that_is_wrong_with_a_mesh_raises():
    coarse = box()
    flat = Mesh(np.zeros_like(coarse.vertices), coarse.faces)
    for pair in ((coarse, coarse), (coarse, flat), (flat, coarse), (flat, flat)):
        assert 0.0 <= risk(signs(*pair, Z, 0.0)) <= 1.0


def test_risk_is_the_logistic_function_of_the_weighted_signs():
    score = -10.3 + 1.85 * -0.65 + 10.6 * 0.77 + 30.5 * -0.01
    assert risk(USUAL) == pytest.approx(1 / (1 + math.exp(-score)))
    assert 0.01 < risk(USUAL) < 0.06


@pytest.mark.parametrize("name", [field.name for field in fields(Signs)])
def test_each_sign_counts_the_way_its_weight_says(name):
    more = replace(USUAL, **{name: getattr(USUAL, name) + 0.01})
    assert (risk(more) > risk(USUAL)) == (getattr(WEIGHTS, name) > 0)


@pytest.mark.parametrize("name", [field.name for field in fields(Signs)])
def test_beyond_what_is_known_nothing_is_added(name):
    for bound, beyond in ((LEAST, -1e9), (MOST, 1e9)):
        at_bound = replace(USUAL, **{name: getattr(bound, name)})
        assert risk(replace(USUAL, **{name: beyond})) == risk(at_bound)
        assert 0.0 < risk(at_bound) < 1.0
