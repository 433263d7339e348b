"""`export --into tar` and `--index parquet`: shards that webdataset's readers take, and an index that says where."""

from __future__ import annotations

import csv
import io
import json
import tarfile

import duckdb
import numpy as np
import pytest
import trimesh
from click.testing import CliRunner
from PIL import Image
from result_rows import put, result

from refine_batch.cli import main
from refine_batch.dataset.layouts import LayoutOptions, build_manifest
from refine_batch.dataset.manifest import Manifest, ManifestRow
from refine_batch.io.meshes import parse_mesh
from refine_batch.io.storage import Storage, fetch

SPHERE = trimesh.creation.icosphere(subdivisions=1)
IDS = ("chair.v2", "table", "ein Stuhl/ü", "lamp")


@pytest.fixture
def output(tmp_path):
    """Results of four textured GLBs, each grown, and one that failed."""
    textured = SPHERE.copy()
    uv = np.random.default_rng(0).random((len(SPHERE.vertices), 2))
    picture = Image.fromarray(np.full((64, 64, 3), 99, np.uint8))
    textured.visual = trimesh.visual.TextureVisuals(uv=uv, image=picture)
    textured.export(tmp_path / "a.glb")
    mesh = parse_mesh((tmp_path / "a.glb").read_bytes(), "a.glb")
    rows = [
        result(
            name, vertices=mesh.vertices * np.float32(2 + i), faces=mesh.faces, mesh_uri=str(tmp_path / "a.glb"),
            category="seat", iou_2d_after=0.9, azimuth=30.0, projection="orthographic",
        )
        for i, name in enumerate(IDS)
    ]  # fmt: skip
    put(Storage(str(tmp_path / "out")), [*rows, result("bad", status="failed")])
    return tmp_path


def export(folder, *options) -> str:
    done = CliRunner().invoke(main, ["export", str(folder / "out"), str(folder / "meshes"), *options])
    assert done.exit_code == 0, done.output
    return done.output


def members(path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


@pytest.mark.parametrize("form", ["source", "glb"])
def test_shards_hold_each_object_and_its_row_and_the_index_says_where(output, form):
    assert "4 meshes and index.parquet" in export(output, "--into", "tar", "--format", form, "--index", "parquet")
    index = duckdb.sql(f"SELECT * FROM '{output}/meshes/index.parquet' ORDER BY instance_id").fetchall()
    assert [row[2] for row in index] == sorted(IDS)
    for file, shard, name, status, category, _, after in index:
        found = members(output / "meshes" / shard)
        key = file.removesuffix(".glb")
        assert "." not in key  # or webdataset would take what follows for the kind of file
        assert json.loads(found[f"{key}.json"]) == {
            "instance_id": name, "status": "refined", "category": "seat", "iou_2d_after": 0.9, "azimuth": 30.0,
            "projection": "orthographic",
        }  # fmt: skip
        assert (status, category, after) == ("refined", "seat", 0.9)
        scene = trimesh.load(io.BytesIO(found[file]), file_type="glb")
        assert scene.extents.max() == pytest.approx(2 * (2 + IDS.index(name)), rel=0.1)
        [shape] = scene.geometry.values()
        assert (shape.visual.kind == "texture") == (form == "source")


def test_shards_are_closed_when_they_are_full(output):
    from refine_batch.cli import export as command
    from refine_batch.io.meshes import write_mesh

    one = len(write_mesh(parse_mesh((output / "a.glb").read_bytes(), "a.glb"), "glb"))
    target = Storage(str(output / "small"))
    written, problems = command.write_meshes(Storage(str(output / "out")), target, "glb", shard_bytes=one + 2000)
    assert (written, problems) == (4, [])
    names = sorted(file.path for file in target.list())
    assert names == ["index.csv", "shard-000000.tar", "shard-000001.tar"]
    with open(output / "small" / "index.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["shard"] for row in rows] == ["shard-000000.tar"] * 2 + ["shard-000001.tar"] * 2
    for row in rows:
        assert row["file"] in members(output / "small" / row["shard"])


def test_what_was_exported_is_read_again_by_the_layout(output, tmp_path):
    """With pictures put beside them, the shards are a dataset in their turn."""
    export(output, "--into", "tar", "--format", "glb")
    picture = io.BytesIO()
    Image.fromarray(np.full((8, 8, 4), 200, np.uint8)).save(picture, "png")
    files = members(output / "meshes" / "shard-000000.tar")
    pictures = {name.replace(".json", ".png"): picture.getvalue() for name in files if name.endswith(".json")}
    (tmp_path / "again").mkdir()
    with tarfile.open(tmp_path / "again" / "a.tar", "w") as tar:
        for name, data in sorted((files | pictures).items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    out = str(tmp_path / "again.parquet")
    built = build_manifest("webdataset", LayoutOptions(str(tmp_path / "again"), "", out))
    assert built.rows == 4
    rows = [ManifestRow.from_batch(b, i) for b in Manifest.open(out).batches() for i in range(b.num_rows)]
    assert {row.instance_id for row in rows} == set(IDS)
    for row in rows:
        assert (row.azimuth, row.projection, row.category) == (30.0, "orthographic", "seat")
        assert len(parse_mesh(fetch(row.mesh_uri), row.mesh_uri).faces) == len(SPHERE.faces)
