"""What is done to coarse meshes before refinement comes back undone or told, in rows and from the command line."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import shapes
import trimesh
import yaml
from click.testing import CliRunner

from refine_batch.cameras.camera import Camera
from refine_batch.cli import main
from refine_batch.config import PreparationOptions, RefineConfig
from refine_batch.dataset.row import ManifestRow
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.instance import Instance
from refine_batch.mesh import Mesh
from refine_batch.methods import MethodOutput
from refine_batch.refinement import pipeline
from refine_batch.refinement.pipeline import refine
from refine_batch.render import hard_silhouettes
from refine_batch.results.rows import RowContext, row_of, table_of

CAMERA = Camera(30, 20, 3.0, fov=60, roll=15, offset_x=0.1, offset_y=-0.1)
SCALE, CENTRE = 0.6, np.array([0.25, -0.1, 0.2])
CRUMB = shapes.box(0.01, 0.01, 0.01, centre=(0.5, 0.5, 0.5))


def aside(seed: int = 0) -> Mesh:
    """A lumpy box of largest extent 0.6 · 1.2 or so, well off the origin."""
    box = trimesh.creation.box((1.2, 0.7, 0.9)).subdivide().subdivide()
    bumps = np.random.default_rng(seed).uniform(-0.03, 0.03, box.vertices.shape)
    return Mesh((box.vertices + bumps) * SCALE + CENTRE, box.faces)


def instance(mesh: Mesh, camera: Camera | None = CAMERA, **values) -> Instance:
    """A picture of the mesh by the camera."""
    mask = hard_silhouettes(mesh, [camera or CAMERA], 300)[0]
    image = np.where(mask[..., None], 200, np.linspace(0, 90, 300)[None, :, None]).astype(np.uint8)
    return Instance("it", mesh, np.repeat(image, 3, axis=2), mask, camera, **values)


def shrink(batch, config, device):
    """A method that pulls every vertex a twentieth towards the middle of its mesh's box."""
    return [
        MethodOutput(b.mesh.vertices * np.float32(0.95), np.full(len(b.mesh.vertices), 0.5, np.float32)) for b in batch
    ]


def turn(batch, config, device):
    """A method that moves nothing but the cameras, by 8 degrees, and 5 % farther off."""
    outcomes = []
    for b in batch:
        cameras = [replace(c, azimuth=c.azimuth + 8.0, distance=c.distance * 1.05) for c in (v.camera for v in b.views)]
        outcomes.append(MethodOutput(b.mesh.vertices, cameras=tuple(cameras)))
    return outcomes


METHOD = f"{__name__}:shrink"


def run(inst: Instance, guard: bool = False, method: str = METHOD, **options):
    config = RefineConfig(
        method=method, image_size=96, figure_samples=500, guard=guard, preparation=PreparationOptions(**options)
    )
    [result] = refine([inst], config, device="cpu")
    assert result.status != "failed", result.error_message
    return result


@pytest.mark.parametrize("options", [{}, {"working_faces": 100}], ids=["whole", "decimated"])
def test_a_refinement_ends_in_the_inputs_coordinates(options):
    """About the middle of its own box, wherever that is; nothing of it needs to be told."""
    truth = aside(1)
    inst = instance(aside(), ground_truth=truth)
    result = run(inst, **options)
    low, high = inst.mesh.vertices.min(axis=0), inst.mesh.vertices.max(axis=0)
    middle = (low + high) / 2
    # Where it was decimated a vertex moves as the point of the working surface does that is nearest to it.
    close = 0.003 if options else 1e-6
    np.testing.assert_allclose(result.mesh.vertices, middle + 0.95 * (inst.mesh.vertices - middle), atol=close)
    assert np.array_equal(result.mesh.faces, inst.mesh.faces)
    assert result.camera == CAMERA
    assert result.camera_source == "given"
    assert result.preparation is None
    assert result.symmetry_confidence == pytest.approx(np.full(len(inst.mesh.vertices), 0.5))
    # Figures are those of the file's mesh at the camera that came with it.
    seen = hard_silhouettes(inst.mesh, [CAMERA], 300)[0]
    assert result.before.iou_2d > 0.97
    assert seen.sum() == inst.mask.sum()
    assert result.after.iou_2d < result.before.iou_2d
    assert result.before.chamfer_l2 < result.after.chamfer_l2


def test_a_camera_that_moved_comes_back_about_the_inputs_origin():
    """A turn about the object's middle, which is where it was in the picture; its numbers are about its new target."""
    inst = instance(aside())
    result = run(inst, method=f"{__name__}:turn")
    assert result.camera_source == "corrected"
    assert result.camera.distance == pytest.approx(CAMERA.distance * 1.05)
    assert result.camera.azimuth == pytest.approx(CAMERA.azimuth + 8.0)
    np.testing.assert_allclose(result.camera.target, CAMERA.target, atol=1e-6)
    np.testing.assert_array_equal(result.mesh.vertices, inst.mesh.vertices)


def test_the_rows_faces_are_those_of_its_vertices_and_say_so():
    mesh = shapes.joined(shapes.icosphere(3), CRUMB)
    result = run(instance(mesh), drop_pieces=0.01)
    assert len(result.mesh.faces) == len(mesh.faces) - 12
    assert result.mesh.faces.max() + 1 == len(result.mesh.vertices) == len(result.symmetry_confidence)
    record = json.loads(result.preparation)
    assert record == {"pieces_dropped": 1, "faces": {"input": len(mesh.faces), "here": len(result.mesh.faces)}}
    assert np.abs(result.mesh.vertices).max() < 0.41


def test_a_mesh_that_is_kept_is_the_inputs_own():
    mesh = shapes.icosphere(3)
    result = run(instance(mesh), guard=True, working_faces=300)
    assert result.status == "kept"
    assert result.mesh is mesh
    assert result.preparation is None
    assert result.symmetry_confidence is None, "it belonged to other vertices"


def test_a_preparation_that_fails_fails_its_instance_alone(monkeypatch):
    good, bad = instance(aside()), instance(aside())
    make = pipeline.prepare

    def broken(inst, config):
        if inst is bad:
            raise InstanceError(ErrorKind.MESH_BROKEN, "it falls apart")
        return make(inst, config)

    monkeypatch.setattr(pipeline, "prepare", broken)
    config = RefineConfig(method=METHOD, image_size=96)
    statuses = [r.status for r in refine([bad, good, bad], config, device="cpu")]
    assert statuses == ["failed", "kept", "failed"]


def test_options_change_the_configurations_hash():
    hashes = {
        RefineConfig(preparation=PreparationOptions(**options)).config_hash()
        for options in ({}, {"working_faces": 500}, {"max_faces": 500}, {"drop_pieces": 0.1})
    }
    assert len(hashes) == 4


def test_the_commands_options_reach_the_configuration():
    options = ["--max-faces", "500000", "--working-faces", "5000", "--drop-pieces", "0.01"]
    found = CliRunner().invoke(main, ["run", "--print-config", *options])
    assert found.exit_code == 0, found.output
    prepared = yaml.safe_load(found.output)["preparation"]
    assert prepared == {"drop_pieces": 0.01, "max_faces": 500000, "working_faces": 5000}
    refused = CliRunner().invoke(main, ["run", "m.csv", "out", "--max-faces", "2"])
    assert refused.exit_code == 2
    assert "--max-faces is '2'" in refused.output


def test_a_row_says_what_was_done():
    outcome = run(instance(shapes.joined(aside(), CRUMB)), drop_pieces=0.01)
    row = row_of(outcome, ManifestRow("it", "m.obj", "i.png"), RowContext("run", METHOD, "c", "0", "f"))
    [stored] = table_of([row]).to_pylist()
    assert stored["preparation"] == outcome.preparation
    assert json.loads(stored["preparation"])["pieces_dropped"] == 1
