"""The guard against shapes whose change is known."""

import numpy as np
import pytest
import trimesh

from refine_batch.mesh import Mesh
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.mesh.volume import enclosed_volume
from refine_batch.refinement.guard import collapsed_share, flipped_share, objection


@pytest.fixture
def box() -> Mesh:
    solid = trimesh.creation.box((1.0, 0.5, 0.8))
    return Mesh(solid.vertices, solid.faces)


def test_nothing_speaks_against_a_better_silhouette(box):
    assert objection(box, Mesh(box.vertices * 1.1, box.faces), 0.8, 0.9) is None


def test_a_worse_silhouette_is_refused_with_both_values(box):
    reason = objection(box, box, 0.91, 0.9)
    assert reason is not None
    assert "0.9100" in reason
    assert "0.9000" in reason


@pytest.mark.parametrize(("axis", "factor"), [(0, 2.5), (1, 3.0), (2, 0.3)])
def test_an_extent_that_changes_too_much_is_refused_by_name(box, axis, factor):
    stretched = box.vertices.copy()
    stretched[:, axis] *= factor
    reason = objection(box, Mesh(stretched, box.faces), 0.5, 0.9)
    assert reason is not None
    assert f"along {'xyz'[axis]}" in reason


def test_a_mesh_that_agrees_already_is_left_alone(box):
    larger = Mesh(box.vertices * 1.01, box.faces)
    reason = objection(box, larger, 0.95, 0.99, 0.006)
    assert reason is not None
    assert "already agrees" in reason
    assert "0.60%" in reason
    assert objection(box, larger, 0.95, 0.99, 0.007) is None


def test_the_volume_of_a_closed_mesh(box):
    assert enclosed_volume(box) == pytest.approx(0.4)
    assert enclosed_volume(Mesh(box.vertices + 10, box.faces)) == pytest.approx(0.4, rel=1e-4)
    assert enclosed_volume(Mesh(box.vertices, box.faces[1:])) is None


def test_a_volume_that_changes_too_much_is_refused(box):
    ball = trimesh.creation.icosphere(subdivisions=3)
    tips = np.abs(ball.vertices).max(axis=1) > 0.97
    spiky = np.where(tips[:, None], ball.vertices, 0.3 * ball.vertices)
    coarse, star = Mesh(ball.vertices, ball.faces), Mesh(spiky, ball.faces)
    np.testing.assert_allclose(np.ptp(star.vertices, axis=0), np.ptp(coarse.vertices, axis=0))
    ratio = trimesh.Trimesh(spiky, ball.faces, process=False).volume / ball.volume
    assert ratio < 1 / 8
    assert enclosed_volume(star) / enclosed_volume(coarse) == pytest.approx(ratio, rel=1e-4)
    assert "volume changed too much" in (objection(coarse, star, 0.5, 0.9) or "")
    assert objection(box, Mesh(box.vertices * 1.4, box.faces), 0.5, 0.9) is None


def test_a_surface_that_collapses_is_refused():
    ball = trimesh.creation.icosphere(subdivisions=2)
    coarse = Mesh(ball.vertices, ball.faces)
    gathered = ball.vertices.copy()
    gathered[ball.vertices[:, 1] < -0.2] = [0, -1, 0]
    refined = Mesh(gathered, ball.faces)
    before = ball.area_faces
    lost = before[trimesh.Trimesh(gathered, ball.faces, process=False).area_faces < 0.02 * before].sum() / before.sum()
    assert 0.25 < lost < 0.5
    assert collapsed_share(coarse, refined) == pytest.approx(lost, rel=1e-4)
    assert f"{lost:.0%} of the surface collapsed" in (objection(coarse, refined, 0.5, 0.9) or "")


def test_a_mesh_that_turns_over_is_refused(box):
    # Mirrored in x without turning the winding: the normals of the four sides around x are reversed.
    mirrored = Mesh(box.vertices * [-1, 1, 1], box.faces)
    around = 2 * (1.0 * 0.5 + 1.0 * 0.8)
    assert flipped_share(box, mirrored) == pytest.approx(around / (around + 2 * 0.5 * 0.8), rel=1e-6)
    assert "turned over" in (objection(box, mirrored, None, None) or "")


def test_the_flipped_share_is_measured_by_area(box):
    # Moving the x = +0.5 side through the opposite one reverses just the normals of the four sides around it.
    folded = box.vertices.copy()
    folded[folded[:, 0] > 0, 0] = -1.5
    around = 2 * (1.0 * 0.5 + 1.0 * 0.8)
    total = around + 2 * 0.5 * 0.8
    assert flipped_share(box, Mesh(folded, box.faces)) == pytest.approx(around / total, rel=1e-6)


def test_a_flat_mesh_may_gain_a_little_depth():
    square = Mesh(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    bent = square.vertices.copy()
    bent[2, 2] = 0.02
    assert objection(square, Mesh(bent, square.faces), 0.5, 0.6) is None


def test_a_shape_that_is_probably_worse_is_held_back_above_the_risk_that_is_allowed():
    """A ball that agreed well with the mask and has grown a horn."""
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    horned = ball.vertices.copy()
    horned[np.argmax(horned[:, 0])] *= 1.15
    ball, horned = Mesh(ball.vertices, ball.faces), Mesh(horned, ball.faces)
    given = {"apart": 0.02, "plane": SymmetryPlane((0.0, 0.0, 1.0))}
    reason = objection(ball, horned, 0.9, 0.95, **given, largest_risk=0.1)
    assert reason is not None
    assert "gained nothing" in reason
    assert "--guard-risk 0.1" in reason
    assert objection(ball, horned, 0.9, 0.95, **given, largest_risk=1.0) is None
    # Where the overlap is not known nothing is estimated.
    assert objection(ball, horned, None, None, **given, largest_risk=0.0) is None
