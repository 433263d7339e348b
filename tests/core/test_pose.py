"""Cameras found from silhouettes, and given ones that move as far as they may be wrong, against the true ones."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from shapes import armchair, box, flat_shaded, icosphere, joined, unit
from subjects import subject

from refine_batch import Instance, RefineConfig, refine
from refine_batch.cameras.camera import Camera, UnknownCamera, angle_between, camera_axes
from refine_batch.dataset.synth import make_instance
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.instance import CameraError, PictureView
from refine_batch.mesh import Mesh
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.mesh.welding import weld
from refine_batch.mesh.working import WorkingMesh
from refine_batch.methods import camera_only
from refine_batch.methods.large_steps import large_steps
from refine_batch.refinement import camera_estimation as estimation
from refine_batch.refinement import optimise
from refine_batch.refinement.camera_estimation import ENOUGH_FACES, estimate_cameras
from refine_batch.refinement.camera_fit import fit_cameras, ious
from refine_batch.render import hard_silhouettes

SIZE = 96


CHAIR = armchair()
TRUE = Camera(50.0, 25.0, 2.8)


@pytest.fixture
def briefly(monkeypatch) -> None:
    """An estimate that tries less, for tests of what goes into one and what comes of it: how good it is others say."""
    for name, less in {"STARTS": 6, "FINALISTS": 2, "ROUGH": (48, 20), "FINE": (80, 60)}.items():
        monkeypatch.setattr(estimation, name, less)


def estimate_camera(*args, **options) -> Camera:
    """The best answer alone."""
    return estimate_cameras(*args, **options)[0].camera


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
    cameras = [TRUE, replace(TRUE, distance=5.6)]
    same, far = ious(CHAIR, mask_of(CHAIR, TRUE), cameras)
    assert same == 1.0
    small = mask_of(CHAIR, cameras[1])
    both = mask_of(CHAIR, TRUE)
    assert far == pytest.approx((small & both).sum() / (small | both).sum())


@pytest.mark.parametrize("roll", [0.0, 20.0])
def test_a_fit_comes_back_to_the_camera_that_took_the_mask(roll):
    true = replace(TRUE, roll=roll, fov=45.0, distance=3.6)
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


@pytest.mark.parametrize("true", [TRUE, Camera(-130.0, 5.0, 2.3), Camera(100.0, 50.0, 3.6)])
def test_an_unknown_camera_is_found(true):
    found = estimate_camera(CHAIR, mask_of(CHAIR, true))
    assert angle_between(found, true) < 2.0
    assert found.distance == pytest.approx(true.distance, rel=0.03)
    assert ious(CHAIR, mask_of(CHAIR, true), [found])[0] > 0.96


@pytest.mark.usefixtures("briefly")
@pytest.mark.parametrize(
    "known", [{"elevation": 25.0}, {"distance": 2.8}, {"azimuth": 410.0}, {"azimuth": 50.0, "elevation": 25.0}]
)
def test_what_is_known_of_a_camera_is_kept(known):
    found = estimate_camera(CHAIR, mask_of(CHAIR, TRUE), UnknownCamera(**known))
    for name, value in known.items():
        assert getattr(found, name) == value
    assert angle_between(found, TRUE) < 2.0


@pytest.mark.usefixtures("briefly")
def test_the_field_of_view_is_used():
    true = replace(TRUE, fov=30.0, distance=5.4)
    found = estimate_camera(CHAIR, mask_of(CHAIR, true), UnknownCamera(fov=30.0))
    assert found.fov == 30.0
    assert found.distance == pytest.approx(5.4, rel=0.03)


def test_of_opposite_views_the_one_from_above_is_taken():
    """From far away both see nearly the same outline of a shape that is symmetric in z."""
    wedge = unit(joined(box(0.6, 0.1, 0.4), box(0.1, 0.4, 0.4, centre=(-0.25, 0.25, 0.0))))
    true = Camera(60.0, 30.0, 20.0, fov=8.0)
    found = estimate_camera(wedge, mask_of(wedge, true), UnknownCamera(fov=8.0))
    assert found.elevation > 0


@pytest.mark.parametrize("number", [210, 218])
def test_what_is_wrong_with_the_mesh_is_not_the_cameras(number):
    """A camera moved with the shape is near the true one, which a free fit leaves even where it begins there."""
    made = make_instance(number)
    mask = made.image[..., 3] > 0
    working = WorkingMesh.of(made.coarse).mesh
    found = estimate_camera(working, mask, plane=SymmetryPlane((0.0, 0.0, 1.0)))
    assert angle_between(found, made.camera) < 5.0


@pytest.mark.usefixtures("briefly")
@pytest.mark.parametrize("shared", [True, False], ids=["shared vertices", "flat shading"])
def test_a_mesh_of_many_faces_is_seen_from_the_same_camera(shared, monkeypatch):
    fine = trimesh.Trimesh(CHAIR.vertices, CHAIR.faces, process=False).subdivide_to_size(0.055)
    mesh = Mesh(fine.vertices, fine.faces)
    if not shared:
        mesh = weld(flat_shaded(mesh))[0]
    assert len(mesh.faces) > 4 * ENOUGH_FACES
    sizes = []

    def watched(batch, *rest):
        sizes.extend(len(instance.mesh.faces) for instance in batch)
        return large_steps(batch, *rest)

    monkeypatch.setattr(estimation, "large_steps", watched)
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
        return large_steps(batch, *rest)

    monkeypatch.setattr(estimation, "large_steps", diverge)
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


def test_other_answers_that_are_hardly_less_credible_are_told():
    def found(azimuth: float, loss: float = 1.0) -> estimation.Found:
        return estimation.Found(Camera(azimuth, 10.0, 2.0), loss)

    e = math.exp(-1.0)
    answers = estimation._answers([found(0.0), found(4.0), found(90.0, 1.1), found(94.0, 1.1), found(180.0, 1.3)])
    # Near the best it is the same answer, near another that one; of thirds of thirds nothing is told.
    assert [answer.camera.azimuth for answer in answers] == [pytest.approx(2.0), 90.0]
    assert [answer.credibility for answer in answers] == pytest.approx([1.0, e])
    many = estimation._answers([found(60.0 * n, 1.0 + 0.01 * n) for n in range(5)])
    assert [answer.camera.azimuth for answer in many] == [0.0, 60.0, 120.0]


def test_a_mask_that_no_view_overlaps():
    """What fills the picture between two of its corners meets neither."""
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:3, :3] = mask[-3:, -3:] = True
    with pytest.raises(InstanceError, match="no camera could be estimated") as raised:
        estimate_camera(icosphere(1, 0.3), mask)
    assert raised.value.kind is ErrorKind.CAMERA_INVALID


@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_an_object_may_stand_anywhere_in_the_picture(projection):
    """Far to the left and below, half as large as it could be."""
    true = replace(TRUE, distance=5.0, projection=projection)
    axes = camera_axes(true)
    true = replace(true, target=tuple((-1.6 * axes[:, 0] + 1.4 * axes[:, 1]).tolist()))
    mask = mask_of(CHAIR, true)
    assert not mask[: SIZE // 2].any()
    assert not mask[:, SIZE // 2 :].any()
    assert mask[1:-1, 1:-1].sum() == mask.sum() > 100
    found = estimate_camera(CHAIR, mask, UnknownCamera(projection=projection))
    assert angle_between(found, true) < 6.0
    assert found.distance == pytest.approx(true.distance, rel=0.06)
    assert ious(CHAIR, mask, [found])[0] > 0.85


def test_it_looks_where_it_is_told_to():
    """A distance that is known is one from that point; the mesh need not stand there."""
    target = (0.1, -0.15, 0.05)
    true = replace(TRUE, target=target)
    found = estimate_camera(CHAIR, mask_of(CHAIR, true), UnknownCamera(distance=TRUE.distance), target=target)
    assert (found.target, found.distance) == (target, TRUE.distance)
    assert angle_between(found, true) < 2.0


# --- Cameras alone --------------------------------------------------------------------------------------------------

WRONG = replace(TRUE, azimuth=TRUE.azimuth + 6, elevation=TRUE.elevation + 6, distance=TRUE.distance * 0.88)
FREE = (math.inf,) * 3


def fit_alone(given, **options):
    [found] = camera_only.fit_cameras([given], RefineConfig(image_size=SIZE, **options), torch.device("cpu"))
    np.testing.assert_array_equal(found.vertices, given.mesh.vertices)
    return found.cameras


def test_a_free_camera_alone_comes_back_to_the_one_that_took_the_mask():
    chair = subject("chair", CHAIR, CHAIR, TRUE, SIZE)
    [found] = fit_alone(chair.seen_by([WRONG], FREE))
    assert angle_between(found, TRUE) < 1.5
    assert found.distance == pytest.approx(TRUE.distance, rel=0.01)
    assert fit_alone(chair.seen_by([WRONG], (0.0, 0.0, 0.0))) == (WRONG,)


def test_a_camera_that_is_trusted_moves_less():
    """The more, the less; and of two numbers the one that is trusted less."""
    chair = subject("chair", CHAIR, CHAIR, TRUE, SIZE)
    moved = []
    for degrees in (0.05, 1.5, 5.0):
        spread = math.radians(degrees), math.radians(degrees), 0.1
        [found] = fit_alone(chair.seen_by([WRONG], spread))
        moved.append(angle_between(found, WRONG))
    assert moved[0] < 0.5 < moved[1] < moved[2]
    [found] = fit_alone(chair.seen_by([WRONG], (math.inf, 0.0, math.inf)))
    assert found.elevation == WRONG.elevation
    assert abs(found.azimuth - TRUE.azimuth) < 6.0


# --- In the library -------------------------------------------------------------------------------------------------


def of_chair(camera, mesh: Mesh = CHAIR, **values) -> Instance:
    mask = mask_of(CHAIR, TRUE)
    image = np.where(mask[..., None], 120, 0).astype(np.uint8).repeat(3, axis=2)
    return Instance("chair", mesh, image, mask, camera, **values)


def run(camera, mesh: Mesh = CHAIR, instance: dict | None = None, **options):
    defaults = {"method": "large-steps", "image_size": SIZE, "figure_samples": 100, "guard": False}
    [result] = refine([of_chair(camera, mesh, **(instance or {}))], RefineConfig(**defaults | options))
    assert result.status != "failed", result.error_message
    return result


@pytest.mark.usefixtures("briefly")
def test_the_library_estimates_and_says_so():
    result = run(None, steps=6)
    assert result.camera_source == "estimated"
    assert angle_between(result.camera, TRUE) < 2.0
    assert result.before.iou_2d > 0.9
    kept = run(UnknownCamera(elevation=25.0), steps=6)
    assert kept.camera.elevation == 25.0
    assert kept.camera_source == "estimated"


def test_a_mesh_that_is_centred_but_for_its_faults_is_seen_by_a_camera_that_looks_at_its_origin():
    """Which a dataset's cameras do; what stands elsewhere is looked at itself."""
    for aside, looks_at in (((0.05, 0.15, 0.0), (0.0, 0.0, 0.0)), ((0.0, 0.3, 0.0), (0.0, 0.3, 0.0))):
        shifted = Mesh(CHAIR.vertices + np.array(aside), CHAIR.faces)
        result = run(None, shifted, steps=2)
        assert angle_between(result.camera, TRUE) < 4.0
        np.testing.assert_allclose(result.camera.target, looks_at, atol=1e-6)


@pytest.mark.parametrize(("low", "centred"), [(-0.075, True), (-0.14, True), (0.0, False), (0.02, False), (0.2, False)])
def test_what_stands_on_its_origin_is_not_centred_however_flat(low, centred):
    flat = box(1.0, 0.15, 0.6)
    standing = Mesh(flat.vertices + np.array([0.0, low + 0.075, 0.0]), flat.faces)
    assert optimise._centred(WorkingMesh.of(standing, 1000, "a")) == centred


@pytest.mark.usefixtures("briefly")
def test_an_estimate_is_of_the_meshs_own_units():
    """In millimetres and off its origin; a distance that is known is one from that origin."""
    large = Mesh(CHAIR.vertices * 1000 + np.array([300.0, -200.0, 100.0]), CHAIR.faces)
    true = replace(TRUE, distance=2800.0, target=(300.0, -200.0, 100.0))
    result = run(None, large, steps=6)
    assert angle_between(result.camera, true) < 2.0
    assert result.camera.distance == pytest.approx(2800.0, rel=0.05)
    np.testing.assert_allclose(result.camera.target, true.target, atol=1.0)
    from_origin = Camera(50.0, 25.0, 3000.0)
    mask = mask_of(large, from_origin)
    config = RefineConfig(method="large-steps", image_size=SIZE, figure_samples=100, guard=False, steps=6)
    [known] = refine([replace(of_chair(UnknownCamera(distance=3000.0), large), mask=mask)], config)
    assert known.camera.distance == pytest.approx(3000.0)
    np.testing.assert_allclose(known.camera.target, 0.0, atol=1e-3)
    assert angle_between(known.camera, from_origin) < 2.0


def test_a_camera_a_little_wrong_comes_nearer_to_the_true_one():
    wrong = replace(TRUE, azimuth=TRUE.azimuth + 8)
    exact = run(wrong, camera_error=0, steps=5)
    assert exact.camera_source == "given"
    assert exact.camera == wrong
    result = run(wrong, camera_error="8,0.1")
    assert result.camera_source == "corrected"
    assert angle_between(result.camera, TRUE) < 4.0
    assert angle_between(run(wrong, instance={"camera_error": CameraError()}, steps=5).camera, wrong) == 0.0
    # Both at the camera that was used; what the given one gave is told besides.
    true_mask = mask_of(CHAIR, TRUE)
    assert result.iou_2d_given == pytest.approx(float(ious(CHAIR, true_mask, [wrong])[0]), abs=0.01)
    assert result.before.iou_2d == pytest.approx(float(ious(CHAIR, true_mask, [result.camera])[0]), abs=0.01)
    assert result.after.iou_2d > 0.95


@pytest.mark.parametrize("method", ["refine", "large-steps"])
def test_a_right_camera_hardly_moves(method):
    result = run(TRUE, method=method, steps=40)
    assert angle_between(result.camera, TRUE) < 1.0
    assert result.camera.distance == pytest.approx(TRUE.distance, rel=0.02)


def test_a_wrong_mesh_hardly_moves_a_trusted_camera():
    """What a free fit would absorb."""
    coarse = Mesh(CHAIR.vertices * np.array([1.2, 0.8, 1.0], np.float32), CHAIR.faces)
    mask = mask_of(CHAIR, TRUE)
    free = fit_cameras(coarse, mask, [TRUE])[0].camera
    result = run(TRUE, coarse, instance={"camera_error": CameraError(1.0, 0.02)})
    assert angle_between(result.camera, TRUE) < 1.5 < angle_between(free, TRUE)


def test_a_camera_that_is_altogether_wrong_stays_so():
    wrong = replace(TRUE, azimuth=TRUE.azimuth + 60)
    assert angle_between(run(wrong, steps=40).camera, wrong) < 20.0


def test_a_kept_mesh_keeps_the_camera_that_was_given():
    """The mesh was right all along: whatever refinement makes of it is not better."""
    result = run(TRUE, steps=20, guard=True)
    assert result.status == "kept"
    assert (result.camera, result.camera_source) == (TRUE, "given")
    np.testing.assert_array_equal(result.mesh.vertices, CHAIR.vertices)
    assert result.after == result.before
    assert result.losses == {}
    assert result.loss_total is None


def test_each_view_has_a_camera_that_moves_on_its_own():
    """Two of three are exact: the third comes back to where it was."""
    others = [Camera(140.0, 10.0, 2.6), Camera(-60.0, 30.0, 3.0)]
    wrong = replace(others[1], azimuth=others[1].azimuth + 7)
    exact = CameraError()
    views = (
        PictureView(mask_of(CHAIR, others[0]), others[0], camera_error=exact),
        PictureView(mask_of(CHAIR, others[1]), wrong, camera_error=CameraError(10.0, 0.1)),
    )
    from refine_batch.refinement.optimise import optimise
    from refine_batch.refinement.prepare import prepare

    config = RefineConfig(method="large-steps", image_size=SIZE, guard=False)
    [found] = optimise([prepare(of_chair(TRUE, camera_error=exact, views=views), config)], config, torch.device("cpu"))
    first, second, third = found.output.cameras
    assert (first, second) == tuple(view.camera for view in found.prepared.subject.views[:2])
    assert angle_between(third, others[1]) < 2.0


@pytest.mark.usefixtures("briefly")
def test_memory_that_is_short_while_a_camera_is_estimated_is_that_instance_s_alone(monkeypatch):
    """A kind that may pass, as it is where the method runs short of memory; its neighbours are refined."""

    def estimate(mesh, mask, unknown, *rest, **options):
        if unknown.fov == 30.0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return estimate_cameras(mesh, mask, unknown, *rest, **options)

    monkeypatch.setattr(optimise, "estimate_cameras", estimate)
    batch = [of_chair(UnknownCamera(fov=fov), CHAIR) for fov in (30.0, 60.0)]
    config = RefineConfig(method="large-steps", image_size=48, steps=2, figure_samples=100, guard=False)
    short, fine = refine(batch, config)
    assert (short.status, short.error_kind) == ("failed", ErrorKind.OUT_OF_MEMORY)
    assert fine.status == "refined", fine.error_message
