"""The driver's bookkeeping: which batch comes next, and what follows from each fault. Pure logic, no Ray.

A batch whose actor died or hung goes once more whole, because the node may have been to blame; if it fails again it is
halved until the row that does it stands alone, and that row is given up. So a fault costs a bounded number of attempts
and never an innocent row.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from refine_batch.errors import ErrorKind
from refine_batch.job.batch import Batch, Fault, RowOutcome, Task

# A batch that loses this many nodes in a row is no longer taken for unlucky: it may be what exhausts them.
MAX_LOSSES = 5
# Attempts at putting a batch's rows into storage, each after the storage layer's own retries.
MAX_UNWRITTEN = 3
# Faults of one kind in a row, with no batch finished in between, after which the run is ended: more than one killing
# row in a batch of 64 causes (2 whole, 6 halvings).
PATIENCE = 12
# Failed rows in a row, all of one kind that no dataset causes, after which the run is ended.
MAX_FAILURES_ALIKE = 100
# Kinds that speak of the installation, the method or the store rather than of one row's data.
SYSTEMIC = frozenset(
    {ErrorKind.STORAGE, ErrorKind.INTERNAL, ErrorKind.PROCESS_DIED, ErrorKind.OUT_OF_MEMORY, ErrorKind.TIMEOUT}
)


@dataclass(frozen=True)
class GivenUp:
    """A row that ends as `failed` without an answer from any actor."""

    task: Task
    fault: Fault
    attempts: int


@dataclass
class Ledger:
    """Batches to do, in the order they are to be done, and the run's counts.

    Parameters
    ----------
    source
        Gives the next fresh batch, or None where there is none at the moment.
    stop_on_failures_alike
        Whether a long row of equal failures ends the run; off for a run that accepts any number of failures.
    patience
        How many equal faults in a row end the run. More actors meet more faults at once: the driver raises it.
    """

    source: Callable[[], Batch | None]
    stop_on_failures_alike: bool = True
    patience: int = PATIENCE
    counts: Counter[str] = field(default_factory=Counter)
    unwritten: int = 0
    why_unwritten: str | None = None
    faults: Counter[str] = field(default_factory=Counter)
    _again: deque[Batch] = field(default_factory=deque)
    _unwritten_tries: Counter[str] = field(default_factory=Counter)
    _faults_alike: list[Fault] = field(default_factory=list)
    _fatal: Fault | None = None
    _failures_alike: int = 0
    _last_failure: RowOutcome | None = None

    def take(self) -> Batch | None:
        """The next batch: those that go again come first, so that their end does not wait for the run's."""
        return self._again.popleft() if self._again else self.source()

    def put_back(self, batch: Batch) -> None:
        """Return a batch that nobody began."""
        self._again.appendleft(batch)

    @property
    def waiting(self) -> int:
        """Batches that go again."""
        return len(self._again)

    def finished(self, outcomes: Iterable[RowOutcome]) -> None:
        """Count rows that are in storage."""
        for outcome in outcomes:
            self.counts[outcome.status] += 1
            if outcome.status != "failed":
                self._failures_alike, self._last_failure = 0, None
            elif self._last_failure is None or outcome.error_kind == self._last_failure.error_kind:
                self._failures_alike, self._last_failure = self._failures_alike + 1, outcome
            else:
                self._failures_alike, self._last_failure = 1, outcome

    def answered(self, outcomes: Iterable[RowOutcome]) -> None:
        """Count the rows of a batch that an actor brought to an end."""
        self._faults_alike.clear()
        self.finished(outcomes)

    def recovered(self, outcomes: Sequence[RowOutcome], rest: Batch | None, fault: Fault) -> GivenUp | None:
        """Count what of a batch that met `fault` is in storage all the same, and decide about the rest of it."""
        if outcomes:
            self.answered(outcomes)
        if rest is not None:
            return self.faulted(rest, fault)
        self.faults[fault.kind] += 1
        return None

    def faulted(self, batch: Batch, fault: Fault) -> GivenUp | None:
        """Decide what becomes of a batch that came to nothing; the row to write as failed, if it comes to that."""
        self.faults[fault.kind] += 1
        if fault.fatal:
            self._fatal = fault
            return None
        if fault.blameless and batch.losses < MAX_LOSSES:
            self._again.append(replace(batch, losses=batch.losses + 1))
            return None
        if self._faults_alike and self._faults_alike[-1].kind != fault.kind:
            self._faults_alike.clear()
        self._faults_alike.append(fault)
        if fault.kind == ErrorKind.STORAGE:
            self._again_unless_unwritable(batch, fault)
            return None
        if batch.tries == 0:
            self._again.append(replace(batch, tries=1))
        elif len(batch) > 1:
            half = len(batch) // 2
            for tasks in (batch.tasks[:half], batch.tasks[half:]):
                self._again.append(Batch(tasks, tries=batch.tries + 1))
        else:
            return GivenUp(batch.tasks[0], fault, attempts=batch.attempt)
        return None

    def _again_unless_unwritable(self, batch: Batch, fault: Fault) -> None:
        """A row that cannot be written cannot be written as failed either: it stays undone, and the next run's."""
        self._unwritten_tries[batch.name] += 1
        if self._unwritten_tries[batch.name] < MAX_UNWRITTEN:
            self._again.append(batch)
        else:
            self.unwritten += len(batch)
            self.why_unwritten = fault.message

    def hopeless(self) -> str | None:
        """Why going on makes no sense, as a sentence; None while it does."""
        if self._fatal is not None:
            return self._fatal.message
        if len(self._faults_alike) >= self.patience:
            last = self._faults_alike[-1]
            return (
                f"{len(self._faults_alike)} batches in a row ended with {last.kind} and none was finished in between; "
                f"the last: {last.message}"
            )
        last_failure = self._last_failure
        if (
            self.stop_on_failures_alike
            and self._failures_alike >= MAX_FAILURES_ALIKE
            and last_failure is not None
            and last_failure.error_kind in SYSTEMIC
            and not self.counts["refined"]
            and not self.counts["kept"]
        ):
            return (
                f"the first {self._failures_alike} rows all failed with {last_failure.error_kind}; "
                f"the last, {last_failure.instance_id!r}: {last_failure.error_message}"
            )
        return None
