"""What is seen before anything is refined: mesh and picture agree, the camera is wrong, or neither belongs here."""

from __future__ import annotations

import re
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from shapes import armchair, box, icosphere, joined, unit
from subjects import view

from refine_batch.cameras.camera import Camera, angle_between
from refine_batch.config import RefineConfig
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.instance import CameraError, Instance
from refine_batch.mesh import Mesh
from refine_batch.refinement import plausibility
from refine_batch.refinement.occlusion import probably_hidden
from refine_batch.refinement.overlap import outlines_apart, silhouette_iou
from refine_batch.refinement.pipeline import refine
from refine_batch.refinement.plausibility import Verdict, held_share, judge
from refine_batch.refinement.prepare import Prepared, prepare
from refine_batch.render import hard_silhouettes

SIZE = 112
CAMERA = Camera(35.0, 20.0, 2.4)
CONFIG = RefineConfig(image_size=SIZE)
CHAIR = armchair()


def seen(true: Mesh, mesh: Mesh = CHAIR, by: Camera = CAMERA, given: Camera = CAMERA, **values) -> Prepared:
    """A mesh with the picture that `by` took of another one, said to be taken by `given`."""
    mask = view(true, by, SIZE).covered
    return prepare(Instance("it", mesh, np.zeros((SIZE, SIZE, 3), np.uint8), mask, given, **values), CONFIG)


def verdict(prepared: Prepared) -> Verdict | InstanceError:
    [found] = judge([prepared], CONFIG, torch.device("cpu"))
    return found


def test_outlines_lie_as_far_apart_as_discs_of_unlike_size():
    """Of 0.3 and 0.33 of the picture's half side: 0.015 of its side."""
    far = Camera(0.0, 0.0, 1000.0, fov=2.0 * np.degrees(np.arctan(0.5 / 0.3 / 1000.0)))
    ball = icosphere(4, 0.5)
    prepared = seen(Mesh(ball.vertices * 1.1, ball.faces), ball, far, far)
    assert outlines_apart(prepared.subject) == pytest.approx(0.015, abs=0.002)
    assert silhouette_iou(prepared.subject) == pytest.approx(1 / 1.21, abs=0.02)


def test_a_mesh_that_agrees_already_is_left_alone():
    found = verdict(seen(CHAIR))
    assert "already agrees with the mask" in found.reason
    assert found.cameras is None
    assert not found.doubtful


def test_a_camera_within_its_trust_may_explain_everything():
    wrong = replace(CAMERA, azimuth=CAMERA.azimuth + 5.0, elevation=CAMERA.elevation - 3.0, distance=2.5)
    found = verdict(seen(CHAIR, given=wrong))
    assert "the camera alone explains the picture" in found.reason
    assert "about its axis" not in found.reason
    assert angle_between(found.cameras[0], CAMERA) < 2.0
    # One that is exact explains nothing.
    exact = verdict(seen(CHAIR, given=wrong, camera_error=CameraError()))
    assert (exact.reason, exact.cameras) == (None, None)


@pytest.mark.parametrize(
    "wrong", [{"roll": 5.0}, {"roll": -3.0, "offset_x": 0.03}, {"offset_x": 0.04, "offset_y": -0.04}]
)
def test_roll_and_principal_point_may_explain_everything(wrong):
    found = verdict(seen(CHAIR, given=replace(CAMERA, **wrong)))
    assert "the camera alone explains the picture" in found.reason
    [camera] = found.cameras
    turn = re.search(r"turned by (\S+)° about its axis", found.reason)
    assert float(turn[1]) == pytest.approx(-wrong.get("roll", 0.0), abs=0.6)
    assert camera.roll == pytest.approx(0.0, abs=0.6)
    assert (camera.offset_x, camera.offset_y) == pytest.approx((0.0, 0.0), abs=0.01)
    # One that is exact explains nothing.
    exact = verdict(seen(CHAIR, given=replace(CAMERA, **wrong), camera_error=CameraError()))
    assert (exact.reason, exact.cameras) == (None, None)


def test_a_shape_that_is_wrong_is_to_be_refined_however_its_camera_is_turned():
    wider = Mesh(CHAIR.vertices * np.array([1.0, 0.75, 1.2]), CHAIR.faces)
    assert verdict(seen(wider, given=replace(CAMERA, roll=5.0))).reason is None


def test_a_shape_that_is_wrong_is_to_be_refined():
    wider = Mesh(CHAIR.vertices * np.array([1.0, 0.75, 1.2]), CHAIR.faces)
    found = verdict(seen(wider))
    assert (found.reason, found.cameras, found.doubtful) == (None, None, False)


def test_a_camera_that_explains_more_is_trusted_less():
    """A wrong shape by the true camera, and by one that is off: the latter's spread is widened, the former's is not."""
    wider = Mesh(CHAIR.vertices * np.array([1.0, 0.9, 1.06]), CHAIR.faces)
    off = replace(CAMERA, azimuth=CAMERA.azimuth - 5.0, distance=1.12 * CAMERA.distance)
    exact, wrong = verdict(seen(wider)), verdict(seen(wider, given=off))
    assert exact.looseness < 1.0 < wrong.looseness
    prepared = seen(wider)
    np.testing.assert_allclose(
        prepared.loosened(2.0).subject.views[0].spread, 2 * np.array(prepared.subject.views[0].spread)
    )


@pytest.mark.parametrize("turn", [90.0, 180.0, -90.0])
def test_a_mesh_that_meets_its_mask_from_quite_elsewhere_is_not_refined(turn):
    """Another convention of azimuths, say: the turn is told."""
    found = verdict(seen(CHAIR, given=replace(CAMERA, azimuth=CAMERA.azimuth - turn)))
    assert found.doubtful
    told = float(found.reason.split("turned by ")[1].split("°")[0])
    assert (told - turn + 180.0) % 360.0 - 180.0 == pytest.approx(0.0, abs=15.0)


def test_a_mesh_of_another_object_is_not_refined():
    rod = box(0.04, 1.0, 0.04)
    found = verdict(seen(box(1.0, 0.05, 0.05), rod))
    assert found.doubtful
    assert "hardly meets its mask" in found.reason


def test_a_mesh_that_is_not_in_the_picture_fails_and_says_where_it_stands():
    away = Mesh(CHAIR.vertices + np.array([0.0, 40.0, 0.0]), CHAIR.faces)
    found = verdict(seen(CHAIR, away))
    assert isinstance(found, InstanceError)
    assert found.kind is ErrorKind.CAMERA_INVALID
    assert "not in the picture at all" in found.message
    assert "(0, 40, 0)" in found.message


@pytest.mark.parametrize("times", [3.0, 1000.0])
def test_a_mesh_in_other_units_that_fills_the_picture_is_not_refined(times):
    """The 2D IoU says nothing of it: it is the share of the picture that the object has, here more than half."""
    near = replace(CAMERA, distance=1.1)
    ball = icosphere(3, 0.5)
    larger = Mesh(ball.vertices * times, ball.faces)
    prepared = seen(ball, larger, near, near)
    assert 0.5 < silhouette_iou(prepared.subject) < 0.9
    found = verdict(prepared)
    assert "fills the whole picture" in found.reason
    assert f"{times:.3g} large" in found.reason
    assert found.doubtful
    # One that leaves something of the picture is refined.
    wider = Mesh(ball.vertices * np.array([1.3, 0.8, 1.2]), ball.faces)
    assert verdict(seen(ball, wider, near, near)).reason is None


def test_what_fills_a_picture_as_its_mask_does_is_no_fault():
    """A detail: of neither an outline is seen."""
    close = replace(CAMERA, distance=0.7)
    ball = icosphere(3, 0.5)
    found = verdict(seen(ball, Mesh(ball.vertices * 1.1, ball.faces), close, close))
    assert not found.doubtful


def test_a_batch_is_judged_one_by_one():
    """And each by its own camera's trust."""
    batch = [seen(CHAIR), seen(Mesh(CHAIR.vertices * np.array([1.0, 0.75, 1.2]), CHAIR.faces)), seen(CHAIR)]
    found = judge(batch, CONFIG, torch.device("cpu"))
    assert [one.reason is None for one in found] == [False, True, False]


def test_no_camera_is_fitted_that_is_exact(monkeypatch):
    fitted: list[str] = []
    fit = plausibility.fit_cameras

    def noting(subjects, config, device):
        fitted.extend(subject.instance_id for subject in subjects)
        return fit(subjects, config, device)

    monkeypatch.setattr(plausibility, "fit_cameras", noting)
    wider = Mesh(CHAIR.vertices * np.array([1.0, 0.75, 1.2]), CHAIR.faces)
    names = {"exact": CameraError(), "free": CameraError(5.0, 0.1), "exact too": CameraError()}
    batch = [replace(seen(wider, camera_error=error), instance_id=name) for name, error in names.items()]
    batch = [replace(one, subject=replace(one.subject, instance_id=one.instance_id)) for one in batch]
    found = judge(batch, CONFIG, torch.device("cpu"))
    assert fitted == ["free"]
    assert [one.reason for one in found] == [None] * 3
    assert asdict(found[0]) == asdict(found[2])
    [alone] = judge(batch[:1], CONFIG, torch.device("cpu"))
    assert asdict(alone) == asdict(found[0])
    assert fitted == ["free"]


def hidden_left(share: float) -> np.ndarray:
    """A curtain before so much of the chair's width."""
    mask = view(CHAIR, CAMERA, SIZE).covered
    columns = np.flatnonzero(mask.any(axis=0))
    hidden = np.zeros_like(mask)
    hidden[:, : columns[0] + int(share * len(columns))] = True
    return hidden


def behind(hidden: np.ndarray, mesh: Mesh = CHAIR, known: np.ndarray | None = None) -> Instance:
    mask = view(CHAIR, CAMERA, SIZE).covered & ~hidden
    return Instance("it", mesh, np.zeros((SIZE, SIZE, 3), np.uint8), mask, CAMERA, known=known)


def test_what_is_probably_hidden_is_left_open_and_the_rest_judged_by_itself():
    """The chair is right; its left third stands behind something that nobody told of."""
    hidden = hidden_left(0.35)
    found = verdict(prepare(behind(hidden), CONFIG))
    assert "probably hidden" in found.hidden.reason
    assert found.hidden.where[hidden].all()
    # What can be seen agrees.
    assert found.settled
    told = verdict(prepare(behind(hidden, known=~hidden), CONFIG))
    assert told.hidden is None
    assert told.settled


def test_where_more_than_one_part_is_hidden_the_mesh_is_kept():
    """A side of the chair, and deep in what is left."""
    hidden = hidden_left(0.3) | np.flip(hidden_left(0.35), axis=1)
    found = verdict(prepare(behind(hidden), CONFIG))
    assert "probably hidden" in found.reason
    assert found.reason.endswith("ignore_uri can name what stands before it")
    # Nothing is left open of what comes back as it was.
    assert found.hidden is None


def test_a_mesh_that_the_rest_of_the_mask_does_not_bear_out_is_kept():
    """Its mask ends at a straight line, as one that is cut does; but it was taken from elsewhere."""
    other = Mesh(CHAIR.vertices * np.array([1.2, 0.85, 1.0], np.float32), CHAIR.faces)
    prepared = seen(CHAIR, other, Camera(65.0, 20.0, 2.4), CAMERA, camera_error=CameraError(5.0, 0.1))
    first = prepared.subject.views[0]
    assert probably_hidden(hard_silhouettes(other, [CAMERA], SIZE)[0], first.covered) is not None
    found = verdict(prepared)
    assert "probably hidden" in found.reason
    assert found.hidden is None


def test_a_mesh_behind_what_nobody_told_of_is_refined_by_what_is_seen():
    """As well as one of whose picture it was said, and the row says so; nothing is pulled in behind the mask."""
    config = RefineConfig(method="large-steps", image_size=SIZE, camera_error="0", figures="none")
    hidden, coarse = hidden_left(0.35), Mesh(CHAIR.vertices * np.array([1.0, 0.85, 1.0], np.float32), CHAIR.faces)
    untold, told = refine([behind(hidden, coarse), behind(hidden, coarse, ~hidden)], config)
    assert (untold.status, told.status) == ("refined", "refined")
    assert "probably hidden" in untold.notes[0]
    assert untold.notes[0].endswith("what lies there was left open; ignore_uri can name what stands before it")
    assert told.notes == ()
    assert untold.known_share < 1.0
    far = [np.abs(np.ptp(r.mesh.vertices, axis=0) - np.ptp(CHAIR.vertices, axis=0)).max() for r in (untold, told)]
    assert far[0] < max(1.5 * far[1], 0.05)


@pytest.mark.parametrize(("true", "doubtful"), [(CHAIR, False), (unit(box(0.2, 1.0, 0.1)), True)])
def test_a_doubt_reaches_whoever_asked_for_the_refinement(true, doubtful):
    mask = view(true, CAMERA, SIZE).covered
    [outcome] = refine([Instance("it", CHAIR, np.zeros((SIZE, SIZE, 3), np.uint8), mask, CAMERA)], CONFIG)
    assert (outcome.status, outcome.doubtful) == ("kept", doubtful)


def test_the_share_of_vertices_that_hold_a_surface():
    """Of two triangles apart, one nine times as large: (3·9 + 3)² / (6·(3·81 + 3))."""
    small = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    two = Mesh(np.concatenate([small, 3.0 * small + 5.0]), [[0, 1, 2], [3, 4, 5]])
    assert held_share(two) == pytest.approx(900 / (6 * 246))
    assert held_share(icosphere(2, 0.5)) == pytest.approx(1.0, abs=0.02)


def test_the_network_leaves_uneven_meshes_to_large_steps():
    """A chair with a finely triangulated knob: the knob has the vertices, the chair the surface."""
    knob = icosphere(4, 0.02)
    uneven = joined(CHAIR, Mesh(knob.vertices + np.array([0.3, 0.3, 0.0], np.float32), knob.faces))
    prepared = seen(Mesh(uneven.vertices * np.array([1.3, 0.8, 1.1]), uneven.faces), uneven)
    [network] = judge([prepared], CONFIG.model_copy(update={"method": "refine"}), torch.device("cpu"))
    assert "--method large-steps" in network.reason
    other = verdict(prepared)
    assert other.reason is None or "large-steps" not in other.reason
