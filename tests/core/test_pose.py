"""Cameras found from silhouettes, and given ones corrected, against the cameras that took the masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from refine_batch.refinement.camera_correction import correct_camera
from shapes import box, icosphere

from refine_batch import Instance, RefineConfig, refine
from refine_batch.cameras.camera import Camera, UnknownCamera, angle_between
from refine_batch.dataset.synth import make_instance
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.mesh import Mesh
from refine_batch.methods.large_steps import optimise
from refine_batch.refinement import camera_estimation as estimation
from refine_batch.refinement.camera_estimation import ENOUGH_FACES, estimate_camera
from refine_batch.refinement.camera_fit import fit_cameras, ious
from refine_batch.render import hard_silhouettes

SIZE = 96


def joined(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    vertices = np.concatenate([mesh.vertices for mesh in meshes])
    return Mesh(vertices, np.concatenate([mesh.faces + s for mesh, s in zip(meshes, starts, strict=False)]))


# No two views are alike: a seat, a back and one arm.
CHAIR = joined(
    box(0.5, 0.1, 0.5),
    box(0.08, 0.5, 0.5, centre=(-0.25, 0.25, 0.0)),
    box(0.4, 0.2, 0.06, centre=(0.0, 0.15, 0.25)),
)
TRUE = Camera(50.0, 25.0, 1.6)


def mask_of(mesh: Mesh, camera: Camera, size: int = SIZE) -> np.ndarray:
    return hard_silhouettes(mesh, [camera], size)[0]


@pytest.mark.parametrize(
    ("one", "other", "angle"),
    [
        (Camera(0, 0, 1), Camera(90, 0, 2), 90),
        (Camera(10, 0, 1), Camera(370, 0, 1), 0),
        (Camera(0, 90, 1), Camera(123, 90, 1), 0),
        (Camera(0, 30, 1), Camera(180, 30, 1), 120),
        (Camera(0, 0, 1), Camera(180, 0, 1), 180),
    ],
)
def test_angle_between_directions(one, other, angle):
    assert angle_between(one, other) == pytest.approx(angle, abs=1e-6)


def test_ious_of_several_views():
    cameras = [TRUE, replace(TRUE, distance=3.2)]
    same, far = ious(CHAIR, mask_of(CHAIR, TRUE), cameras)
    assert same == 1.0
    small = mask_of(CHAIR, cameras[1])
    both = mask_of(CHAIR, TRUE)
    assert far == pytest.approx((small & both).sum() / (small | both).sum())


@pytest.mark.parametrize("roll", [0.0, 20.0])
def test_a_fit_comes_back_to_the_camera_that_took_the_mask(roll):
    true = replace(TRUE, roll=roll, fov=45.0, distance=2.0)
    start = replace(true, azimuth=true.azimuth + 7, elevation=true.elevation - 5, distance=true.distance * 1.12)
    found = fit_cameras(CHAIR, mask_of(CHAIR, true), [start])
    assert [f.iou for f in found] == sorted((f.iou for f in found), reverse=True)
    best = found[0]
    assert best.iou > 0.98
    assert angle_between(best.camera, true) < 1.0
    assert best.camera.distance == pytest.approx(true.distance, rel=0.01)
    assert (best.camera.roll, best.camera.fov) == (roll, 45.0)


def test_a_fit_never_ends_worse_than_its_start():
    found = fit_cameras(CHAIR, mask_of(CHAIR, TRUE), [TRUE], steps=2, fine_steps=1)
    assert found[0].camera == TRUE
    assert found[0].iou == 1.0


@pytest.mark.parametrize("true", [TRUE, Camera(-130.0, 5.0, 1.3), Camera(100.0, 50.0, 2.0)])
def test_an_unknown_camera_is_found(true):
    found = estimate_camera(CHAIR, mask_of(CHAIR, true))
    assert angle_between(found, true) < 2.0
    assert found.distance == pytest.approx(true.distance, rel=0.03)
    assert ious(CHAIR, mask_of(CHAIR, true), [found])[0] > 0.96


@pytest.mark.parametrize(
    "known", [{"elevation": 25.0}, {"distance": 1.6}, {"azimuth": 410.0}, {"azimuth": 50.0, "elevation": 25.0}]
)
def test_what_is_known_of_a_camera_is_kept(known):
    found = estimate_camera(CHAIR, mask_of(CHAIR, TRUE), UnknownCamera(**known))
    for name, value in known.items():
        assert getattr(found, name) == value
    assert angle_between(found, TRUE) < 2.0


def test_the_field_of_view_is_used():
    true = replace(TRUE, fov=30.0, distance=3.0)
    found = estimate_camera(CHAIR, mask_of(CHAIR, true), UnknownCamera(fov=30.0))
    assert found.fov == 30.0
    assert found.distance == pytest.approx(3.0, rel=0.03)


def test_of_opposite_views_the_one_from_above_is_taken():
    """From far away both see nearly the same outline of a shape that is symmetric in z."""
    wedge = joined(box(0.6, 0.1, 0.4), box(0.1, 0.4, 0.4, centre=(-0.25, 0.25, 0.0)))
    true = Camera(60.0, 30.0, 12.0, fov=8.0)
    found = estimate_camera(wedge, mask_of(wedge, true), UnknownCamera(fov=8.0))
    assert found.elevation > 0


@pytest.mark.parametrize("number", [210, 218])
def test_what_is_wrong_with_the_mesh_is_not_the_cameras(number):
    """A free fit absorbs it, even begun at the true camera; where the shape moves too, less is left for the camera."""
    made = make_instance(number)
    mask = made.image[..., 3] > 0
    absorbed = fit_cameras(made.coarse, mask, [made.camera])[0].camera
    found = estimate_camera(made.coarse, mask)
    assert angle_between(found, made.camera) < min(5.0, angle_between(absorbed, made.camera))


@pytest.mark.parametrize("shared", [True, False], ids=["shared vertices", "flat shading"])
def test_a_mesh_of_many_faces_is_seen_from_the_same_camera(shared, monkeypatch):
    fine = trimesh.Trimesh(CHAIR.vertices, CHAIR.faces, process=False).subdivide_to_size(0.03)
    vertices, faces = fine.vertices.astype(np.float32), fine.faces
    mesh = (
        Mesh(vertices, faces) if shared else Mesh(vertices[faces].reshape(-1, 3), np.arange(faces.size).reshape(-1, 3))
    )
    assert len(mesh.faces) > 4 * ENOUGH_FACES
    sizes = []

    def watched(batch, *rest):
        sizes.extend(len(instance.mesh.faces) for instance in batch)
        return optimise(batch, *rest)

    monkeypatch.setattr(estimation, "optimise", watched)
    assert angle_between(estimate_camera(mesh, mask_of(CHAIR, TRUE)), TRUE) < 2.0
    assert max(sizes) <= 1.1 * ENOUGH_FACES


@pytest.mark.parametrize(("fails_from", "within"), [(0, 15.0), (1, 5.0)], ids=["all", "the fine ones"])
def test_where_no_refinement_ends_well_what_came_before_has_the_last_word(monkeypatch, fails_from, within):
    """Directions are searched in steps of 15 degrees; rough refinements come nearer."""
    calls = []

    def diverge(batch, *rest):
        calls.append(len(batch))
        if len(calls) > fails_from:
            return [InstanceError(ErrorKind.DIVERGED, "")] * len(batch)
        return optimise(batch, *rest)

    monkeypatch.setattr(estimation, "optimise", diverge)
    assert angle_between(estimate_camera(CHAIR, mask_of(CHAIR, TRUE)), TRUE) < within
    assert len(calls) == fails_from + 1


def test_answers_that_agree_are_averaged():
    def found(azimuth: float, elevation: float, loss: float = 1.0) -> estimation.Found:
        return estimation.Found(Camera(azimuth, elevation, 2.0), loss)

    across = estimation._mean([found(178.0, 10.0), found(-172.0, 20.0)])
    assert (across.azimuth, across.elevation, across.distance) == pytest.approx((-177.0, 15.0, 2.0))
    # Far from the best, and far worse than it: neither counts.
    assert estimation._mean([found(0.0, 10.0), found(40.0, 10.0)]) == Camera(0.0, 10.0, 2.0)
    assert estimation._mean([found(0.0, 10.0), found(4.0, 10.0, loss=3.0)]).azimuth == pytest.approx(0.0, abs=1e-6)
    # From straight above an azimuth is a turn of the picture, however near the directions are.
    assert estimation._mean([found(0.0, 86.0), found(170.0, 85.0)]).azimuth == 0.0


def test_a_mask_that_no_view_overlaps():
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:3, :3] = True
    with pytest.raises(InstanceError, match="no camera could be estimated") as raised:
        estimate_camera(icosphere(1, 0.3), mask)
    assert raised.value.kind is ErrorKind.CAMERA_INVALID


def test_a_camera_a_little_wrong_is_corrected():
    wrong = replace(TRUE, azimuth=TRUE.azimuth + 6, elevation=TRUE.elevation + 6, distance=TRUE.distance * 0.88)
    found = correct_camera(CHAIR, mask_of(CHAIR, TRUE), wrong)
    assert found is not None
    assert angle_between(found, TRUE) < 1.0
    assert found.distance == pytest.approx(TRUE.distance, rel=0.01)


def test_a_right_camera_is_left_alone():
    assert correct_camera(CHAIR, mask_of(CHAIR, TRUE), TRUE) is None


def test_a_wrong_mesh_does_not_move_the_camera():
    """What a free fit would absorb."""
    coarse = Mesh(CHAIR.vertices * np.array([1.3, 0.7, 1.0], np.float32), CHAIR.faces)
    mask = mask_of(CHAIR, TRUE)
    assert fit_cameras(coarse, mask, [TRUE])[0].iou > ious(coarse, mask, [TRUE])[0] + 0.01
    assert correct_camera(coarse, mask, TRUE) is None


def test_a_camera_that_is_altogether_wrong_is_not_corrected():
    assert correct_camera(CHAIR, mask_of(CHAIR, TRUE), replace(TRUE, azimuth=TRUE.azimuth + 60)) is None


def of_chair(camera) -> Instance:
    mask = mask_of(CHAIR, TRUE)
    return Instance("chair", CHAIR, np.where(mask[..., None], 120, 0).astype(np.uint8).repeat(3, axis=2), mask, camera)


def run(camera, **options):
    config = RefineConfig(method="large-steps", steps=6, image_size=SIZE, figure_samples=100, guard=False, **options)
    [result] = refine([of_chair(camera)], config)
    return result


def test_the_library_estimates_and_says_so():
    result = run(None)
    assert result.camera_source == "estimated"
    assert angle_between(result.camera, TRUE) < 2.0
    assert result.before.iou_2d > 0.95
    assert run(UnknownCamera(elevation=25.0)).camera.elevation == 25.0


def test_the_library_corrects_when_asked_and_says_so():
    wrong = replace(TRUE, azimuth=TRUE.azimuth + 8)
    assert run(wrong).camera_source == "given"
    result = run(wrong, refine_camera=True)
    assert result.camera_source == "corrected"
    assert angle_between(result.camera, TRUE) < 1.0
    # Before: the mesh as it came, seen by the camera that it came with.
    assert result.before.iou_2d == pytest.approx(float(ious(CHAIR, mask_of(CHAIR, TRUE), [wrong])[0]))
    assert result.after.iou_2d > 0.95


def test_a_kept_mesh_keeps_its_corrected_camera():
    """The mesh was right all along: whatever refinement makes of it is not better."""
    wrong = replace(TRUE, azimuth=TRUE.azimuth + 8)
    mask = mask_of(CHAIR, TRUE)
    config = RefineConfig(method="large-steps", steps=1, image_size=SIZE, figure_samples=100, refine_camera=True)
    [result] = refine([of_chair(wrong)], config)
    assert result.status == "kept"
    assert result.camera_source == "corrected"
    np.testing.assert_array_equal(result.mesh.vertices, CHAIR.vertices)
    assert result.after.iou_2d == pytest.approx(float(ious(CHAIR, mask, [result.camera])[0]), abs=1e-3)
    assert result.before.iou_2d < result.after.iou_2d
    assert result.losses == {}
    assert result.loss_total is None
