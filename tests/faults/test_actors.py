"""Actors that die or stop, at the worst moments."""

from __future__ import annotations

import os
import signal
import time

import pytest
from fault_proxy import FaultProxy
from trial import BATCH, is_running, wait_until

pytestmark = pytest.mark.usefixtures("lasting_actors")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_actor_killed_in_the_middle_of_a_batch(trial, number):
    """SIGTERM is what Ray sends to the actors of a node that is taken down."""
    trial.conduct.set(pace=0.5)
    running = trial.start()
    pid, _ = trial.wait_for_batches(1)[0]
    os.kill(pid, number)
    outcome = running.outcome()
    assert outcome.exit_status == 0, outcome.record.message
    assert outcome.record.totals["faults"] == 1
    trial.check(repeated=BATCH)


@pytest.mark.slow
@pytest.mark.parametrize(("part_size", "number", "kept"), [(32.0, 0, 2), (1e-4, 1, 2), (1e-4, 0, 1)])
def test_an_actor_killed_after_its_part_was_stored_and_before_it_knew(s3_trial, part_size, number, kept):
    """The store has the part (or one of two) but its answer does not come; then the actor dies."""
    batches = {}  # the parts of each, in the order in which they came; batches are written side by side

    def fault(method, path, _):
        if method != "PUT" or "/results/" not in path:
            return None
        parts = batches.setdefault(path.rpartition("-")[0], [])
        parts.extend({path} - set(parts))
        first = next(iter(batches.values()))
        return "late-answer" if path in first[number : number + 1] else None

    with FaultProxy(s3_trial.output.s3_endpoint, fault) as proxy:
        running = s3_trial.start(s3_endpoint=proxy.endpoint, actors=1, part_size=part_size)
        stored = len(s3_trial.ids) - BATCH + kept
        wait_until(lambda: len(s3_trial.rows()) == stored and proxy.stalled == 1, "the rows of all that can be stored")
        rows = [row for row in s3_trial.rows() if next(iter(batches)).endswith(row["batch"])]
        assert len(rows) == kept
        os.kill(s3_trial.begun()[0][0], signal.SIGKILL)
        outcome = running.outcome()
    assert outcome.exit_status == 0, outcome.record.message
    assert outcome.record.counts == {"refined": 8, "kept": 0, "failed": 0}
    assert outcome.record.totals["faults"] == 1
    s3_trial.check(repeated=BATCH - kept)


@pytest.mark.slow
def test_an_actor_that_is_stopped_is_ended_and_does_no_harm_when_it_wakes(trial):
    trial.conduct.set(pace=0.3)
    running = trial.start(instance_timeout=4.0)
    pid, _ = trial.wait_for_batches(1)[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        outcome = running.outcome()
    finally:
        if is_running(pid):
            os.kill(pid, signal.SIGCONT)
    assert outcome.exit_status == 0, outcome.record.message
    assert outcome.record.totals["faults"] == 1
    wait_until(lambda: not is_running(pid), "the end of the actor that was stopped")
    time.sleep(0.2)
    # It may have written its part after it woke: the same rows once more.
    trial.check(repeated=BATCH, superseded=BATCH)
