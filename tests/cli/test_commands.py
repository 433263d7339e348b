"""The commands that need no Ray, on small outputs written by hand."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import trimesh
from click.testing import CliRunner
from PIL import Image

from refine_batch.cameras.camera import Camera
from refine_batch.cli import main
from refine_batch.dataset.row import ManifestRow
from refine_batch.instance import Figures, RefinedInstance
from refine_batch.io import retry
from refine_batch.io.storage import Storage
from refine_batch.mesh import Mesh
from refine_batch.results.lock import LOCK, Holder
from refine_batch.results.parts import part_name, write_part
from refine_batch.results.rows import RowContext, row_of, table_of
from refine_batch.results.run_record import RunRecord

FACES = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refined(name, scale=1.0, status="refined"):
    return RefinedInstance(
        name,
        status,
        mesh=Mesh(VERTICES * np.float32(scale), FACES),
        camera=Camera(30, 20, 1.2),
        camera_source="given",
        before=Figures(iou_2d=0.5),
        after=Figures(iou_2d=0.75),
        kept_reason="it got smaller" if status == "kept" else None,
    )


def failed(name, message="mesh.obj: a face names vertex 9, but the mesh has vertices 0 to 3"):
    return RefinedInstance(name, "failed", error_kind="mesh_broken", error_message=message)


def write_output(folder, outcomes, run_id="20260101T000000Z-000000", coarse="coarse.obj"):
    storage = Storage(str(folder))
    rows = []
    for outcome in outcomes:
        row = ManifestRow(outcome.instance_id, coarse, "image.png", category=outcome.instance_id[:1])
        rows.append(row_of(outcome, row, RowContext(run_id, "refine", "c" * 16, "0.1.0", "f" * 32)))
    write_part(storage, table_of(rows), part_name(run_id, [outcome.instance_id for outcome in outcomes]))
    return folder


@pytest.mark.parametrize("command", [["status"], ["compact"], ["report"], ["export", "--format", "ply"]])
def test_a_folder_without_results_is_refused(tmp_path, command):
    name, *options = command
    result = invoke(name, tmp_path / "nothing", *([tmp_path / "meshes"] if name == "export" else []), *options)
    assert result.exit_code == 2
    assert "holds no results" in result.output
    assert not (tmp_path / "nothing").exists()
    assert not (tmp_path / "meshes").exists()


@pytest.mark.parametrize("outcome", ["finished", "stopped", "running"])
def test_status_tells_how_the_last_run_ended(tmp_path, outcome):
    output = write_output(tmp_path, [refined("a")])
    start = datetime(2026, 1, 31, 12, tzinfo=UTC)
    ended = None if outcome == "running" else start + timedelta(minutes=3)
    for n in range(2):
        RunRecord(
            run_id=f"2026013{n}T120000Z-abcdef",
            started_at=start,
            ended_at=ended,
            outcome="failed" if n == 0 else outcome,
            exit_status=1,
            counts={"refined": 1, "kept": 0, "failed": 0},
            message="stopped by SIGINT; [b]the same command goes on from here",
        ).write(Storage(str(output)))
    shown = invoke("status", output).output
    assert "last run 20260131T120000Z-abcdef" in shown
    assert "20260130" not in shown
    assert "[b]the same command goes on from here" in shown
    assert ("finished after 3 min with exit status 1; 1 refined" in shown) is (outcome == "finished")
    assert ("killed; the same command goes on" in shown) is (outcome == "running")
    assert json.loads(invoke("status", output, "--json").output)["last_run"]["outcome"] == outcome


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize(
    ("holder", "said"),
    [
        ({}, "still running"),
        ({"process_started": "1"}, "killed; the same command goes on from there"),
        ({"boot": "elsewhere", "heartbeat_at": 0.0}, "killed, or cut off"),
    ],
)
def test_status_of_a_run_that_has_written_nothing_yet(tmp_path, recorded, holder, said):
    storage = Storage(str(tmp_path))
    storage.write(LOCK, replace(Holder.here("a-run", "run", 60.0), **holder).dump())
    if recorded:
        RunRecord(run_id="a-run", started_at=datetime.now(UTC)).write(storage)
    result = invoke("status", tmp_path)
    assert result.exit_code == 0, result.output
    assert result.output.count(said) == 1
    assert f"process {os.getpid()}" in result.output
    state = json.loads(invoke("status", tmp_path, "--json").output)["lock"]["state"]
    assert said.startswith({"running": "still", "killed": "killed;", "unknown": "killed,"}[state])


def test_status_of_a_run_whose_lock_is_gone_says_that_it_was_killed(tmp_path):
    RunRecord(run_id="a-run", started_at=datetime.now(UTC)).write(Storage(str(tmp_path)))
    assert "killed; the same command goes on from there" in invoke("status", tmp_path).output


def test_status_tells_counts_figures_categories_and_failures(tmp_path):
    outcomes = [refined("a1"), refined("a2"), refined("b1", status="kept"), failed("b2"), failed("[red]b3[/red]")]
    result = invoke("status", write_output(tmp_path, outcomes))
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "refined 2 40.0%" in lines
    assert "kept 1 20.0%" in lines
    assert "failed 2 40.0%" in lines
    assert "2D IoU ↑ 0.500 0.750 +50.0% 100% 0% 3" in lines
    assert "2 failed with mesh_broken" in lines
    assert any(line.startswith("[red]b3[/red]: mesh.obj: a face names vertex 9") for line in lines)
    assert "1 × it got smaller" in lines


def test_status_as_json_is_one_document(tmp_path):
    result = invoke("status", write_output(tmp_path, [refined("a1"), failed("b2")]), "--json")
    summary = json.loads(result.output)
    assert summary["overall"]["counts"] == {"refined": 1, "kept": 0, "failed": 1}
    assert summary["overall"]["figures"]["iou_2d"]["after"] == 0.75


@pytest.mark.parametrize("file_format", ["obj", "ply", "glb"])
def test_export_writes_files_that_others_read(tmp_path, file_format):
    names = ["0146", "../../etc/passwd", "a b/ü😀", "A", "a"]
    write_output(tmp_path / "out", [refined(name, scale=1 + i) for i, name in enumerate(names)] + [failed("z")])
    result = invoke("export", tmp_path / "out", tmp_path / "meshes", "--format", file_format)
    assert result.exit_code == 0, result.output
    with (tmp_path / "meshes" / "index.csv").open(encoding="utf-8", newline="") as file:
        index = list(csv.DictReader(file))
    assert sorted(row["instance_id"] for row in index) == sorted(names)
    assert {path.name for path in (tmp_path / "meshes").iterdir()} == {row["file"] for row in index} | {"index.csv"}
    for row in index:
        scale = 1 + names.index(row["instance_id"])
        mesh = trimesh.load(tmp_path / "meshes" / row["file"], force="mesh", process=False)
        assert mesh.vertices == pytest.approx(VERTICES * scale)
        assert (mesh.faces == FACES).all()
        assert (row["status"], float(row["iou_2d_after"])) == ("refined", 0.75)


def test_export_takes_the_newest_row_and_only_what_is_asked_for(tmp_path):
    out = write_output(tmp_path / "out", [refined("a"), refined("b")])
    write_output(out, [refined("a", scale=3.0)], run_id="20260102T000000Z-000000")
    result = invoke("export", out, tmp_path / "meshes", "--id", "a")
    assert result.exit_code == 0
    assert {path.name for path in (tmp_path / "meshes").iterdir()} == {"a.obj", "index.csv"}
    mesh = trimesh.load(tmp_path / "meshes" / "a.obj", process=False)
    assert mesh.vertices == pytest.approx(VERTICES * 3)
    assert invoke("export", out, tmp_path / "meshes", "--id", "a", "--id", "a").exit_code == 0
    write_output(out, [refined("chair_07"), failed("lost")], run_id="20260103T000000Z-000000")
    missing = invoke("export", out, tmp_path / "meshes", *("--id", "a", "--id", "chair_7", "--id", "lost", "--id", "?"))
    assert missing.exit_code == 1
    assert "chair_7: no such instance" in missing.output
    assert "did you mean chair_07?" in missing.output
    assert "lost: it failed" in missing.output
    assert f"?: no such instance in {out}\n" in missing.output


def test_export_with_coarse_reads_the_mesh_the_manifest_named(tmp_path):
    coarse = tmp_path / "coarse.obj"
    trimesh.Trimesh(VERTICES * 0.5, FACES, process=False).export(coarse)
    write_output(tmp_path / "out", [refined("a")], coarse=str(coarse))
    assert invoke("export", tmp_path / "out", tmp_path / "meshes", "--with-coarse").exit_code == 0
    mesh = trimesh.load(tmp_path / "meshes" / "a.coarse.obj", process=False)
    assert mesh.vertices == pytest.approx(VERTICES * 0.5)
    coarse.unlink()
    gone = invoke("export", tmp_path / "out", tmp_path / "again", "--with-coarse")
    assert gone.exit_code == 1
    assert "a: its coarse mesh cannot be read any more" in gone.output
    write_output(tmp_path / "odd", [refined("\x1b[31mred")], coarse="nowhere.obj")
    assert "\x1b" not in invoke("export", tmp_path / "odd", tmp_path / "odd meshes", "--with-coarse").output
    assert (tmp_path / "again" / "a.obj").exists()


def test_compact_says_what_it_did(tmp_path):
    out = write_output(tmp_path, [refined("a"), refined("b")])
    write_output(out, [refined("a", scale=3.0)], run_id="20260102T000000Z-000000")
    result = invoke("compact", out)
    assert result.exit_code == 0, result.output
    assert "2 files" in result.output
    assert "2 rows, 1 superseded ones dropped" in result.output


def write_manifest(folder, lines):
    trimesh.Trimesh(VERTICES, FACES, process=False).export(folder / "m.obj")
    pixels = np.full((8, 8, 4), 255, np.uint8)
    pixels[:2, :, 3] = 0
    Image.fromarray(pixels).save(folder / "i.png")
    manifest = folder / "manifest.csv"
    header = "instance_id,mesh_uri,image_uri,azimuth,elevation,distance,symmetry_axis,colour"
    manifest.write_text("\n".join([header, *lines]) + "\n")
    return manifest


def test_validate_names_every_bad_row(tmp_path):
    (tmp_path / "torn.obj").write_text("v 1 2\nf 1 2 3\n")
    manifest = write_manifest(
        tmp_path,
        [
            "0146,m.obj,i.png,1,2,3,z,red",
            "gone,nowhere.obj,i.png,1,2,3,z,red",
            "nan,m.obj,i.png,nan,2,3,z,red",
            "axis,m.obj,i.png,1,2,3,q,red",
            "torn,torn.obj,i.png,1,2,3,z,red",
        ],
    )
    result = invoke("validate", manifest, "--json")
    found = json.loads(result.output)
    assert result.exit_code == 1
    assert (found["rows"], found["bad"]) == (5, 3)
    assert [(f["row"], f["instance_id"], f["kind"]) for f in found["findings"]] == [
        (2, "gone", "missing_file"),
        (3, "nan", "camera_invalid"),
        (4, "axis", "row_invalid"),
    ]
    deep = json.loads(invoke("validate", manifest, "--json", "--deep").output)
    assert [f["kind"] for f in deep["findings"]][-1] == "mesh_broken"
    shown = invoke("validate", manifest, "--show", "1")
    assert "3 of 5 rows cannot be refined" in shown.output
    assert "nowhere.obj" in shown.output
    assert "camera_invalid" not in shown.output
    assert "colour" in shown.output


def test_validate_of_good_rows_ends_well(tmp_path):
    manifest = write_manifest(tmp_path, ["0146,m.obj,i.png,1,2,3,z,red", "b,m.obj,i.png,,,,,red"])
    result = invoke("validate", manifest, "--deep")
    assert result.exit_code == 0, result.output
    assert "all 2 rows can be refined" in result.output
    assert invoke("validate", tmp_path / "nothing.csv").exit_code == 2


def test_synth_run_says_where_the_manifest_lies(tmp_path):
    result = invoke("synth", tmp_path / "data", "--count", "2", "--seed", "1")
    assert result.exit_code == 0, result.output
    assert "2 instances" in result.output
    assert invoke("validate", next((tmp_path / "data").glob("manifest.*")), "--deep").exit_code == 0


def test_synth_with_everything_is_valid(tmp_path):
    everything = ["--views", "2", "--soft-masks", "--occluders", "--cut", "--depth", "--normals"]
    result = invoke("synth", tmp_path, "--count", "1", *everything)
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} >= {"ignore", "depth", "normals"}
    assert invoke("validate", tmp_path / "manifest.csv", "--deep").exit_code == 0


def test_validate_reads_pictures_as_run_would(tmp_path):
    manifest = write_manifest(tmp_path, ["0146,m.obj,i.png,1,2,3,z,red"])
    pixels = np.full((32, 32, 3), 255, np.uint8)
    pixels[8:24, 8:24] = (120, 60, 20)
    Image.fromarray(pixels).save(tmp_path / "i.png")
    refused = invoke("validate", manifest, "--deep")
    assert refused.exit_code == 1
    assert "mask_missing" in refused.output
    assert invoke("validate", manifest, "--deep", "--mask-from", "background").exit_code == 0
    wrong = invoke("validate", manifest, "--deep", "--mask-threshold", "2")
    assert wrong.exit_code == 2
    assert "--mask-threshold" in wrong.output


def test_validate_says_of_files_what_a_run_would(tmp_path, monkeypatch):
    (tmp_path / "folder.obj").mkdir()
    odd = tmp_path / "set#2"
    odd.mkdir()
    rows = ["a,folder.obj,i.png,1,2,3,z,", "b,m.obj,http://127.0.0.1:9/i.png,1,2,3,z,", "c,secret.obj,i.png,1,2,3,X,"]
    manifest = write_manifest(tmp_path, [*rows, "d,set#2/m?x=1.obj,i.png,1,2,3,auto,"])
    for name in ("secret.obj", "set#2/m?x=1.obj"):
        (tmp_path / name).write_bytes((tmp_path / "m.obj").read_bytes())
    monkeypatch.setattr(os, "access", lambda path, mode: "secret" not in path)
    monkeypatch.setattr(retry, "POLICY", retry.RetryPolicy(attempts=2, base=0.01))
    for deep in ([], ["--deep"]):
        found = json.loads(invoke("validate", manifest, "--json", *deep).output)["findings"]
        assert [(f["instance_id"], f["kind"]) for f in found] == [
            ("a", "missing_file"),
            ("b", "storage"),
            ("c", "access_denied"),
        ]


def test_validate_says_once_that_ids_are_whole_numbers(tmp_path):
    write_manifest(tmp_path, [])
    row = {"instance_id": 7, "mesh_uri": "m.obj", "image_uri": "i.png", "azimuth": 1, "elevation": 2, "distance": 3}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    assert invoke("validate", tmp_path / "m.jsonl").output.count("taken as their decimal text") == 1


def test_status_says_where_the_time_of_the_last_run_went():
    from refine_batch.cli.status import _time_spent
    from refine_batch.results.run_record import RunRecord

    record = RunRecord(run_id="r", started_at=datetime.now(UTC), counts={"refined": 3, "failed": 1})
    assert _time_spent(record) == ""
    record.totals = {"seconds": 9.0, "seconds_load": 2.0, "seconds_optimise": 8.0}
    assert _time_spent(record) == "where its time went, seconds an instance: load 0.5, optimise 2"
    record.totals |= {"device_busy": 3.0, "device_idle": 1.0}
    assert _time_spent(record).endswith("optimise 2; devices busy 75% of the time")


@pytest.mark.parametrize(("doubtful", "told"), [(312, True), (40, True), (39, False), (0, False)])
def test_many_meshes_that_hardly_meet_their_masks_are_told_in_one_line(doubtful, told, capsys):
    from refine_batch.cli.run import summarise
    from refine_batch.results.run_record import RunRecord

    record = RunRecord(
        run_id="r", started_at=datetime.now(UTC), manifest="m.csv", output="out", outcome="finished", rows=400
    )
    record.counts, record.totals = {"refined": 80, "kept": 315, "failed": 5}, {"doubtful": float(doubtful)}
    summarise(record)
    said = [line for line in capsys.readouterr().out.splitlines() if "hardly meet" in line]
    assert len(said) == told
    if told:
        assert said[0].startswith(
            f"{doubtful} of 400 meshes hardly meet their masks: are the cameras in the convention"
        )
        assert said[0].endswith("refine-batch validate m.csv --preview page.html")
