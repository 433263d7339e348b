"""`refine-batch manifest` as a person runs it, and the manifest it gives under `validate` and `run`'s loader."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from layout_fixtures import mesh_bytes, pix3d_item, write_pix3d

from refine_batch.cli import main, manifest
from refine_batch.dataset.layouts import LAYOUTS
from refine_batch.dataset.layouts.camera_table import CONVENTIONS
from refine_batch.dataset.layouts.frames import MESH_FRAMES


@pytest.fixture
def dataset(storage):
    items = [pix3d_item(1), pix3d_item(2, category="sofa"), pix3d_item(3)]
    models = write_pix3d(storage.child("data"), items)
    for item, model in zip(items[:2], models, strict=False):
        stem = item["img"].removeprefix("img/").removesuffix(".jpg")
        storage.write(f"meshes/{stem}.obj", mesh_bytes(model.vertices, model.faces))
    return storage


def invoke(storage, *arguments, out="out/manifest.parquet"):
    endpoint = ["--s3-endpoint", storage.s3_endpoint] if storage.s3_endpoint else []
    command = ["manifest", storage.path_of("data"), "--meshes", storage.path_of("meshes")]
    return CliRunner().invoke(main, [*command, "--out", storage.path_of(out), *endpoint, *arguments])


def test_a_manifest_that_validate_accepts(dataset):
    found = invoke(dataset, "--layout", "pix3d")
    assert found.exit_code == 0, found.output
    lines = [" ".join(line.split()) for line in found.output.splitlines()]
    assert f"2 rows in {dataset.path_of('out/manifest.parquet')}" in lines
    assert "1 left out: mesh_missing" in lines
    assert any(line.startswith("img/chair/0003.jpg: there is no mesh called img/chair/0003") for line in lines)
    endpoint = ["--s3-endpoint", dataset.s3_endpoint] if dataset.s3_endpoint else []
    checked = CliRunner().invoke(main, ["validate", dataset.path_of("out/manifest.parquet"), "--deep", *endpoint])
    assert checked.exit_code == 0, checked.output
    assert "all 2 rows can be refined" in checked.output


def test_meshes_are_looked_for_in_the_source_unless_told(dataset):
    for file in dataset.list("meshes"):
        dataset.write(f"data/{file.path}", dataset.read(file.path))
    endpoint = ["--s3-endpoint", dataset.s3_endpoint] if dataset.s3_endpoint else []
    command = ["manifest", dataset.path_of("data"), "--layout", "pix3d", "--out", dataset.path_of("out/m.csv")]
    found = CliRunner().invoke(main, [*command, *endpoint])
    assert found.exit_code == 0, found.output
    assert "2 rows" in found.output


def test_counts_as_json(dataset):
    found = json.loads(invoke(dataset, "--layout", "pix3d", "--json").stdout)
    assert found["rows"] == 2
    assert found["left_out"] == {"mesh_missing": 1}
    assert found["categories"] == {"chair": 1, "sofa": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layout", "folder", "--category", "nothing"], "not one row"),
        (["--layout", "r2n2"], "13 ShapeNet synsets"),
        (
            ["--layout", "pix3d", "--masks", "x"],
            "--masks is an option of --layout folder, transforms, colmap, turntable and posed, not of pix3d",
        ),
        (["--layout", "pix3d", "--fov", "3"], "--fov is an option of --layout r2n2"),
        (["--layout", "pix2d"], "'pix2d'"),
        ([], "--layout"),
    ],
)
def test_mistakes_end_with_status_2_and_a_sentence(dataset, arguments, message):
    found = invoke(dataset, *arguments)
    assert found.exit_code == 2
    assert message in " ".join(found.output.split())
    assert "Traceback" not in found.output
    assert not dataset.list("out")


def test_the_commands_choices_are_the_layouts_own():
    options = {parameter.name: parameter.type for parameter in manifest.manifest.params}
    assert set(options["layout"].choices) == set(LAYOUTS)
    assert tuple(options["camera_convention"].choices) == CONVENTIONS
    assert tuple(options["mesh_frame"].choices) == MESH_FRAMES
