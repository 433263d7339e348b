"""The mesh that is refined in place of a file's, the way back, and that nothing of how a file says a shape matters."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from shapes import box, flat_shaded, icosphere, joined, torus
from test_welding import split_sphere

from refine_batch import Camera, Instance, Mesh, RefineConfig, RefinedInstance, refine
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.mesh.welding import TOLERANCE, weld
from refine_batch.mesh.working import WorkingMesh
from refine_batch.methods import MethodOutput
from refine_batch.refinement import guard, plausibility
from refine_batch.render import hard_silhouettes

SIZE = 32
CAMERA = Camera(30, 20, 2.0)
METHODS = pytest.mark.parametrize("method", ["refine", "large-steps"])


# --- There and back -------------------------------------------------------------------------------------------------


def test_it_is_about_the_middle_of_its_box_and_one_unit_large():
    """Strays have no part in it."""
    solid = box(3.0, 6.0, 1.5, centre=(10.0, -4.0, 7.0))
    working = WorkingMesh.of(joined(Mesh([[99, 99, 99]], np.zeros((0, 3), np.int32)), solid))
    np.testing.assert_allclose(working.centre, [10.0, -4.0, 7.0])
    assert working.extent == pytest.approx(6.0)
    np.testing.assert_allclose(np.ptp(working.mesh.vertices, axis=0), [0.5, 1.0, 0.25], rtol=1e-6)
    np.testing.assert_allclose(working.mesh.vertices.sum(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(working.placed(solid.vertices), working.mesh.vertices, atol=1e-7)
    assert not working.decimated


def test_a_mesh_without_an_area_is_refused_by_name():
    with pytest.raises(InstanceError, match="chair 7: no face of the mesh has an area") as raised:
        WorkingMesh.of(Mesh(np.zeros((3, 3)), [[0, 1, 2]]), name="chair 7")
    assert raised.value.kind is ErrorKind.MESH_BROKEN


@pytest.mark.parametrize("faces", [None, 100], ids=["whole", "decimated"])
def test_what_was_not_moved_is_the_files_to_the_last_bit(faces):
    source = joined(Mesh([[5, 5, 5], [-0.0, 0.0, 1.0]], np.zeros((0, 3), np.int32)), flat_shaded(icosphere(2, 3.7)))
    working = WorkingMesh.of(source, faces)
    assert working.decimated == (faces is not None)
    np.testing.assert_array_equal(working.carry(working.mesh.vertices).view(np.uint32), source.vertices.view(np.uint32))


def test_every_vertex_goes_where_its_own_one_goes():
    """In object units; those at one place stay at one, to the last bit; strays stay."""
    solid = box(3.0, 6.0, 1.5, centre=(10.0, -4.0, 7.0))
    source = joined(flat_shaded(solid), Mesh([[99, 99, 99]], np.zeros((0, 3), np.int32)))
    working = WorkingMesh.of(source)
    by = np.random.default_rng(0).normal(scale=0.1, size=working.mesh.vertices.shape)
    carried = working.carry((working.mesh.vertices + by).astype(np.float32))
    for corner, moved in zip(working.mesh.vertices, by, strict=True):
        here = np.flatnonzero(np.linalg.norm(working.placed(source.vertices) - corner, axis=1) < 1e-6)
        assert len(here) >= 3
        np.testing.assert_allclose(
            carried[here] - source.vertices[here], np.tile(6.0 * moved, (len(here), 1)), atol=1e-5
        )
        assert len(np.unique(carried[here].view(np.uint32), axis=0)) == 1
    np.testing.assert_array_equal(carried[-1], [99, 99, 99])


def test_values_are_found_for_every_vertex_of_the_file():
    ball = icosphere(3)
    source = joined(Mesh([[9, 9, 9]], np.zeros((0, 3), np.int32)), flat_shaded(ball))
    for faces, close in ((None, 1e-6), (300, 0.03)):
        working = WorkingMesh.of(source, faces)
        # A linear function of the place.
        found = working.values(working.mesh.vertices @ np.array([0.3, -0.2, 0.5]))
        assert found.dtype == np.float32
        assert math.isnan(found[0])
        expected = working.placed(source.vertices[1:]) @ np.array([0.3, -0.2, 0.5])
        np.testing.assert_allclose(found[1:], expected, atol=close)


# --- Fewer faces ----------------------------------------------------------------------------------------------------


def bumpy(bump: float = 0.01) -> tuple[Mesh, np.ndarray]:
    """A fine ball of extent 1 with bumps of 1 %, and the ball without them."""
    ball = icosphere(5, 0.5).vertices.astype(np.float64)
    phase = np.sin(60 * ball[:, 0]) * np.sin(60 * ball[:, 1]) * np.sin(60 * ball[:, 2])
    return Mesh(ball * (1 + 2 * bump * phase[:, None]), icosphere(5).faces), ball


def test_what_is_finer_than_the_working_mesh_stays_on_it():
    """Moved and stretched, a bumpy ball is a bumpy ball: the bumps are the file's own."""
    source, smooth = bumpy()
    working = WorkingMesh.of(source, 500)
    assert 400 < len(working.mesh.faces) <= 520
    shift = np.array([0.1, -0.2, 0.05])
    moved = working.carry(working.mesh.vertices + shift.astype(np.float32))
    np.testing.assert_allclose(moved, source.vertices + working.extent * shift, atol=2e-6)
    stretch = np.array([1.2, 1.0, 0.9])
    stretched = working.carry((working.mesh.vertices * stretch).astype(np.float32))
    bumps = np.linalg.norm(source.vertices - smooth, axis=1)
    assert bumps.max() > 0.007
    # The ball under the bumps went where the map takes it, and the bumps went with it: what is left of them after the
    # ball's own move is taken off is what they were.
    left = stretched - (working.centre + (smooth - working.centre) * stretch)
    np.testing.assert_allclose(left, source.vertices - smooth, atol=0.004)
    assert np.corrcoef(left.ravel(), (source.vertices - smooth).ravel())[0, 1] > 0.97
    # Between the vertices nothing is torn: edges change by the stretch and no more.
    ends = source.faces[:, :2]
    before, after = (np.linalg.norm(v[ends[:, 0]] - v[ends[:, 1]], axis=1) for v in (source.vertices, stretched))
    assert (after / before).max() < 1.25
    assert (after / before).min() > 0.85


def test_seams_of_a_decimated_file_stay_closed():
    source = split_sphere(60, 90)
    working = WorkingMesh.of(source, 400)
    by = np.random.default_rng(0).normal(scale=0.02, size=working.mesh.vertices.shape)
    carried = working.carry(working.mesh.vertices + by)
    np.testing.assert_array_equal(carried[::91], carried[90::91])
    assert len(np.unique(carried[:91], axis=0)) == 1
    assert np.abs(carried - source.vertices).max() > 0.01


def test_what_falls_apart_when_decimated_is_refined_whole():
    """Strips of triangles that share nothing collapse one by one."""
    random = np.random.default_rng(0)
    middles = random.uniform(-1, 1, (400, 1, 3))
    loose = Mesh((middles + random.normal(scale=1e-2, size=(400, 3, 3))).reshape(-1, 3), np.arange(1200).reshape(-1, 3))
    working = WorkingMesh.of(loose, 100)
    moved = working.carry(working.mesh.vertices + np.float32(0.1))
    np.testing.assert_allclose(moved, loose.vertices + 0.1 * working.extent, atol=1e-5)


# --- How a file says a shape does not matter ------------------------------------------------------------------------


def instance(mesh: Mesh, camera: Camera = CAMERA, name: str = "it", **changes) -> Instance:
    """Its mask is that of a stretched ball."""
    true = icosphere(3, 0.5)
    [mask] = hard_silhouettes(Mesh(true.vertices * np.array([1.2, 0.85, 1.0]), true.faces), [CAMERA], SIZE)
    image = np.where(mask[..., None], 130, 20).astype(np.uint8).repeat(3, axis=2)
    return replace(Instance(name, mesh, image, mask, camera), **changes)


def run(method: str, given: Instance, **options) -> RefinedInstance:
    defaults = {"steps": 12, "image_size": SIZE, "figure_samples": 100, "guard": False}
    [result] = refine([given], RefineConfig(method=method, **defaults | options), device="cpu")
    assert result.status != "failed", result.error_message
    return result


SPLIT = {
    "split sphere": split_sphere(),
    "flat-shaded box": flat_shaded(box(0.9, 0.7, 1.0)),
    "flat-shaded torus": flat_shaded(Mesh(torus().vertices / 0.84, torus().faces)),
}


@METHODS
@pytest.mark.parametrize("name", SPLIT)
def test_split_vertices_move_as_those_of_the_welded_mesh(method, name):
    """Those at one place stay at one to the last bit, and the result is that of the file without splits."""
    source = SPLIT[name]
    welded, place = weld(source)
    assert len(welded.vertices) < len(source.vertices)
    found, plain = run(method, instance(source)), run(method, instance(welded))
    np.testing.assert_array_equal(found.mesh.faces, source.faces)
    np.testing.assert_array_equal(found.mesh.vertices, plain.mesh.vertices[place])
    assert np.abs(found.mesh.vertices - source.vertices).max() > 1e-3
    np.testing.assert_array_equal(found.symmetry_confidence, plain.symmetry_confidence[place])
    assert (found.losses, found.camera) == (plain.losses, plain.camera)


@METHODS
def test_a_stray_vertex_changes_nothing(method):
    ball = icosphere(2, 0.5)
    stray = joined(Mesh([[40.0, 0.0, 0.0]], np.zeros((0, 3), np.int32)), ball)
    found, plain = run(method, instance(stray)), run(method, instance(ball))
    np.testing.assert_array_equal(found.mesh.vertices[1:], plain.mesh.vertices)
    np.testing.assert_array_equal(found.mesh.vertices[0], [40.0, 0.0, 0.0])
    assert math.isnan(found.symmetry_confidence[0])
    assert found.after.iou_2d == plain.after.iou_2d


SHAPE = Mesh(icosphere(2, 0.5).vertices * np.array([1.0, 0.8, 0.9]), icosphere(2).faces)


@METHODS
@pytest.mark.parametrize(
    ("scale", "shift"),
    [(1000.0, (0, 0, 0)), (0.001, (0, 0, 0)), (1.0, (3.0, -2.0, 5.0)), (1000.0, (400.0, 900.0, -700.0))],
)
def test_units_and_place_change_nothing(method, scale, shift):
    """The object in other units, elsewhere, with its camera along: the same, to a thousandth of its extent."""
    plain = run(method, instance(SHAPE))
    camera = replace(CAMERA, distance=CAMERA.distance * scale, target=shift)
    found = run(method, instance(Mesh(SHAPE.vertices * scale + shift, SHAPE.faces), camera))
    back = (found.mesh.vertices.astype(np.float64) - shift) / scale
    np.testing.assert_allclose(back, plain.mesh.vertices, rtol=0, atol=1e-3)
    assert np.abs(plain.mesh.vertices - SHAPE.vertices).max() > 0.01
    assert found.camera.distance == pytest.approx(plain.camera.distance * scale, rel=1e-3)
    assert found.camera.azimuth == pytest.approx(plain.camera.azimuth, abs=0.1)


def starlike(batch, config, device):
    """A method that pulls all but the six outermost points to the middle."""
    outcomes = []
    for subject in batch:
        vertices = subject.mesh.vertices
        tips = np.abs(vertices).max(axis=1) > 0.97 * np.abs(vertices).max()
        outcomes.append(MethodOutput(np.where(tips[:, None], vertices, 0.3 * vertices)))
    return outcomes


@pytest.mark.parametrize("backs", ["shared", "own"])
def test_a_double_sided_surface_is_judged_as_a_single_one(backs, monkeypatch):
    """Its two sides' volumes cancel: as it is in the file, no volume of it would ever change too much."""
    ball = icosphere(3, 0.5)
    if backs == "shared":
        double = Mesh(ball.vertices, np.concatenate([ball.faces, ball.faces[:, ::-1]]))
    else:
        double = joined(ball, Mesh(ball.vertices, ball.faces[:, ::-1]))
    method = f"{__name__}:starlike"
    # The mask is the star's own, lest it be kept for its silhouette, and no look before, to which a ball is no star.
    monkeypatch.setattr(plausibility, "UNRELATED", 0.0)
    monkeypatch.setattr(plausibility, "ELSEWHERE", 1.0)
    monkeypatch.setattr(guard, "SHARES", ((1.0, 1.0),))
    [star] = starlike([type("Subject", (), {"mesh": ball})], None, None)
    [mask] = hard_silhouettes(Mesh(star.vertices, ball.faces), [CAMERA], SIZE)
    single, both = (run(method, instance(mesh, mask=mask), guard=True, guard_risk=1.0) for mesh in (ball, double))
    assert single.status == both.status == "kept"
    assert "volume changed too much" in single.kept_reason
    assert both.kept_reason == single.kept_reason
    assert both.before.iou_2d == single.before.iou_2d
    np.testing.assert_array_equal(both.mesh.vertices, double.vertices)
    # Refined, it is refined as one, too.
    one, two = (run("large-steps", instance(mesh)) for mesh in (ball, double))
    np.testing.assert_array_equal(two.mesh.vertices[: len(ball.vertices)], one.mesh.vertices)


def test_a_seam_that_was_rounded_apart_does_not_open():
    """The two sides of it stay as far apart as they were."""
    source = split_sphere(12, 16)
    vertices = source.vertices.copy()
    vertices[16::17] += np.float32(0.3 * TOLERANCE)
    torn = Mesh(vertices, source.faces)
    assert len(np.unique(torn.vertices, axis=0)) > len(np.unique(source.vertices, axis=0))
    found = run("large-steps", instance(torn))
    apart = found.mesh.vertices[16::17] - found.mesh.vertices[::17]
    assert np.abs(apart).max() < TOLERANCE
    assert np.abs(found.mesh.vertices - torn.vertices).max() > 0.01


def test_a_file_of_many_faces_comes_back_whole():
    """Refined as one of fewer, it is the file's with every vertex moved, and as good."""
    source, _ = bumpy()
    options = {"preparation": {"working_faces": 400}, "steps": 40}
    found = run("large-steps", instance(source), **options)
    np.testing.assert_array_equal(found.mesh.faces, source.faces)
    assert len(found.symmetry_confidence) == len(source.vertices)
    assert found.preparation is None
    whole = run("large-steps", instance(source), steps=40)
    assert found.after.iou_2d > found.before.iou_2d + 0.03
    assert found.after.iou_2d > whole.after.iou_2d - 0.03
    assert trimesh.Trimesh(found.mesh.vertices, found.mesh.faces, process=False).is_watertight


def uv_sphere(rings: int, sectors: int, radius: float = 0.5) -> Mesh:
    """Two poles in which as many slivers meet as there are sectors."""
    polar, turn = np.meshgrid(
        np.pi * np.arange(1, rings) / rings, 2 * np.pi * np.arange(sectors) / sectors, indexing="ij"
    )
    ring = np.stack([np.sin(polar) * np.cos(turn), np.cos(polar), np.sin(polar) * np.sin(turn)], axis=-1).reshape(-1, 3)
    at = np.arange((rings - 1) * sectors).reshape(rings - 1, sectors)
    after = np.roll(at, -1, axis=1)
    a, b, c, d = (x.ravel() for x in (at[:-1], after[:-1], at[1:], after[1:]))
    north, south = len(ring), len(ring) + 1
    caps = [np.stack([np.full(sectors, north), after[0], at[0]], axis=1)]
    caps += [np.stack([np.full(sectors, south), at[-1], after[-1]], axis=1)]
    faces = np.concatenate([np.stack([a, b, c], axis=1), np.stack([b, d, c], axis=1), *caps])
    return Mesh(radius * np.concatenate([ring, [[0, 1, 0], [0, -1, 0]]]), faces)


def test_a_decimated_surface_stands_where_the_whole_one_does():
    """Decimated in haste, the poles of this one became spikes, and a part of it was lost."""
    sphere = uv_sphere(251, 400)
    working = WorkingMesh.of(sphere, 3000)
    assert len(working.mesh.faces) < len(sphere.faces) / 3
    np.testing.assert_allclose(np.linalg.norm(working.mesh.vertices, axis=1), 0.5, atol=0.01)
    np.testing.assert_allclose(np.ptp(working.mesh.vertices, axis=0), 1.0, atol=0.02)
