"""What is left to do in storage about a batch that came to nothing, beside the driver's loop.

An actor may die after it wrote its part and before it answered, or between two parts: what is there is not done again.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from refine_batch.instance import Figures, RefinedInstance
from refine_batch.io.storage import StorageError
from refine_batch.job.assignment import Assignment
from refine_batch.job.batch import Batch, Fault, Report, RowOutcome
from refine_batch.job.ledger import GivenUp
from refine_batch.job.outcomes import row_outcome, write_outcomes
from refine_batch.results.parts import batch_prefix, list_parts, read_part

_COLUMNS = (
    *("instance_id", "status", "error_kind", "error_message", "seconds"),
    *(f"{name}_{when}" for name in Figures.names() for when in ("before", "after")),
)


@dataclass(frozen=True)
class Settled:
    """The end of one such errand.

    Parameters
    ----------
    report
        Of the rows that are in storage.
    rest
        Those of the batch that are not; None where all are.
    fault
        What the batch met; None for a row that was given up, which is not tried again.
    error
        Why a row that was given up could not be written.
    """

    report: Report
    rest: Batch | None = None
    fault: Fault | None = None
    error: StorageError | None = None


class Aftermath:
    """Looks what of a batch is in storage, and writes the rows that were given up; in threads."""

    def __init__(self, assignment: Assignment):
        self._assignment = assignment
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="aftermath")
        self._pending: dict[Future[Settled], None] = {}

    def __bool__(self) -> bool:
        """Whether anything is still going on."""
        return bool(self._pending)

    def look(self, batch: Batch, fault: Fault) -> None:
        """Find out what of a batch that met `fault` is in storage all the same."""
        self._pending[self._threads.submit(_looked, self._assignment, batch, fault)] = None

    def give_up(self, given_up: GivenUp) -> None:
        """Write the row of an instance that no actor answered for."""
        self._pending[self._threads.submit(_given_up, self._assignment, given_up)] = None

    def settled(self) -> Iterator[Settled]:
        """What has come to an end since the last call."""
        for future in [future for future in self._pending if future.done()]:
            del self._pending[future]
            yield future.result()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def committed(assignment: Assignment, batch: Batch) -> list[RowOutcome]:
    """The rows of a batch that this run has put into storage, in the batch's order. Raises StorageError."""
    found: dict[str, RowOutcome] = {}
    for part in list_parts(assignment.output, starting_with=batch_prefix(assignment.run_id, batch.name)):
        for row in read_part(assignment.output, part, _COLUMNS).to_pylist():
            found[row["instance_id"]] = RowOutcome(
                instance_id=row["instance_id"],
                status=row["status"],
                error_kind=row["error_kind"],
                error_message=row["error_message"],
                before=_figures(row, "before"),
                after=_figures(row, "after"),
                seconds=row["seconds"] or 0.0,
            )
    return [found[name] for name in batch.ids if name in found]


def _figures(row: dict, when: str) -> dict[str, float]:
    return {name: row[f"{name}_{when}"] for name in Figures.names() if row[f"{name}_{when}"] is not None}


def _looked(assignment: Assignment, batch: Batch, fault: Fault) -> Settled:
    try:
        outcomes = committed(assignment, batch)
    except (StorageError, FileNotFoundError):
        outcomes = []  # then it is all done again, and the newest row is the truth
    done = {outcome.instance_id for outcome in outcomes}
    left = [number for number, name in enumerate(batch.ids) if name not in done]
    rest = batch if len(left) == len(batch) else batch.chosen(left)
    return Settled(Report.of(outcomes), rest if left else None, fault)


def _given_up(assignment: Assignment, given_up: GivenUp) -> Settled:
    times = "once" if given_up.attempts == 1 else f"{given_up.attempts} times"
    outcome = RefinedInstance(
        given_up.row.ids[0],
        "failed",
        error_kind=str(given_up.fault.kind),
        error_message=f"tried {times}; the last time {given_up.fault.message}",
    )
    try:
        write_outcomes(assignment, given_up.row, [outcome])
    except StorageError as error:
        return Settled(Report(), error=error)
    return Settled(Report.of([row_outcome(outcome)]))
