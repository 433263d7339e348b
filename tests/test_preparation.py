"""What is done to coarse meshes before refinement, and that it is undone or told."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import shapes
import trimesh
import yaml
from click.testing import CliRunner
from hypothesis import given, note, settings
from hypothesis import strategies as st
from refine_batch.refinement.preparation import make_ready, without_small_pieces

from refine_batch.cameras.camera import Camera
from refine_batch.cameras.conversions import from_camera, nearest_camera
from refine_batch.cli import main
from refine_batch.config import PreparationOptions, RefineConfig
from refine_batch.dataset.row import ManifestRow
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.figures.iou_2d import mask_iou
from refine_batch.instance import Instance
from refine_batch.mesh import Mesh
from refine_batch.mesh.decimation import decimated
from refine_batch.methods import MethodOutput
from refine_batch.refinement.pipeline import refine
from refine_batch.refinement.prepare import prepare
from refine_batch.render import hard_silhouettes
from refine_batch.results.rows import RowContext, row_of, table_of

CAMERA = Camera(30, 20, 3.0, fov=60, roll=15, offset_x=0.1, offset_y=-0.1)
SCALE, CENTRE = 0.6, np.array([0.25, -0.1, 0.2])


def together(*meshes: Mesh) -> Mesh:
    joined = trimesh.util.concatenate([trimesh.Trimesh(m.vertices, m.faces, process=False) for m in meshes])
    return Mesh(joined.vertices, joined.faces)


def aside(seed: int = 0) -> Mesh:
    """A lumpy box of largest extent 0.6 · 1.2 or so, well off the origin."""
    box = trimesh.creation.box((1.2, 0.7, 0.9)).subdivide().subdivide()
    bumps = np.random.default_rng(seed).uniform(-0.03, 0.03, box.vertices.shape)
    return Mesh((box.vertices + bumps) * SCALE + CENTRE, box.faces)


def instance(mesh: Mesh, camera: Camera | None = CAMERA, width: int = 300, **values) -> Instance:
    """A picture of the mesh by the camera; `width` below 300 crops it evenly to a standing one."""
    mask = hard_silhouettes(mesh, [camera or CAMERA], 300)[0]
    left = (300 - width) // 2
    mask = mask[:, left : left + width]
    image = np.where(mask[..., None], 200, np.linspace(0, 90, width)[None, :, None]).astype(np.uint8)
    image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    return Instance("it", mesh, image, mask, camera, **values)


# --- Pieces ---------------------------------------------------------------------------------------------------------


def test_floating_pieces_below_the_share_go_and_the_others_stay():
    body, crumb, chip = shapes.box(1, 1, 1), shapes.box(0.1, 0.1, 0.1, centre=(2, 0, 0)), shapes.box(0.3, 0.3, 0.3)
    chip = Mesh(chip.vertices + np.array([0, 2, 0]), chip.faces)
    mesh = together(crumb, body, chip)
    # Surfaces 0.06, 6 and 0.54 of 6.6.
    for share, expected, dropped in ((0.0, mesh, 0), (0.02, together(body, chip), 1), (0.5, body, 2), (0.99, body, 2)):
        found, number = without_small_pieces(mesh, share)
        assert number == dropped
        assert np.array_equal(found.vertices, expected.vertices)
        assert np.array_equal(found.faces, expected.faces)


def test_corners_at_one_place_hold_a_piece_together_whatever_their_vertices():
    body = shapes.icosphere(2)
    soup = Mesh(body.vertices[body.faces].reshape(-1, 3), np.arange(3 * len(body.faces)).reshape(-1, 3))
    assert without_small_pieces(soup, 0.5) == (soup, 0)


def test_the_largest_piece_stays_even_of_many_alike():
    many = together(*(shapes.box(0.1, 0.1, 0.1, centre=(k, 0, 0)) for k in range(10)))
    found, number = without_small_pieces(many, 0.5)
    assert (len(found.faces), number) == (12, 9)


# --- Decimation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [True, False], ids=["shared vertices", "flat shading"])
def test_decimation_keeps_the_shape(shared):
    sphere = shapes.icosphere(4, radius=0.5)
    if not shared:
        corners = sphere.vertices[sphere.faces].reshape(-1, 3)
        sphere = Mesh(corners, np.arange(len(corners)).reshape(-1, 3))
    small = decimated(sphere, 500)
    assert 400 <= len(small.faces) <= 500
    solid = trimesh.Trimesh(small.vertices, small.faces, process=False)
    assert solid.is_watertight
    assert solid.volume == pytest.approx(math.pi / 6, rel=0.03)
    assert np.abs(np.linalg.norm(small.vertices, axis=1) - 0.5).max() < 0.02
    again = decimated(sphere, 500)
    assert np.array_equal(again.vertices, small.vertices)
    assert np.array_equal(again.faces, small.faces)


@settings(max_examples=30)
@given(st.integers(5, 60), st.integers(10, 200), st.integers(0, 1000))
def test_any_triangles_decimate_to_a_usable_mesh_or_an_error(vertices, faces, seed):
    mesh = shapes.soup(vertices, faces, seed)
    try:
        small = decimated(mesh, 8)
    except InstanceError as error:
        note(f"refused: {error}")
        return
    small.check("it")
    assert len(small.faces) <= faces
    assert sorted(np.unique(small.faces)) == list(range(len(small.vertices)))
    assert (np.diff(np.sort(small.faces, axis=1)) > 0).all()


def test_meshes_of_fewer_faces_are_left_alone():
    mesh = shapes.icosphere(1)
    ready = make_ready(instance(mesh), PreparationOptions(max_faces=len(mesh.faces)))
    assert ready.working.mesh is mesh
    assert ready.record() is None


# --- Normalisation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [300, 240])
def test_the_normalised_object_is_seen_where_it_was(width):
    given_ = instance(aside(), width=width)
    ready = make_ready(given_, PreparationOptions(normalise=True))
    working = prepare(ready.working, 224)
    vertices = working.mesh.vertices
    np.testing.assert_allclose(vertices.max(axis=0) + vertices.min(axis=0), 0, atol=1e-6)
    assert np.ptp(vertices, axis=0).max() == pytest.approx(1, abs=1e-6)
    rendered = hard_silhouettes(working.mesh, [working.camera], 224)[0]
    assert mask_iou(rendered, working.mask) > 0.98
    # As large in the picture as before, not cut at its edge.
    assert working.mask.sum() == pytest.approx(prepare(given_, 224).mask.sum(), rel=0.1)
    assert not any(edge.any() for edge in (*working.mask[[0, -1]], *working.mask.T[[0, -1]]))
    # Colours went along with the mask.
    inside, outside = working.image[working.mask].mean(), working.image[~working.mask].mean()
    assert inside > 0.7
    assert outside < 0.25


def test_vertices_and_camera_come_back_in_the_inputs_coordinates():
    given_ = instance(aside())
    ready = make_ready(given_, PreparationOptions(normalise=True))
    assert np.array_equal(ready.restored(ready.working.mesh.vertices), given_.mesh.vertices), "to the last bit"
    moved = ready.working.mesh.vertices + np.array([0.1, 0.0, -0.2], np.float32)
    extent = np.ptp(given_.mesh.vertices, axis=0).max()
    expected = given_.mesh.vertices + extent * np.array([0.1, 0.0, -0.2])
    np.testing.assert_allclose(ready.restored(moved), expected, atol=1e-6)
    back = ready.restored_camera(ready.working.camera)
    for name in ("azimuth", "elevation", "distance", "fov", "roll", "offset_x", "offset_y"):
        assert getattr(back, name) == pytest.approx(getattr(CAMERA, name), abs=1e-6), name
    record = json.loads(ready.record())["normalised"]
    assert record["scale"] == pytest.approx(extent)
    np.testing.assert_allclose(
        ready.working.mesh.vertices * record["scale"] + record["centre"], given_.mesh.vertices, atol=1e-6
    )


def test_a_corrected_camera_comes_back_to_within_the_tilt():
    """A correction of 9° about the object's middle: about the input's origin, nearly the same picture."""
    given_ = instance(aside())
    ready = make_ready(given_, PreparationOptions(normalise=True))
    camera = ready.working.camera
    corrected = replace(
        camera, azimuth=camera.azimuth + 8, elevation=camera.elevation - 4, distance=camera.distance * 1.05
    )
    back = ready.restored_camera(corrected)
    # The same points through both, in the pixels of the picture that came.
    taken, facing = ready.taken, ready.facing
    seen = from_camera(corrected, facing.width).project(ready.working.mesh.vertices)[:, :2]
    rays = np.column_stack([seen, np.ones(len(seen))]) @ np.linalg.inv(facing.intrinsics).T
    old = rays @ (taken.intrinsics @ taken.rotation @ facing.rotation.T).T
    expected = old[:, :2] / old[:, 2:]
    found = from_camera(back, taken.width).project(given_.mesh.vertices)[:, :2]
    moved = np.abs(from_camera(CAMERA, 300).project(given_.mesh.vertices)[:, :2] - expected).max()
    assert np.abs(found - expected).max() < 0.1 * moved


def test_the_nearest_camera_sees_the_origin_in_the_same_pixel():
    exact = from_camera(CAMERA, 200)
    assert nearest_camera(exact).roll == pytest.approx(CAMERA.roll)
    off = exact.window(0, 0, 200, 200)
    off = type(off)(off.rotation, off.translation + np.array([0.1, -0.2, 0.0]), off.intrinsics, 200, 200)
    near = from_camera(nearest_camera(off), 200)
    np.testing.assert_allclose(near.project(np.zeros((1, 3)))[0, :2], off.project(np.zeros((1, 3)))[0, :2], atol=1e-6)
    np.testing.assert_allclose(near.centre, off.centre, atol=1e-9)


# --- Whole refinements ----------------------------------------------------------------------------------------------


def shrink(batch, config, device):
    """A method that pulls every vertex a twentieth towards the origin of its coordinates."""
    return [
        MethodOutput(b.mesh.vertices * np.float32(0.95), np.full(len(b.mesh.vertices), 0.5, np.float32)) for b in batch
    ]


METHOD = f"{__name__}:shrink"


def run(inst: Instance, guard: bool = False, **options):
    config = RefineConfig(
        method=METHOD, image_size=96, figure_samples=500, guard=guard, preparation=PreparationOptions(**options)
    )
    [result] = refine([inst], config, device="cpu")
    assert result.status != "failed", result.error_message
    return result


def test_nothing_is_prepared_by_default():
    inst = instance(aside())
    result = run(inst)
    assert result.preparation is None
    np.testing.assert_allclose(result.mesh.vertices, inst.mesh.vertices * 0.95, atol=1e-6)
    assert result.camera == CAMERA


def test_a_normalised_refinement_ends_in_the_inputs_coordinates():
    truth = aside(1)
    inst = instance(aside(), ground_truth=truth)
    plain, result = run(inst), run(inst, normalise=True)
    # The stub shrinks towards the origin: of the object's box once it is normalised.
    low, high = inst.mesh.vertices.min(axis=0), inst.mesh.vertices.max(axis=0)
    middle = (low + high) / 2
    np.testing.assert_allclose(result.mesh.vertices, middle + 0.95 * (inst.mesh.vertices - middle), atol=1e-5)
    assert np.array_equal(result.mesh.faces, inst.mesh.faces)
    assert result.camera == CAMERA
    assert result.camera_source == "given"
    assert set(json.loads(result.preparation)) == {"normalised"}
    # Figures against the ground truth are those of the input's coordinates; the silhouette's differ by resampling.
    assert result.before.chamfer_l2 == plain.before.chamfer_l2
    assert result.before.iou_multiview == plain.before.iou_multiview
    assert result.before.iou_2d == pytest.approx(plain.before.iou_2d, abs=0.02)
    assert result.after.iou_2d < result.before.iou_2d


def test_the_rows_faces_are_those_of_its_vertices_and_say_so():
    mesh = together(shapes.icosphere(3), shapes.box(0.01, 0.01, 0.01, centre=(0.5, 0.5, 0.5)))
    result = run(instance(mesh), drop_pieces=0.01, max_faces=300, normalise=True)
    assert len(result.mesh.faces) <= 300
    assert result.mesh.faces.max() + 1 == len(result.mesh.vertices) == len(result.symmetry_confidence)
    record = json.loads(result.preparation)
    assert record["pieces_dropped"] == 1
    assert record["decimated_from"] == len(mesh.faces) - 12
    assert record["faces"] == {"input": len(mesh.faces), "here": len(result.mesh.faces)}
    assert np.abs(result.mesh.vertices).max() < 0.41


def test_a_mesh_that_is_kept_is_the_inputs_own():
    mesh = shapes.icosphere(3)
    result = run(instance(mesh), guard=True, max_faces=300, normalise=True)
    assert result.status == "kept"
    assert result.mesh is mesh
    assert result.preparation is None
    assert result.symmetry_confidence is None, "it belonged to other vertices"


def test_a_preparation_that_fails_fails_its_instance_alone(monkeypatch):
    from refine_batch import refinement

    good, bad = instance(aside()), instance(aside())
    make = refinement.make_ready

    def broken(inst, options):
        if inst is bad:
            raise InstanceError(ErrorKind.MESH_BROKEN, "it falls apart")
        return make(inst, options)

    monkeypatch.setattr(refinement, "make_ready", broken)
    config = RefineConfig(method=METHOD, image_size=96, preparation=PreparationOptions(normalise=True))
    statuses = [r.status for r in refine([bad, good, bad], config, device="cpu")]
    assert statuses == ["failed", "kept", "failed"]


def test_options_change_the_configurations_hash():
    hashes = {
        RefineConfig(preparation=PreparationOptions(**options)).config_hash()
        for options in ({}, {"normalise": True}, {"max_faces": 500}, {"drop_pieces": 0.1})
    }
    assert len(hashes) == 4


def test_the_commands_options_reach_the_configuration():
    options = ["--max-faces", "5000", "--normalise", "--drop-pieces", "0.01"]
    found = CliRunner().invoke(main, ["run", "--print-config", *options])
    assert found.exit_code == 0, found.output
    prepared = yaml.safe_load(found.output)["preparation"]
    assert prepared == {"drop_pieces": 0.01, "max_faces": 5000, "normalise": True}
    refused = CliRunner().invoke(main, ["run", "m.csv", "out", "--max-faces", "2"])
    assert refused.exit_code == 2
    assert "--max-faces is '2'" in refused.output


def test_a_row_says_what_was_done():
    outcome = run(instance(aside()), normalise=True)
    row = row_of(outcome, ManifestRow("it", "m.obj", "i.png"), RowContext("run", METHOD, "c", "0", "f"))
    [stored] = table_of([row]).to_pylist()
    assert stored["preparation"] == outcome.preparation
    assert json.loads(stored["preparation"])["normalised"]["scale"] > 0
