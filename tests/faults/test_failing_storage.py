"""A real S3 server behind a proxy that fails as stores and networks do; a full disk; damaged files."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
import s3_server
from fault_proxy import FaultProxy
from tiny_dataset import result_rows
from trial import BATCH, Trial

from refine_batch.io.storage import Storage, StorageError
from refine_batch.job import ledger, outage
from refine_batch.job.progress import Silent
from refine_batch.results import compact as compaction

pytestmark = pytest.mark.slow
TRANSIENT = ["503", "500", "reset", "torn", "lost-answer", "stall"]


def every(number, fault):
    """That fault for one request in `number`, each time another one."""
    return lambda method, path, count: fault if count % number == 3 else None


@pytest.mark.usefixtures("ray_connection")
@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_store_that_fails_now_and_then(s3_trial, fault):
    """Inputs stay local: what fails is the lock, the listing, the parts, the record."""
    # A stall lasts until the client gives up: half a minute each.
    with FaultProxy(s3_trial.output.s3_endpoint, every(10 if fault == "stall" else 5, fault)) as proxy:
        outcome = s3_trial.run(s3_endpoint=proxy.endpoint)
    assert Counter(met for *_, met in proxy.requests)[fault] >= 2
    assert (outcome.exit_status, outcome.record.outcome) == (0, "finished"), outcome.record.message
    assert outcome.record.totals["faults"] == 0, "storage retries by itself: no batch is refined twice"
    s3_trial.check()
    assert [record["outcome"] for record in s3_trial.records()] == ["finished"]


@pytest.mark.usefixtures("ray_connection")
def test_inputs_on_a_store_that_fails_now_and_then(s3_trial):
    """Manifest, stamps, meshes and images as well: what passes is no fault of any row."""
    s3_trial.upload()
    faults = [fault for fault in TRANSIENT if fault != "stall"]

    def one_in_four(method, path, count):
        return faults[count // 4 % len(faults)] if count % 4 == 3 else None

    with FaultProxy(s3_trial.output.s3_endpoint, one_in_four) as proxy:
        outcome = s3_trial.run(s3_endpoint=proxy.endpoint)
    met = {(fault, "/inputs/" in path) for method, path, fault in proxy.requests if method == "GET" and fault}
    assert {fault for fault, input_ in met if input_} >= {"503", "reset"}
    assert outcome.exit_status == 0, outcome.record.message
    assert outcome.record.totals["faults"] == 0
    s3_trial.check()


@pytest.mark.usefixtures("ray_connection")
def test_a_store_that_is_killed_and_comes_back(make_trial, ray_address, aws_environment, tmp_path):
    (tmp_path / "store").mkdir()
    server = s3_server.start_rclone(tmp_path / "store")
    try:
        bucket = server.make_bucket("bucket")
        trial: Trial = make_trial(output=Storage(f"{bucket}/out", server.endpoint))
        trial.address = ray_address
        trial.upload()
        trial.conduct.set(pace=0.5)
        running = trial.start()
        trial.wait_for_rows(BATCH)
        server.process.kill()
        server.process.wait()
        server = s3_server.start_rclone(tmp_path / "store", int(server.endpoint.rpartition(":")[2]))
        outcome = running.outcome()
        assert outcome.exit_status == 0, outcome.record.message
        assert outcome.record.totals["faults"] == 0
        trial.check()
    finally:
        server.stop()


@pytest.mark.usefixtures("ray_connection")
@pytest.mark.parametrize("fault", ["503", "403"])
def test_a_store_that_stays_away_ends_the_run_and_the_next_one_does_the_rest(s3_trial, fault):
    """After the first two parts nothing can be written to the results any more."""
    stored = []

    def failing(method, path, _):
        if method == "PUT" and "/results/" in path:
            if len(stored) >= 2:
                return fault
            stored.append(path)
        return None

    with FaultProxy(s3_trial.output.s3_endpoint, failing) as proxy:
        outcome = s3_trial.run(s3_endpoint=proxy.endpoint, actors=1, storage_patience=1.0)
    assert (outcome.exit_status, outcome.record.outcome) == (1, "failed")
    assert "written" in outcome.record.message
    assert outcome.record.counts["refined"] == len(s3_trial.rows()) == 2 * BATCH

    undone = len(s3_trial.ids) - 2 * BATCH
    second = s3_trial.run()
    assert (second.exit_status, second.record.skipped) == (0, 2 * BATCH)
    s3_trial.check(repeated=3 * undone)


FULL_DISK = """
mkdir {place}
mount -t tmpfs -o size=100k tmpfs {place}
{run}; echo "full: $?"
cp -r {place} {first}
mount -o remount,size=50m {place}
{run}; echo "larger: $?"
cp -r {place} {second}
"""


def test_a_full_disk_ends_the_run_and_the_next_one_does_the_rest(make_trial, ray_folder, processes):
    """A real file system of 100 kB, in a namespace of its own."""
    can = shutil.which("unshare") and subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    if not can or can.returncode:
        pytest.skip("this system does not let its users mount")
    trial: Trial = make_trial()
    place, first, second = (trial.folder / name for name in ("out", "first", "second"))
    run = shlex.join(trial.command("--actors", "1"))
    script = FULL_DISK.format(place=place, first=first, second=second, run=run)
    text, log = processes.start(["unshare", "-rm", "bash", "-ec", "set +e;" + script]).communicate(timeout=280)
    assert ("full: 1" in text, "larger: 0" in text) == (True, True), text + log
    assert "the disk is full" in text + log
    assert "Traceback" not in text + log
    assert 0 < len(result_rows(first)) < len(trial.ids)
    trial.output = Storage(str(second))
    trial.check(repeated=3 * len(trial.ids))


@pytest.mark.usefixtures("ray_connection")
def test_a_damaged_part_is_named_and_nothing_is_started(trial):
    assert trial.run(limit=4).exit_status == 0
    part = max((trial.folder / "out" / "results").glob("*.parquet"))
    whole = part.read_bytes()
    part.write_bytes(whole[:-100])
    with pytest.raises(StorageError, match=part.name):
        trial.run()
    part.write_bytes(whole)
    assert trial.run().exit_status == 0
    trial.check()


@pytest.mark.usefixtures("ray_connection")
@pytest.mark.parametrize("place", ["local", "s3"])
def test_a_killed_compaction_is_finished_by_the_next_run(place, request, monkeypatch):
    """It dies between the put of the merged part and the removal of its sources."""
    trial: Trial = request.getfixturevalue("trial" if place == "local" else "s3_trial")
    assert trial.run(limit=6).exit_status == 0

    clear, cleared = compaction._clear, []

    def die(*arguments, **options):
        raise KeyboardInterrupt

    def clear_once(storage):
        cleared.append(storage)
        die() if len(cleared) > 1 else clear(storage)

    with monkeypatch.context() as patch:
        if place == "local":
            patch.setattr(compaction, "_clear", clear_once)
        else:
            patch.setattr(Storage, "delete", die)
        with pytest.raises(KeyboardInterrupt):
            compaction.compact(trial.output)
    trial.output.delete("lock.json")  # of a process that is gone
    assert trial.run().exit_status == 0
    trial.check()
    assert [part.path for part in trial.output.list("results") if "stack" in part.path]
    assert not Path(trial.output.path_of(".results-next")).exists()


@pytest.mark.usefixtures("ray_connection")
def test_inputs_that_are_away_for_a_while_in_the_middle_fail_no_row(s3_trial, monkeypatch):
    """Every read of an input is refused from the first result on, for longer than a request is repeated."""
    s3_trial.upload()
    monkeypatch.setattr(outage, "LOOK_EVERY", 2.0)
    monkeypatch.setattr(ledger, "PUT_OFF", 2.0)
    away_since: list[float] = []

    def away(method, path, _):
        if method == "PUT" and "/results/" in path and not away_since:
            away_since.append(time.monotonic())
        inside = away_since and time.monotonic() - away_since[0] < 25
        return "503" if inside and method == "GET" and "/inputs/" in path else None

    said: list[str] = []
    with FaultProxy(s3_trial.output.s3_endpoint, away) as proxy:
        outcome = s3_trial.run(s3_endpoint=proxy.endpoint, actors=1, reporter=Told(said))
    assert any(fault == "503" for *_, fault in proxy.requests)
    assert outcome.exit_status == 0, outcome.record.message
    assert outcome.record.counts == {"refined": len(s3_trial.ids), "kept": 0, "failed": 0}
    s3_trial.check()


@pytest.mark.usefixtures("ray_connection")
@pytest.mark.parametrize("which", [".png", "all"])
def test_inputs_that_stay_away_are_done_by_the_next_plain_run(s3_trial, monkeypatch, which):
    """Pictures alone, so that the plan sees the meshes; or everything but the manifest, to look at and to read."""
    s3_trial.upload()
    monkeypatch.setattr(ledger, "PUT_OFF", 0.1)

    def away(method, path, _):
        if which == "all":
            return "503" if "inputs" in path and not path.endswith(s3_trial.manifest.name) else None
        return "503" if method == "GET" and path.endswith(which) else None

    with FaultProxy(s3_trial.output.s3_endpoint, away) as proxy:
        outcome = s3_trial.run(s3_endpoint=proxy.endpoint, storage_patience=1.0)
    assert outcome.exit_status == 1
    rows = {row["instance_id"]: row for row in s3_trial.rows()}
    assert {row["error_kind"] for row in rows.values()} == {"storage"}
    assert {row["retry"] for row in rows.values()} == {True}
    second = s3_trial.run()
    assert second.record.counts == {"refined": len(s3_trial.ids), "kept": 0, "failed": 0}
    s3_trial.check(superseded=len(s3_trial.ids))


class Told(Silent):
    """Keeps what is said."""

    def __init__(self, said: list[str]):
        self._said = said

    def say(self, text: str) -> None:
        self._said.append(text)
