"""Whole runs on a real Ray, with methods that take no time."""

from __future__ import annotations

import json
import os
from collections import Counter

import numpy as np
import pytest
from tiny_dataset import result_rows, write_broken_manifest, write_manifest

from refine_batch.config import RefineConfig
from refine_batch.errors import UsageError
from refine_batch.job import dispatch, driver
from refine_batch.job.options import RunOptions
from refine_batch.results.schema import STAGES

# Some are half a dozen runs, each of which starts an actor, on however busy a machine.
pytestmark = pytest.mark.timeout(900)
CONFIG = RefineConfig(method="stub_methods:swell", image_size=32, figure_samples=100, guard_risk=1.0)


@pytest.fixture
def run(lasting_actors):
    """`driver.run` on the test's cluster."""

    def go(manifest, output, config=CONFIG, **options):
        settings = {"actors": 1, "batch_size": 3, "instance_timeout": 20.0} | options
        return driver.run(str(manifest), str(output), config, RunOptions(**settings))

    return go


HEADER = "instance_id,mesh_uri,image_uri,azimuth,elevation,distance\n"


def no_ray(address):
    raise AssertionError("Ray was started with nothing to do")


def test_rows_are_refined_once_and_then_not_again(tmp_path, run, monkeypatch):
    ids = [f"{number:04}" for number in range(7)]
    manifest = write_manifest(tmp_path, ids)
    output = tmp_path / "out"

    first = run(manifest, output)
    assert (first.exit_status, first.record.outcome) == (0, "finished")
    assert first.record.counts == {"refined": 7, "kept": 0, "failed": 0}
    rows = result_rows(output)
    assert sorted(row["instance_id"] for row in rows) == ids
    for row in rows:
        assert row["status"] == "refined"
        assert row["attempts"] == 1
        assert row["run_id"] == first.record.run_id
        assert len(row["vertices"]) == 42
        assert np.linalg.norm(row["vertices"], axis=1) == pytest.approx(0.324, rel=1e-4)
    mean_after = np.mean([row["iou_2d_after"] for row in rows])
    assert first.record.figures["iou_2d"]["after"] == pytest.approx(mean_after)
    record = json.loads((output / "runs" / f"{first.record.run_id}.json").read_text())
    assert (record["outcome"], record["exit_status"], record["rows"]) == ("finished", 0, 7)
    assert record["cluster"]["CPU"] == 4

    write_manifest(tmp_path, [*ids, "new-1", "new-2"])
    second = run(manifest, output)
    assert (second.exit_status, second.record.skipped) == (0, 7)
    assert second.record.counts["refined"] == 2
    assert Counter(row["instance_id"] for row in result_rows(output)) == Counter([*ids, "new-1", "new-2"])

    monkeypatch.setattr(driver, "connect", no_ray)
    third = run(manifest, output)
    assert (third.exit_status, third.record.skipped, third.record.counts) == (0, 9, {})
    assert len(result_rows(output)) == 9

    for path in tmp_path.iterdir():
        os.utime(path, (1e9, 1e9))
    touched = run(manifest, output)
    assert (touched.exit_status, touched.record.skipped, touched.record.counts) == (0, 9, {})

    write_manifest(tmp_path, ids[:3])
    assert run(manifest, output).record.not_in_manifest == 6


def interleaved(faults):
    """Good instances, and one of each fault between them."""
    good = [f"good-{number}" for number in range(len(faults))]
    return good, [name for pair in zip(good, faults, strict=True) for name in (pair[0], f"{pair[1]}-x")]


def check_rows(output, ids, faults):
    """One row per id; those of `faults` (kind, attempts) failed as expected, all others are refined."""
    assert sorted(row["instance_id"] for row in result_rows(output)) == sorted(ids)
    rows = {row["instance_id"]: row for row in result_rows(output)}
    for name, row in rows.items():
        fault = name.removesuffix("-x")
        if fault not in faults:
            assert row["status"] == "refined", row["error_message"]
            continue
        assert (row["status"], row["error_kind"], row["attempts"]) == ("failed", *faults[fault]), row["error_message"]
        assert row["error_message"]
        assert row["vertices"] is None
    return rows


def test_what_a_method_raises_costs_no_other_instance(tmp_path, run):
    faults = {
        "raise": ("internal", 1),
        "refuse": ("diverged", 1),
        "nan": ("diverged", 1),
        "memory": ("out_of_memory", 1),
        "quit": ("internal", 1),
    }
    _, ids = interleaved(faults)
    outcome = run(write_manifest(tmp_path, ids), tmp_path / "out", batch_size=5, max_failed_fraction=0.5)
    rows = check_rows(tmp_path / "out", ids, faults)
    assert "no luck with [this] one" in rows["raise-x"]["error_message"]
    assert outcome.exit_status == 0, "5 of 10 failed, and half of them may"
    assert outcome.record.counts == {"refined": 5, "kept": 0, "failed": 5}


def test_what_ends_its_process_costs_no_other_instance(tmp_path, run):
    ids = ["good-1", "exit-x", "good-2"]
    outcome = run(write_manifest(tmp_path, ids), tmp_path / "out", actors=1)
    assert outcome.record.outcome == "finished", outcome.record.message
    check_rows(tmp_path / "out", ids, {"exit": ("process_died", 4)})
    assert outcome.exit_status == 1
    assert outcome.record.totals["faults"] == 4


@pytest.mark.slow
def test_every_way_to_lose_a_process(tmp_path, run):
    faults = {
        "exit": ("process_died", 3),
        "kill": ("process_died", 3),
        "segv": ("process_died", 3),
        "hang": ("timeout", 3),
    }
    _, ids = interleaved(faults)
    run(write_manifest(tmp_path, ids), tmp_path / "out", batch_size=2, instance_timeout=5.0)
    rows = check_rows(tmp_path / "out", ids, faults)
    assert "--instance-timeout" in rows["hang-x"]["error_message"]


@pytest.mark.slow
def test_what_hangs_is_ended(tmp_path, run):
    ids = ["hang-x", "good-1", "good-2"]
    outcome = run(write_manifest(tmp_path, ids), tmp_path / "out", batch_size=1, instance_timeout=5.0)
    assert outcome.record.outcome == "finished", outcome.record.message
    rows = check_rows(tmp_path / "out", ids, {"hang": ("timeout", 2)})
    assert "not done after 5 s (--instance-timeout)" in rows["hang-x"]["error_message"]


def test_failed_rows_are_left_alone_retried_or_forced(tmp_path, run):
    manifest = write_manifest(tmp_path, ["raise-1", "good-1", "good-2", "good-3"])
    output = tmp_path / "out"

    first = run(manifest, output)
    assert first.exit_status == 1
    assert "1 of 4 rows failed (25%)" in first.record.message
    again = run(manifest, output)
    assert (again.exit_status, again.record.counts) == (1, {}), "a failed row still counts as failed"
    assert run(manifest, output, max_failed_fraction=0.25).exit_status == 0
    assert run(manifest, output, retry_failed=True).record.counts["failed"] == 1
    assert run(manifest, output, force=True).record.counts == {"refined": 3, "kept": 0, "failed": 1}
    assert run(manifest, output, config=CONFIG.model_copy(update={"seed": 7}), limit=2).record.counts == {
        "refined": 1,
        "kept": 0,
        "failed": 1,
    }


def test_bad_inputs_become_failed_rows_that_name_them(tmp_path, run):
    expected = write_broken_manifest(tmp_path)

    outcome = run(tmp_path / "manifest.csv", tmp_path / "out", batch_size=4)

    assert outcome.exit_status == 1
    rows = {row["instance_id"]: row for row in result_rows(tmp_path / "out")}
    assert {name: row["error_kind"] for name, row in rows.items()} == expected
    assert "nowhere.obj" in rows["no-mesh"]["error_message"]
    assert "half_mask.png" in rows["other-size"]["error_message"]
    assert "azimuth" in rows["nan-camera"]["error_message"]
    assert outcome.record.counts == {"refined": 2, "kept": 0, "failed": 9}


def test_an_output_on_s3(tmp_path, run, s3_folder):
    ids = [f"{number:04}" for number in range(5)]
    manifest = write_manifest(tmp_path, ids)
    settings = {"s3_endpoint": s3_folder.s3_endpoint, "batch_size": 2}
    assert run(manifest, s3_folder.uri, limit=2, **settings).record.counts["refined"] == 2
    assert run(manifest, s3_folder.uri, **settings).record.counts["refined"] == 3
    assert sorted(row["instance_id"] for row in result_rows(s3_folder)) == ids
    assert run(manifest, s3_folder.uri, **settings).record.counts == {}
    assert len(s3_folder.list("runs")) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "manifest.csv"),
        ("instance_id,mesh_uri\na,b\n", "image_uri"),
        (HEADER + "a,b,c,1,2,3\na,b,c,1,2,3\n", "'a'"),
        (HEADER + ",b,c,1,2,3\n", "instance_id"),
        (HEADER, "no rows"),
    ],
)
def test_an_unusable_manifest_starts_and_writes_nothing(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(driver, "connect", no_ray)
    manifest = tmp_path / "manifest.csv"
    if content is not None:
        manifest.write_text(content)
    with pytest.raises(UsageError) as caught:
        driver.run(str(manifest), str(tmp_path / "out"))
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("importable_stubs")
@pytest.mark.parametrize("method", ["refin", "no_such_module:f", "stub_methods:no_such_function"])
def test_an_unknown_method_starts_nothing(tmp_path, monkeypatch, method):
    monkeypatch.setattr(driver, "connect", no_ray)
    manifest = write_manifest(tmp_path, ["a"])
    with pytest.raises(UsageError, match=method.partition(":")[0]):
        driver.run(str(manifest), str(tmp_path / "out"), RefineConfig(method=method))
    assert not (tmp_path / "out").exists()


def test_actors_that_cannot_start_end_the_run(tmp_path, run):
    manifest = write_manifest(tmp_path, ["a"])
    outcome = run(manifest, tmp_path / "out", cpus_per_actor=64.0, start_timeout=1.0)
    assert outcome.exit_status == 1
    assert "each asks for 64 CPU" in outcome.record.message
    assert result_rows(tmp_path / "out") == []


@pytest.mark.slow
def test_a_method_that_kills_every_actor_ends_the_run(tmp_path, run, monkeypatch):
    monkeypatch.setattr("refine_batch.job.dispatch.PATIENCE", 0)
    manifest = write_manifest(tmp_path, [f"exit-{number}" for number in range(50)])
    outcome = run(manifest, tmp_path / "out", batch_size=50, actors=1)
    assert outcome.exit_status == 1
    assert "process_died" in outcome.record.message


def test_an_output_that_cannot_be_written_ends_the_run(tmp_path, run, monkeypatch):
    monkeypatch.setattr(dispatch, "WRITE_AGAIN", 0.1)
    manifest = write_manifest(tmp_path, ["a", "b"])
    output = tmp_path / "out"
    output.mkdir()
    (output / "results").write_text("in the way")
    outcome = run(manifest, output)
    assert outcome.exit_status == 1
    assert "written" in outcome.record.message


@pytest.mark.slow
def test_an_actor_of_two_cores_has_a_process_for_each(tmp_path, run):
    # What ends the process is in a batch by itself, as it does so once less there: what comes of the others of its
    # batch is the driver's doing, however many cores an actor has.
    ids = ["good-1", "raise-x", "good-2", "good-3", "exit-x"]
    outcome = run(write_manifest(tmp_path, ids), tmp_path / "out", actors=1, cpus_per_actor=2.0, batch_size=2)
    assert outcome.record.outcome == "finished", outcome.record.message
    attempts = {row["instance_id"]: row["attempts"] for row in result_rows(tmp_path / "out")}
    # One more where the other's end came before its row was in storage, or while others were in the actor's hands.
    assert attempts["raise-x"] in (1, 2)
    assert attempts["exit-x"] in (2, 3)
    faults = {"raise": ("internal", attempts["raise-x"]), "exit": ("process_died", attempts["exit-x"])}
    rows = check_rows(tmp_path / "out", ids, faults)
    totals = outcome.record.totals
    assert all(totals[f"seconds_{name}"] > 0 for name in STAGES)
    assert all(rows["good-1"][f"seconds_{name}"] > 0 for name in STAGES)
    assert totals["device_busy"] > 0
