"""Where a picture does not tell from which of several directions it was taken, the mesh is to agree from each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from shapes import icosphere

from refine_batch import Instance, RefineConfig, refine
from refine_batch.cameras.camera import Camera, LikelyCamera, angle_between
from refine_batch.errors import ErrorKind
from refine_batch.instance import PictureView
from refine_batch.mesh import Mesh
from refine_batch.methods.base import MethodOutput
from refine_batch.refinement import optimise
from refine_batch.refinement.prepare import prepare
from refine_batch.render import hard_silhouettes

SIZE = 64
FRONT, SIDE = Camera(0.0, 10.0, 2.4), Camera(90.0, 10.0, 2.4)
BALL = icosphere(2, 0.4)
# Too wide in both directions that a picture from the front and one from the side show, and of extent 1.
WIDE = Mesh(BALL.vertices * np.array([1.25, 1.0, 1.25], np.float32), BALL.faces)


@pytest.fixture
def answers(monkeypatch) -> list[LikelyCamera]:
    """What is found of a camera that is not known."""
    found = [LikelyCamera(FRONT), LikelyCamera(SIDE, 0.8)]
    monkeypatch.setattr(optimise, "estimate_cameras", lambda *_, **__: found)
    return found


def of_ball(**values) -> Instance:
    mask = hard_silhouettes(BALL, [FRONT], SIZE)[0]
    return Instance("ball", WIDE, np.zeros((SIZE, SIZE, 3), np.uint8), mask, symmetry_axis="none", **values)


def config(**options) -> RefineConfig:
    return RefineConfig(**{"method": "large-steps", "image_size": SIZE, "figure_samples": 100} | options)


def too_wide(mesh: Mesh) -> np.ndarray:
    """By how much, in x, y and z."""
    return np.abs(np.ptp(mesh.vertices, axis=0) - 0.8)


# Of so short a course of `refine` the guard would go half of the way; and growth as a whole is not what is looked at.
SHORT = {"steps": 60, "guard": False, "paper": {"weights": {"size": 0.3}}}


@pytest.mark.parametrize(("method", "how", "left"), [("large-steps", {}, 0.15), ("refine", SHORT, 0.17)])
def test_a_mesh_is_to_agree_with_its_picture_from_each_direction(answers, method, how, left):
    options = config(method=method, **how)
    [both] = refine([of_ball()], options)
    del answers[1]
    [one] = refine([of_ball()], options)
    assert (both.status, one.status) == ("refined", "refined"), both.kept_reason
    # One direction tells of one width alone.
    assert too_wide(one.mesh)[2] > 0.195
    assert too_wide(both.mesh)[2] < left
    # The row speaks of the best.
    assert angle_between(both.camera, FRONT) < 5.0
    assert both.camera_source == "estimated"
    assert both.after.iou_2d_views is None
    assert both.after.iou_2d > both.before.iou_2d
    assert one.notes == ()
    assert both.notes == (
        "the mask may as well be seen from another direction than the one estimated: azimuth 90°, elevation 10°",
    )


@pytest.mark.usefixtures("answers")
def test_views_count_as_they_are_credible_and_only_where_nothing_else_tells():
    def estimated(instance: Instance, **options) -> optimise.Prepared:
        return optimise._with_camera(prepare(instance, config()), config(**options), torch.device("cpu"))

    found = estimated(of_ball())
    views = found.for_method.views
    assert [view.camera for view in views] == [FRONT, SIDE]
    assert [view.weight for view in views] == pytest.approx([1 / 1.8, 0.8 / 1.8])
    assert [view.spread for view in views] == [optimise.ESTIMATED] * 2
    # What is left out of the picture is left out of both.
    unsure = found.unsure_of(np.eye(SIZE, dtype=bool), "half of it")
    assert all(not view.silhouette_known.diagonal().any() for view in unsure.for_method.views)
    # Another picture tells more than a guess, and the paper has one camera.
    mask = hard_silhouettes(BALL, [SIDE], SIZE)[0]
    the_papers = {"method": "refine", "paper_exact": True}
    for alone in (estimated(of_ball(views=(PictureView(mask, SIDE),))), estimated(of_ball(), **the_papers)):
        assert (alone.likewise, alone.notes) == ((), ())
        assert alone.for_method is alone.subject
    assert alone.subject.views[0].spread == (0.0, 0.0, 0.0)


@pytest.mark.usefixtures("answers")
def test_a_method_has_one_camera_for_each_direction(monkeypatch):
    """Which the row is told of the best alone."""

    def untouched(batch, *_):
        cameras = [tuple(view.camera for view in instance.views) for instance in batch]
        return [MethodOutput(i.mesh.vertices, cameras=c[:keep]) for i, c in zip(batch, cameras, strict=True)]

    monkeypatch.setattr(optimise, "load_method", lambda _: untouched)
    for keep in (2, 1):
        [result] = refine([replace(of_ball(), instance_id=str(keep))], config(guard=False))
        if keep == 2:
            assert (result.camera.azimuth, result.camera.elevation) == (0.0, 10.0)
        else:
            assert (result.status, result.error_kind) == ("failed", ErrorKind.INTERNAL)
            assert "1 cameras for 2 views" in result.error_message
