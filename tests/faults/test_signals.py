"""Real processes, real signals: what is committed stays, and the next run does the rest."""

from __future__ import annotations

import json
import os
import signal

import pytest
from trial import BATCH, Trial, is_running, wait_until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("place", ["local", "s3"])
def test_a_killed_driver_loses_nothing_that_is_committed(place, make_long_trial, processes, ray_address, request):
    trial: Trial = make_long_trial(output=request.getfixturevalue("s3_folder") if place == "s3" else None)
    trial.address = ray_address
    trial.conduct.set(pace=0.5)
    killed = processes.start(trial.command())
    trial.wait_for_rows(2)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    # Until then the batches in hand may still be committed.
    wait_until(lambda: not any(is_running(pid) for pid, _ in trial.begun()), "the end of its actors")
    committed = {row["instance_id"] for row in trial.rows()}
    assert 2 <= len(committed) < len(trial.ids)

    trial.conduct.set(pace=0.0)
    resumed = processes.start(trial.command("--json"))
    text, log = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, log
    record = json.loads(text)
    assert record["skipped"] == len(committed)
    assert record["counts"] == {"refined": len(trial.ids) - len(committed), "kept": 0, "failed": 0}
    # Of each of two actors: what was on the device, and what was being concluded.
    trial.check(repeated=4 * BATCH)

    third = processes.start(trial.command())
    text = third.communicate(timeout=200)[0]
    assert third.returncode == 0
    assert f"already holds all {len(trial.ids)} rows" in text
    assert [record["outcome"] for record in trial.records()] == ["running", "finished", "finished"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_it_commits_what_it_has_in_hand_and_says_how_to_go_on(make_long_trial, processes, ray_address, number):
    trial = make_long_trial()
    trial.address = ray_address
    trial.conduct.set(pace=0.5)
    process = processes.start(trial.command())
    trial.wait_for_rows(1)
    process.send_signal(number)
    text, log = process.communicate(timeout=200)
    assert process.returncode == 1, log
    assert "the same command goes on from here" in text
    assert "Traceback" not in text + log
    [record] = trial.records()
    assert (record["outcome"], record["exit_status"]) == ("stopped", 1)
    assert record["counts"]["refined"] == len(trial.rows()) < len(trial.ids)
    trial.conduct.set(pace=0.0)
    assert trial.run().exit_status == 0
    trial.check(repeated=0)


def test_grace_runs_out(trial, processes):
    # The batch in hand takes longer than this test may.
    trial.conduct.set(pace=1000)
    process = processes.start(trial.command("--grace-period", "0.5", "--batch-size", "8", "--actors", "1"))
    trial.wait_for_batches(1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=200)
    assert process.returncode == 1
    [record] = trial.records()
    assert (record["outcome"], record["exit_status"]) == ("stopped", 1)
    trial.conduct.set(pace=0.0)
    assert trial.run().exit_status == 0
    trial.check(repeated=8)


def test_standard_output_is_the_record_alone(trial, processes):
    process = processes.start(trial.command("--json", "--limit", "4"))
    text, log = process.communicate(timeout=200)
    assert process.returncode == 0
    assert json.loads(text)["counts"]["refined"] == 4
    assert any("4/4 rows" in line for line in log.splitlines())
    assert "\x1b" not in log


def test_a_signal_that_also_ends_the_local_ray_still_ends_in_a_record(
    make_long_trial, processes, ray_folder, ray_address
):
    """What a terminal or a batch system sends: to the driver, Ray's daemons and the actors, all at once."""
    trial = make_long_trial()
    trial.conduct.set(pace=0.5)
    process = processes.start(trial.command("--grace-period", "2"), start_new_session=True)
    try:
        trial.wait_for_rows(1)
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=200)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 1
    [record] = trial.records()
    assert (record["outcome"], record["exit_status"]) == ("stopped", 1)
    assert not trial.output.exists("lock.json")
    trial.address, before = ray_address, len(trial.begun())
    trial.conduct.set(pace=0.0)
    assert trial.run().exit_status == 0
    # Of each of two actors: what was on the device, and what was being concluded.
    trial.check(repeated=4 * BATCH)
    assert len(trial.begun()) > before
