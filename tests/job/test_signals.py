"""Real processes, real signals: what is committed stays, and the next run does the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tiny_dataset import result_rows, write_manifest

from refine_batch.io.storage import Storage
from refine_batch.results.lock import OutputLock

ROOT = Path(__file__).parents[2]
IDS = [f"i{number:02}" for number in range(16)]


@pytest.fixture
def start(tmp_path, ray_address):
    """Start `refine-batch run` as a process of its own; it is ended at the latest with the test."""
    processes = []
    manifest = write_manifest(tmp_path, IDS)

    def go(*options, output=tmp_path / "out"):
        command = [sys.executable, str(ROOT / "jobs" / "refine.py"), str(manifest), str(output)]
        command += ["--address", ray_address, "--method", "stub_methods:slow", "--image-size", "32"]
        command += ["--figure-samples", "100", "--actors", "2", "--batch-size", "2", "--progress-interval", "0.5"]
        process = subprocess.Popen(
            [*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield go
    for process in processes:
        process.kill()
        process.communicate()


def wait_for_rows(output, number, timeout=60):
    deadline = time.monotonic() + timeout
    while len(result_rows(output)) < number:
        assert time.monotonic() < deadline, "no rows came"
        time.sleep(0.1)


def records(output):
    storage = output if isinstance(output, Storage) else Storage(str(output))
    return [json.loads(storage.read(record.path)) for record in storage.list("runs")]


@pytest.mark.parametrize("place", ["local", pytest.param("s3", marks=pytest.mark.slow)])
def test_killed_after_the_first_rows_it_does_only_the_rest(tmp_path, start, place, request):
    output, options = Storage(str(tmp_path / "out")), []
    if place == "s3":
        output = request.getfixturevalue("s3_folder")
        options = ["--s3-endpoint", output.s3_endpoint]
    killed = start(*options, output=output.uri)
    wait_for_rows(output, 2)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    time.sleep(1.5)  # a batch in hand may still be committed
    committed = {row["instance_id"] for row in result_rows(output)}
    assert 2 <= len(committed) < len(IDS)

    resumed = start("--json", *options, output=output.uri)
    record = json.loads(resumed.communicate(timeout=120)[0])
    assert resumed.returncode == 0
    assert record["skipped"] == len(committed)
    assert record["counts"] == {"refined": len(IDS) - len(committed), "kept": 0, "failed": 0}
    assert Counter(row["instance_id"] for row in result_rows(output)) == Counter(IDS)

    third = start(*options, output=output.uri)
    text = third.communicate(timeout=60)[0]
    assert third.returncode == 0
    assert f"already holds all {len(IDS)} rows" in text
    assert [record["outcome"] for record in records(output)] == ["running", "finished", "finished"]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_stopped_it_commits_what_it_has_in_hand_and_says_how_to_go_on(tmp_path, start, number):
    output = tmp_path / "out"
    process = start()
    wait_for_rows(output, 2)
    process.send_signal(number)
    text, log = process.communicate(timeout=60)
    assert process.returncode == 1, log
    assert "the same command goes on from here" in text
    assert "Traceback" not in text + log
    [record] = records(output)
    assert (record["outcome"], record["exit_status"]) == ("stopped", 1)
    rows = result_rows(output)
    assert record["counts"]["refined"] == len(rows) < len(IDS)


@pytest.mark.slow
def test_grace_runs_out(tmp_path, start):
    process = start("--grace-period", "0.5", "--instance-timeout", "100", "--batch-size", "16", "--actors", "1")
    time.sleep(0.1)
    while "1 actor" not in process.stderr.readline():
        pass
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 1
    assert time.monotonic() - begun < 7, "the batch in hand would have taken 8 s"


def test_a_run_on_an_output_that_another_one_holds_is_refused(tmp_path, start):
    with OutputLock(Storage(str(tmp_path / "out")), "20260101T000000Z-abcdef"):
        _, log = (process := start()).communicate(timeout=60)
    assert process.returncode == 2
    assert "20260101T000000Z-abcdef" in log
    assert "Traceback" not in log
    assert records(tmp_path / "out") == []


def test_standard_output_is_the_record_alone(tmp_path, start):
    process = start("--json", "--limit", "4")
    text, log = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(text)["counts"]["refined"] == 4
    assert any("4/4 rows" in line for line in log.splitlines())
    assert "\x1b" not in log


@pytest.mark.slow
def test_a_signal_that_also_ends_the_local_ray_still_ends_in_a_record(tmp_path, importable_stubs, ray_folder):
    manifest, output = write_manifest(tmp_path, IDS), tmp_path / "out"
    command = [sys.executable, str(ROOT / "jobs" / "refine.py"), str(manifest), str(output), "--address", "local"]
    command += ["--method", "stub_methods:slow", "--image-size", "32", "--batch-size", "2", "--grace-period", "2"]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_rows(output, 2)
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=100)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 1
    [record] = records(output)
    assert (record["outcome"], record["exit_status"]) == ("stopped", 1)
    assert not (output / "lock.json").exists()
