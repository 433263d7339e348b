"""Each usual mistake about cameras, made on purpose in a manifest of twelve synthetic rows, is named."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from refine_batch.cameras.camera import Camera
from refine_batch.cameras.conversions import BLENDER_FROM_Y_UP
from refine_batch.cameras.matrices import matrices_of
from refine_batch.cli import main
from refine_batch.dataset.diagnosis.diagnose import Diagnosis, diagnose
from refine_batch.dataset.diagnosis.sample import Sample, read_sample, written_in
from refine_batch.dataset.manifest import Manifest, ManifestRow
from refine_batch.dataset.synth.dataset import write_dataset
from refine_batch.io.meshes import parse_mesh, write_mesh
from refine_batch.mesh import Mesh
from refine_batch.render import hard_silhouettes

SIZE = 224


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synth")
    write_dataset(folder, 12, seed=1)
    return folder


def rows_of(dataset: Path) -> list[dict]:
    with (dataset / "manifest.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row | {name: float(row[name]) for name in ("azimuth", "elevation", "distance")} for row in rows]


def written(dataset: Path, rows: list[dict], name: str = "changed.jsonl") -> str:
    path = dataset / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def samples_of(uri: str) -> list[Sample]:
    batches = Manifest.open(uri).batches()
    return [read_sample(ManifestRow.from_batch(batch, i), i) for batch in batches for i in range(batch.num_rows)]


@pytest.fixture(scope="module")
def samples(dataset) -> list[Sample]:
    return samples_of(str(dataset / "manifest.csv"))


def diagnosis_of(samples: list[Sample], rows: list[dict]) -> Diagnosis:
    """Of the samples, whose pictures and meshes stay, with the cameras of these rows of JSON Lines."""
    wanted = (*("azimuth", "elevation", "distance", "fov"), *("intrinsics", "extrinsics"))
    cameras = [{name: row[name] for name in wanted if name in row} for row in rows]
    return diagnose(
        [
            replace(sample, written=written_in(ManifestRow(sample.instance_id, "m", "i", **camera)))
            for sample, camera in zip(samples, cameras, strict=True)
        ]
    )


def test_right_cameras_are_left_alone(dataset, samples):
    found = diagnosis_of(samples, rows_of(dataset))
    assert found.rows == 12
    assert found.iou > 0.7
    assert found.changes == ()
    assert "no usual mistake" in str(found)


ANGLES = {
    "azimuth_negated": lambda r: {"azimuth": -r["azimuth"]},
    "azimuth_plus_180": lambda r: {"azimuth": r["azimuth"] - 180},
    "azimuth_plus_90": lambda r: {"azimuth": r["azimuth"] - 90},
    "azimuth_minus_90": lambda r: {"azimuth": r["azimuth"] + 90},
    "azimuth_from_x": lambda r: {"azimuth": 90 - r["azimuth"]},
    "elevation_negated": lambda r: {"elevation": -r["elevation"]},
    "elevation_is_polar": lambda r: {"elevation": 90 - r["elevation"]},
    "radians": lambda r: {name: math.radians(r[name]) for name in ("azimuth", "elevation")},
    "fov_is_focal_length_36mm": lambda r: {"fov": 18 / math.tan(math.radians(30))},
    "fov_is_focal_length_in_pixels": lambda r: {"fov": SIZE / 2 / math.tan(math.radians(30))},
    "fov_in_radians": lambda r: {"fov": math.radians(60)},
    "fov_is_half": lambda r: {"fov": 30},
    "distance_times_1000": lambda r: {"distance": r["distance"] / 1000},
    "distance_times_0.01": lambda r: {"distance": r["distance"] * 100},
    "distance_times_1.75": lambda r: {"distance": r["distance"] / 1.75},
    "distance_factor": lambda r: {"distance": r["distance"] / 1.35},
}


@pytest.mark.parametrize("name", ANGLES)
def test_what_is_wrong_with_angles_is_named(dataset, samples, name):
    found = diagnosis_of(samples, [row | ANGLES[name](row) for row in rows_of(dataset)])
    assert found.changes[0].mistake.name == name
    assert found.changes[0].iou > found.iou + 0.05
    assert found.changes[0].iou == pytest.approx(0.743, abs=0.02)


def matrices(row: dict) -> tuple[np.ndarray, np.ndarray]:
    return matrices_of(Camera(row["azimuth"], row["elevation"], row["distance"]), SIZE, SIZE)


FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
UP = np.eye(4)
UP[:3, :3] = BLENDER_FROM_Y_UP
MATRICES = {
    "camera_axes": lambda k, e: (k, FLIP @ e),
    "camera_to_world": lambda k, e: (k, np.linalg.inv(e)),
    "camera_to_world_of_other_axes": lambda k, e: (k, np.linalg.inv(FLIP @ e)),
    "axes_of_pytorch3d": lambda k, e: (k, np.diag([-1.0, -1, 1, 1]) @ e),
    "extrinsics_by_columns": lambda k, e: (k, e.T),
    "mesh_z_up": lambda k, e: (k, e @ UP),
    "intrinsics_normalised": lambda k, e: (np.array([k[0, 0], k[1, 1], k[0, 2], k[1, 2]]) / SIZE, e),
    "intrinsics_of_other_size": lambda k, e: (np.array([k[0, 0], k[1, 1], k[0, 2], k[1, 2]]) * 2, e),
    "distance_times_0.1": lambda k, e: (k, moved(e, 10.0)),
}


def moved(extrinsics: np.ndarray, factor: float) -> np.ndarray:
    changed = extrinsics.copy()
    changed[:3, 3] *= factor
    return changed


@pytest.mark.parametrize("name", MATRICES)
def test_what_is_wrong_with_matrices_is_named(dataset, samples, name):
    rows = []
    for row in rows_of(dataset):
        k, e = MATRICES[name](*matrices(row))
        rows.append(
            {n: row[n] for n in ("instance_id", "mesh_uri", "image_uri")}
            | {"intrinsics": k.reshape(-1).tolist(), "extrinsics": e.reshape(-1).tolist()}
        )
    found = diagnosis_of(samples, rows)
    assert found.changes[0].mistake.name == name
    assert found.changes[0].iou == pytest.approx(0.743, abs=0.02)


@pytest.mark.parametrize(
    ("name", "change"),
    [("up_axis", BLENDER_FROM_Y_UP), ("mesh_mirrored", np.diag([-1.0, 1, 1]))],
)
def test_meshes_of_other_axes_are_named(dataset, name, change):
    rows = rows_of(dataset)
    for row in rows:
        mesh = parse_mesh((dataset / row["mesh_uri"]).read_bytes(), row["mesh_uri"])
        row["mesh_uri"] = f"{name}_{row['instance_id']}.ply"
        turned = Mesh((mesh.vertices @ change.T).astype(np.float32), mesh.faces)
        (dataset / row["mesh_uri"]).write_bytes(write_mesh(turned, "ply"))
    assert diagnose(samples_of(written(dataset, rows))).changes[0].mistake.name == name


@pytest.mark.parametrize(("name", "axis"), [("image_flipped", 1), ("image_upside_down", 0)])
def test_pictures_that_are_turned_over_are_named(samples, name, axis):
    turned = [replace(s, mask=np.flip(s.mask, axis), rgb=np.flip(s.rgb, axis)) for s in samples]
    assert diagnose(turned).changes[0].mistake.name == name


@pytest.mark.parametrize("form", ["angles", "matrices", "nine numbers"])
def test_orthographic_pictures_are_named(samples, form):
    changed = []
    for sample in samples:
        angles = sample.written.angles
        camera = Camera(**angles, projection="orthographic")
        mask = hard_silhouettes(sample.mesh, [camera], SIZE)[0]
        told = {name: angles[name] for name in ("azimuth", "elevation", "distance")}
        if form != "angles":
            k, extrinsics = matrices_of(replace(camera, projection="perspective"), SIZE, SIZE)
            k = k if form == "nine numbers" else k[[0, 1, 0, 1], [0, 1, 2, 2]]
            told = {"intrinsics": tuple(k.ravel()), "extrinsics": tuple(extrinsics.ravel())}
        written = written_in(ManifestRow(sample.instance_id, "m", "i", **told))
        rgb = np.zeros((SIZE, SIZE, 3), np.uint8)
        changed.append(replace(sample, rgb=rgb, mask=mask, written=written))
    first = diagnose(changed).changes[0]
    assert first.mistake.name == "projection"
    assert first.iou > 0.94


def test_rows_without_cameras_have_no_say(dataset, samples):
    rows = rows_of(dataset)
    for row in rows[:6]:
        row["azimuth"] = None
    assert diagnosis_of(samples, rows).rows == 6
    for row in rows:
        row["azimuth"] = None
    found = diagnosis_of(samples, rows)
    assert found.rows == 0
    assert "estimated" in str(found)
    assert found.as_json() == {"rows": 0, "iou": None, "changes": []}


def test_the_page_and_the_terminal_say_what_to_change(dataset, tmp_path):
    rows = [row | {"elevation": -row["elevation"]} for row in rows_of(dataset)]
    rows[0]["instance_id"] = "<script>alert(1)</script>"
    rows[1]["mesh_uri"] = "nowhere.ply"
    rows[2]["azimuth"] = None
    page = tmp_path / "page.html"
    uri = written(dataset, rows)
    done = CliRunner().invoke(main, ["validate", uri, "--preview", str(page)])
    assert done.exit_code == 1, done.output  # one mesh is missing
    assert "change the sign of the column elevation" in done.output
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "script-src &#39;none&#39;" in text
    assert "no such file" in text
    assert "it is estimated" in text
    # Eleven pictures, ten of them (those with a camera) also as the change would have them.
    assert text.count("data:image/webp;base64,") == 11 + 10
    assert "http" not in text.replace("http-equiv", "")
    as_json = CliRunner().invoke(main, ["validate", uri, "--preview", str(page), "--json"])
    found = json.loads(as_json.output)["diagnosis"]
    assert found["rows"] == 10
    assert found["changes"][0]["name"] == "elevation_negated"


def test_a_page_has_a_place_before_anything_is_read(dataset, tmp_path):
    done = CliRunner().invoke(main, ["validate", str(dataset / "manifest.csv"), "--preview", str(tmp_path)])
    assert done.exit_code == 2
    assert "is a folder" in done.output


def test_the_preview_reads_masks_as_it_is_told(dataset, tmp_path):
    """A picture on a white ground, without alpha."""
    row = rows_of(dataset)[0]
    picture = Image.open(dataset / row["image_uri"])
    Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB").save(dataset / "white.png")
    uri = written(dataset, [row | {"image_uri": "white.png"}], "white.jsonl")
    page = tmp_path / "page.html"
    ends = []
    for more in ([], ["--mask-from", "background"]):
        done = CliRunner().invoke(main, ["validate", uri, "--preview", str(page), *more])
        ends.append((done.exit_code, "alpha channel" in page.read_text(encoding="utf-8")))
    assert ends == [(0, True), (0, False)]
