"""Two runs on one output, in processes of their own."""

from __future__ import annotations

import json
import signal
import time

import pytest

pytestmark = pytest.mark.slow


def test_the_second_refuses_and_the_first_goes_on(trial, processes):
    trial.conduct.set(pace=60)
    first = processes.start(trial.command())
    trial.wait_for_batches(1)
    second = processes.start(trial.command())
    _, log = second.communicate(timeout=200)
    assert second.returncode == 2, log
    [running] = trial.records()
    assert running["run_id"] in log, "it says which run holds the output"
    assert "Traceback" not in log
    trial.conduct.set(pace=0.0)
    text, log = first.communicate(timeout=200)
    assert first.returncode == 0, text + log
    trial.check()
    assert len(trial.records()) == 1


def test_a_killed_run_of_this_machine_keeps_nobody_away(trial, processes):
    trial.conduct.set(pace=0.5)
    killed = processes.start(trial.command())
    trial.wait_for_rows(1)
    killed.kill()
    killed.communicate()
    # So fresh a lock would keep everybody away, were its process not known to be dead.
    lock = json.loads(trial.output.read("lock.json"))
    trial.output.write("lock.json", json.dumps(lock | {"heartbeat_at": time.time() + lock["ttl"] - 5}).encode())
    trial.conduct.set(pace=0.0)
    second = processes.start(trial.command())
    text, log = second.communicate(timeout=200)
    assert second.returncode == 0, text + log
    # Its two actors may each have stored what they had in hand after the second run had looked.
    trial.check(repeated=4, superseded=4)


def test_a_run_that_slept_past_its_lock_stops_when_it_wakes(trial, processes):
    """A suspended machine: its lock expires, another run takes over, and the sleeper does no harm."""
    trial.conduct.set(pace=1.0)
    sleeper = processes.start(trial.command())
    trial.wait_for_rows(1)
    sleeper.send_signal(signal.SIGSTOP)
    trial.conduct.set(pace=0.0)
    deadline = time.monotonic() + 200
    while True:
        second = processes.start(trial.command())
        text, log = second.communicate(timeout=200)
        if second.returncode != 2:
            break
        assert "is in use by" in log
        assert time.monotonic() < deadline, log
        time.sleep(5)
    assert second.returncode == 0, text + log
    sleeper.send_signal(signal.SIGCONT)
    text, log = sleeper.communicate(timeout=200)
    assert sleeper.returncode == 1, text + log
    assert "this run stops" in text
    trial.check(repeated=4, superseded=4)
    assert sorted(record["outcome"] for record in trial.records()) == ["failed", "finished"]
