"""`export --format source`: the files themselves, refined; what is gone or has changed is said, the rest is done."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import trimesh
from click.testing import CliRunner
from PIL import Image
from result_rows import put, result

from refine_batch.cli import main
from refine_batch.io.beside import files_beside
from refine_batch.io.meshes import parse_mesh
from refine_batch.io.storage import Storage

SPHERE = trimesh.creation.icosphere(subdivisions=1)


def export(folder, *options):
    arguments = ["export", folder / "out", folder / "meshes", "--format", "source", *options]
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def output(tmp_path):
    """Results of five files, each grown by half, and the files."""
    source = tmp_path / "source"
    source.mkdir()
    uv = np.random.default_rng(0).random((len(SPHERE.vertices), 2))
    image = Image.fromarray(np.full((4, 4, 3), 99, np.uint8))
    textured = SPHERE.copy()
    textured.visual = trimesh.visual.TextureVisuals(uv=uv, image=image)
    textured.export(source / "glb.glb")
    textured.export(source / "obj.obj", mtl_name="skin.mtl")
    for name, data in trimesh.exchange.gltf.export_gltf(textured.scene(), merge_buffers=True).items():
        (source / name.replace("model.gltf", "gltf.gltf")).write_bytes(data)
    coloured = SPHERE.copy()
    coloured.visual.vertex_colors = np.random.default_rng(1).integers(0, 256, (len(SPHERE.vertices), 4))
    coloured.export(source / "ply.ply")
    coloured.export(source / "kept.ply")
    rows = []
    for path in sorted(source.iterdir()):
        if path.stem in ("glb", "obj", "gltf", "ply", "kept") and path.suffix not in (".png", ".mtl", ".bin"):
            mesh = parse_mesh(path.read_bytes(), path.name, sibling=files_beside(str(path)))
            scale = np.float32(1.0 if path.stem == "kept" else 1.5)
            status = "kept" if path.stem == "kept" else "refined"
            values = {"vertices": mesh.vertices * scale, "faces": mesh.faces, "mesh_uri": str(path)}
            rows.append(result(path.stem, status=status, **values))
    assert len(rows) == 5
    put(Storage(str(tmp_path / "out")), rows)
    return tmp_path


def test_each_file_comes_back_refined_with_its_texture_or_colours(output):
    done = export(output)
    assert done.exit_code == 0, done.output
    with (output / "meshes" / "index.csv").open(newline="") as file:
        files = {row["instance_id"]: row["file"] for row in csv.DictReader(file)}
    assert files == {
        "glb": "glb.glb", "obj": "obj/obj.obj", "gltf": "gltf/gltf.gltf", "ply": "ply.ply", "kept": "kept.ply",
    }  # fmt: skip
    for name, path in files.items():
        mesh = trimesh.load_mesh(output / "meshes" / path, process=False, maintain_order=True)
        scale = 1.0 if name == "kept" else 1.5
        np.testing.assert_allclose(mesh.bounds, SPHERE.bounds * scale, atol=1e-5)
        if name in ("glb", "obj", "gltf"):
            material = mesh.visual.material
            image = material.image if name == "obj" else material.baseColorTexture
            assert image.size == (4, 4)
        else:
            was = trimesh.load_mesh(output / "source" / f"{name}.ply", process=False)
            np.testing.assert_array_equal(mesh.visual.vertex_colors, was.visual.vertex_colors)
    assert (output / "meshes" / "kept.ply").read_bytes() == (output / "source" / "kept.ply").read_bytes()


def test_what_is_gone_or_has_changed_is_said_and_the_rest_is_written(output):
    source = output / "source"
    (source / "glb.glb").unlink()
    trimesh.creation.icosphere(subdivisions=2).export(source / "ply.ply")
    kept = trimesh.load_mesh(source / "kept.ply", process=False)
    kept.vertices *= 1.01
    kept.export(source / "kept.ply")
    data = (source / "obj.obj").read_text().splitlines()
    faces = [i for i, line in enumerate(data) if line.startswith("f ")]
    data[faces[0]], data[faces[1]] = data[faces[1]], data[faces[0]]
    (source / "obj.obj").write_text("\n".join(data))
    done = export(output)
    assert done.exit_code == 1
    assert f"1 meshes and index.csv in {output / 'meshes'}" in done.output
    assert "glb: its coarse mesh cannot be read any more" in done.output
    assert "ply.ply is not the file that was refined: it has 162 vertices and 320 faces, its result 42" in done.output
    assert "kept.ply is not the file that was refined: its vertices are elsewhere" in done.output
    assert "obj.obj is not the file that was refined: its faces are others" in done.output
    assert (output / "meshes" / "gltf" / "gltf.gltf").exists()


def test_a_texture_that_is_gone_is_said_and_the_mesh_is_written(output):
    for image in (output / "source").glob("*.png"):
        image.unlink()
    done = export(output, "--id", "obj")
    assert done.exit_code == 1
    assert "obj: what it mentions cannot be copied" in done.output
    assert (output / "meshes" / "obj" / "skin.mtl").exists()
    assert (output / "meshes" / "obj" / "obj.obj").exists()


def test_the_coarse_files_lie_beside_the_refined_ones(output):
    assert export(output, "--with-coarse", "--id", "gltf", "--id", "ply").exit_code == 0
    meshes = output / "meshes"
    assert (meshes / "ply.coarse.ply").read_bytes() == (output / "source" / "ply.ply").read_bytes()
    mesh = trimesh.load_mesh(meshes / "gltf.coarse" / "gltf.coarse.gltf", process=False)
    np.testing.assert_allclose(mesh.bounds, SPHERE.bounds, atol=1e-5)
