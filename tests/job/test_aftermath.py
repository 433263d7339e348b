"""What is in storage of a batch whose actor did not answer."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from refine_batch.config import RefineConfig
from refine_batch.dataset.row import ManifestRow
from refine_batch.errors import ErrorKind
from refine_batch.instance import Figures, RefinedInstance
from refine_batch.io.storage import Storage, StorageError
from refine_batch.job import aftermath
from refine_batch.job.aftermath import Aftermath, committed
from refine_batch.job.assignment import Assignment
from refine_batch.job.batch import Batch, Fault, Task
from refine_batch.job.ledger import GivenUp
from refine_batch.job.outcomes import row_outcome, write_outcomes
from refine_batch.mesh import Mesh
from refine_batch.results.parts import list_parts

TRIANGLE = Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32))
DIED = Fault(ErrorKind.PROCESS_DIED, "its process died")


def batch_of(*names):
    return Batch.of(tuple(Task(ManifestRow(name, "m.obj", "i.png"), f"f-{name}") for name in names))


def outcomes_of(batch):
    return [
        RefinedInstance(task.row.instance_id, "refined", mesh=TRIANGLE, after=Figures(iou_2d=0.5), seconds=2.0)
        for task in batch.tasks
    ]


def assignment_of(storage, **options):
    return Assignment("20260131T120501Z-6f3a9c", storage, RefineConfig(), "0.1", **options)


def settled(aftermath):
    """Everything, once it has come to an end."""
    found = []
    while aftermath:
        found += aftermath.settled()
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("part_bytes", [32_000_000, 1])
def test_what_is_stored_is_found_and_nothing_else_of_other_batches(storage, part_bytes):
    assignment = assignment_of(storage, part_bytes=part_bytes)
    stored, other = batch_of("a", "b", "c"), batch_of("a", "x")
    for batch in (stored, other):
        write_outcomes(assignment, batch, outcomes_of(batch))
    assert len(list_parts(storage)) == (2 if part_bytes > 1 else 5)
    assert committed(assignment, stored) == [row_outcome(outcome) for outcome in outcomes_of(stored)]
    assert committed(assignment, batch_of("a", "b")) == []


def test_the_rest_of_a_batch_goes_on_with_its_fault(tmp_path):
    assignment = assignment_of(Storage(str(tmp_path)))
    whole = batch_of("a", "b", "c")
    rows = batch_of("a", "b")
    # The first of the batch's two parts.
    write_outcomes(assignment, rows, outcomes_of(rows))
    [part] = list_parts(assignment.output)
    name = part.path.replace(rows.name, whole.name)
    assignment.output.write(name, assignment.output.read(part.path))

    errands = Aftermath(assignment)
    errands.look(whole, DIED)
    [found] = settled(errands)
    assert found.report.counts == {"refined": 2}
    assert found.rest is not None
    assert found.rest.ids == ["c"]
    assert (found.rest.tries, found.fault) == (0, DIED)

    errands.look(rows, DIED)
    [found] = settled(errands)
    assert (found.report.rows, found.rest) == (2, None)
    errands.close()


def test_a_store_that_cannot_be_asked_is_taken_to_hold_nothing(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise StorageError("no")

    monkeypatch.setattr(aftermath, "list_parts", refuse)
    errands = Aftermath(assignment_of(Storage(str(tmp_path))))
    errands.look(batch_of("a"), DIED)
    [found] = settled(errands)
    assert (found.report.rows, found.rest) == (0, batch_of("a"))


def test_a_row_that_is_given_up_is_written_as_failed(tmp_path):
    errands = Aftermath(assignment_of(Storage(str(tmp_path))))
    row = replace(batch_of("a"), tries=2)
    errands.give_up(GivenUp(row, DIED, attempts=3))
    [found] = settled(errands)
    [outcome] = found.report.failures
    assert (outcome.instance_id, outcome.status, outcome.error_kind) == ("a", "failed", "process_died")
    assert outcome.error_message == "tried 3 times; the last time its process died"
    assert (found.rest, found.fault, found.error) == (None, None, None)

    (tmp_path / "results").rename(tmp_path / "elsewhere")
    (tmp_path / "results").write_text("in the way")
    errands.give_up(GivenUp(row, DIED, attempts=3))
    [found] = settled(errands)
    assert found.report.rows == 0
    assert "results" in str(found.error)
