"""The guard against shapes whose change is known, and how far it goes towards one."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from subjects import subject

from refine_batch.cameras.camera import Camera
from refine_batch.config import RefineConfig
from refine_batch.mesh import Mesh
from refine_batch.mesh.normals import area_normals
from refine_batch.mesh.volume import enclosed_volume
from refine_batch.methods import MethodOutput
from refine_batch.refinement.deformation import collapsed_share, flipped_share, implausible, stretched_share
from refine_batch.refinement.guard import Choice, along, choose


@pytest.fixture
def box() -> Mesh:
    solid = trimesh.creation.box((1.0, 0.5, 0.8))
    return Mesh(solid.vertices, solid.faces)


def test_nothing_speaks_against_a_little_more_of_it(box):
    assert implausible(box, Mesh(box.vertices * 1.1, box.faces)) is None


@pytest.mark.parametrize(("axis", "factor"), [(0, 2.5), (1, 3.0), (2, 0.3)])
def test_an_extent_that_changes_too_much_is_refused_by_name(box, axis, factor):
    stretched = box.vertices.copy()
    stretched[:, axis] *= factor
    reason = implausible(box, Mesh(stretched, box.faces))
    assert reason is not None
    assert f"along {'xyz'[axis]}" in reason


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
    assert "volume changed too much" in (implausible(coarse, star) or "")
    assert implausible(box, Mesh(box.vertices * 1.4, box.faces)) is None


def test_a_surface_that_collapses_is_refused():
    ball = trimesh.creation.icosphere(subdivisions=2)
    coarse = Mesh(ball.vertices, ball.faces)
    gathered = ball.vertices.copy()
    gathered[ball.vertices[:, 1] < -0.2] = [0, -1, 0]
    refined = Mesh(gathered, ball.faces)
    before = ball.area_faces
    lost = before[trimesh.Trimesh(gathered, ball.faces, process=False).area_faces < 0.02 * before].sum() / before.sum()
    assert 0.25 < lost < 0.5
    assert collapsed_share(area_normals(coarse), area_normals(refined)) == pytest.approx(lost, rel=1e-4)
    assert f"{lost:.0%} of the surface collapsed" in (implausible(coarse, refined) or "")


def test_a_mesh_that_turns_over_is_refused(box):
    # Mirrored in x without turning the winding: the normals of the four sides around x are reversed.
    mirrored = Mesh(box.vertices * [-1, 1, 1], box.faces)
    around = 2 * (1.0 * 0.5 + 1.0 * 0.8)
    assert flipped_share(area_normals(box), area_normals(mirrored)) == pytest.approx(
        around / (around + 2 * 0.5 * 0.8), rel=1e-6
    )
    assert "turned over" in (implausible(box, mirrored) or "")


def strips() -> tuple[Mesh, np.ndarray]:
    """A sheet of ten strips, and its vertices where one is 2.5 times as wide and pushes the rest aside."""
    grid = np.array([[x, y, 0.0] for x in range(11) for y in (0.0, 4.0)])
    faces = np.array([[2 * i + k for k in corner] for i in range(10) for corner in ((0, 2, 1), (1, 2, 3))])
    return Mesh(grid, faces), grid + np.array([1.5, 0.0, 0.0]) * (grid[:, :1] > 0.5)


def test_a_surface_spread_over_what_is_not_there_is_refused():
    sheet, wider = strips()
    assert stretched_share(sheet, wider) == pytest.approx(0.1)
    reason = "10% of the surface was stretched to more than 2 times its length"
    assert implausible(sheet, Mesh(wider, sheet.faces)) == reason
    assert implausible(sheet, Mesh(wider, sheet.faces), told=True) is None
    assert implausible(sheet, Mesh(along(sheet.vertices, wider, 0.5), sheet.faces)) is None


def test_the_flipped_share_is_measured_by_area(box):
    # Moving the x = +0.5 side through the opposite one reverses just the normals of the four sides around it.
    folded = box.vertices.copy()
    folded[folded[:, 0] > 0, 0] = -1.5
    around = 2 * (1.0 * 0.5 + 1.0 * 0.8)
    total = around + 2 * 0.5 * 0.8
    assert flipped_share(area_normals(box), area_normals(Mesh(folded, box.faces))) == pytest.approx(
        around / total, rel=1e-6
    )


def test_a_flat_mesh_may_gain_a_little_depth():
    square = Mesh(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    bent = square.vertices.copy()
    bent[2, 2] = 0.02
    assert implausible(square, Mesh(bent, square.faces)) is None


def test_what_encloses_nothing_has_no_volume_to_change(box):
    """A surface that stands there twice, turned round, may come apart."""
    double = Mesh(np.concatenate([box.vertices, box.vertices]), np.concatenate([box.faces, box.faces[:, ::-1] + 8]))
    apart = Mesh(double.vertices * np.repeat([[1.0], [1.05]], 8, axis=0), double.faces)
    assert enclosed_volume(double) == pytest.approx(0.0, abs=1e-7)
    assert implausible(double, apart) is None


def test_a_share_of_the_way_is_on_the_straight_line(box):
    far = box.vertices * np.float32(1.5)
    np.testing.assert_array_equal(along(box.vertices, far, 1.0), far)
    np.testing.assert_allclose(along(box.vertices, far, 0.5), box.vertices * 1.25, rtol=1e-6)
    assert along(box.vertices, far, 0.75).dtype == np.float32


CAMERA = Camera(30.0, 20.0, 2.0)


def chosen(mesh: Mesh, refined: np.ndarray, iou, given: float, cameras=None, limit: float = 1.0) -> Choice:
    instance = subject("it", mesh, mesh, CAMERA, 16)
    return choose(instance, MethodOutput(refined, cameras=cameras), RefineConfig(guard_risk=limit), iou, given)


def test_a_worse_silhouette_is_refused_with_both_values(box):
    found = chosen(box, box.vertices * np.float32(1.1), lambda vertices, cameras: 0.9, 0.91)
    assert found.share == 0.0
    assert "2D IoU 0.9100 → 0.9000" in found.reason


def test_as_far_as_the_silhouette_is_no_worse(box):
    """Too far is worse than nothing, less far is better; seen by the camera that the method ended with."""
    asked = []
    turned = Camera(33.0, 20.0, 2.0)

    def iou(vertices: np.ndarray, cameras) -> float:
        asked.append(cameras[0])
        if np.array_equal(vertices, box.vertices):
            return 0.8
        return 0.9 if np.ptp(vertices[:, 0]) < 1.3 else 0.5

    found = chosen(box, box.vertices * np.float32(1.4), iou, 0.8, (turned,))
    assert (found.share, found.reason) == (0.5, None)
    # First the coarse mesh, by which the risk is judged.
    assert asked == [turned] * len(asked)
    assert chosen(box, box.vertices * np.float32(1.2), iou, 0.8).share == 1.0
    assert asked[-1] == CAMERA


def test_the_first_objection_is_told(box):
    """Against all of the way: a shape that no repair leaves; half of it is flat, and less agreed."""

    def iou(vertices: np.ndarray, cameras) -> float:
        return (
            0.6 if vertices[0, 0] * box.vertices[0, 0] < 0 else 0.5 if np.array_equal(vertices, box.vertices) else 0.4
        )

    found = chosen(box, box.vertices * np.array([-1.5, 1, 1], np.float32), iou, 0.5)
    assert found.share == 0.0
    assert "turned over" in found.reason


def test_a_surface_is_spread_only_so_far_unless_several_views_ask_for_it():
    sheet, wider = strips()
    assert chosen(sheet, wider, lambda vertices, cameras: 0.8, 0.5).share == 0.5
    one = subject("it", sheet, sheet, CAMERA, 16)
    several = replace(one, views=one.views * 3)
    assert choose(several, MethodOutput(wider), RefineConfig(), lambda vertices, cameras: 0.8, 0.5).share == 1.0


def test_the_riskier_the_less_far(box):
    """By the estimated risk's share of the largest: all of the way, three quarters, half, nothing."""
    refined = box.vertices * np.array([1.2, 1.1, 1.0], np.float32)

    def iou(vertices: np.ndarray, cameras) -> float:
        return 0.5 if np.array_equal(vertices, box.vertices) else 0.8

    worst = chosen(box, refined, iou, 0.5).risk
    shares = [chosen(box, refined, iou, 0.5, limit=worst / share).share for share in (0.3, 0.5, 0.9)]
    assert shares == [1.0, 0.75, 0.5]
    refused = chosen(box, refined, iou, 0.5, limit=worst / 1.1)
    assert refused.share == 0.0
    assert "above --guard-risk" in refused.reason
