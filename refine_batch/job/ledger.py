"""The driver's bookkeeping: which batch comes next, and what follows from each fault. Pure logic, no Ray.

A batch whose actor died or hung goes once more whole, because the node may have been to blame; if it fails again it is
halved until the row that does it stands alone, and that row is given up. An actor has several batches in hand: when it
dies, each of them goes again alone, so that none is blamed for another. So a fault costs a bounded number of attempts
and never an innocent row.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from refine_batch.errors import ErrorKind
from refine_batch.job.batch import Batch, Fault, Report, RowOutcome

# A batch that loses this many nodes in a row is no longer taken for unlucky: it may be what exhausts them.
MAX_LOSSES = 5
# Attempts at putting a batch's rows into storage, each after the storage layer's own retries.
MAX_UNWRITTEN = 3
# Seconds after which what may have passed is tried again, doubled each time, and how often: 150 seconds in all.
PUT_OFF, MOST_WAITS = 10.0, 4
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

    row: Batch
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
    clock
        Seconds, for what is tried again after a while.
    """

    source: Callable[[], Batch | None]
    stop_on_failures_alike: bool = True
    patience: int = PATIENCE
    clock: Callable[[], float] = time.monotonic
    counts: Counter[str] = field(default_factory=Counter)
    unwritten: int = 0
    why_unwritten: str | None = None
    faults: Counter[str] = field(default_factory=Counter)
    _again: deque[Batch] = field(default_factory=deque)
    _later: list[tuple[float, int, Batch]] = field(default_factory=list)
    _unwritten_tries: Counter[str] = field(default_factory=Counter)
    _faults_alike: list[Fault] = field(default_factory=list)
    _fatal: Fault | None = None
    _failures_alike: int = 0
    _last_failure: RowOutcome | None = None
    _number: int = 0

    def take(self, alone: bool = True) -> Batch | None:
        """The next batch: those that go again come first, so that their end does not wait for the run's.

        Parameters
        ----------
        alone
            Whether it may be one that has to be alone.
        """
        if self._later and self._later[0][0] <= self.clock():
            return heapq.heappop(self._later)[2]
        for number, batch in enumerate(self._again):
            if alone or not batch.alone:
                del self._again[number]
                return batch
        return self.source()

    def put_back(self, batch: Batch) -> None:
        """Return a batch that nobody began."""
        self._again.appendleft(batch)

    def next(self, alone: bool = True) -> Batch | None:
        """What `take` would give of those that go again."""
        if self._later and self._later[0][0] <= self.clock():
            return self._later[0][2]
        return next((batch for batch in self._again if alone or not batch.alone), None)

    @property
    def waiting(self) -> int:
        """Batches that go again, now or later."""
        return len(self._again) + len(self._later)

    @property
    def ready(self) -> int:
        """Those that go again now."""
        now = self.clock()
        return len(self._again) + sum(due <= now for due, *_ in self._later)

    @property
    def ready_weight(self) -> float:
        """The weight of those that go again now."""
        now = self.clock()
        again = sum(batch.weight for batch in self._again)
        return again + sum(batch.weight for due, _, batch in self._later if due <= now)

    @property
    def waiting_rows(self) -> int:
        """Rows of the batches that go again."""
        return sum(map(len, self._again)) + sum(len(batch) for *_, batch in self._later)

    def put_off(self, batch: Batch, *, counts: bool = True) -> None:
        """Try a batch again after a while, each time a longer one, and the last time for good.

        Parameters
        ----------
        counts
            Whether this is one of the times; not while the store is away for everyone.
        """
        waits = batch.waits + counts
        self._number += 1
        due = self.clock() + PUT_OFF * 2.0**batch.waits
        heapq.heappush(self._later, (due, self._number, replace(batch, waits=waits, last=waits >= MOST_WAITS)))

    def hurry(self) -> None:
        """Try at once what was put off: what it waited for is there again."""
        self._again.extend(batch for *_, batch in sorted(self._later, key=lambda entry: entry[:2]))
        self._later.clear()

    def finished(self, report: Report) -> None:
        """Count rows that are in storage."""
        self.counts.update(report.counts)
        if report.rows > len(report.failures):
            self._failures_alike, self._last_failure = 0, None
        for failure in report.failures:
            if self._last_failure is None or failure.error_kind == self._last_failure.error_kind:
                self._failures_alike, self._last_failure = self._failures_alike + 1, failure
            else:
                self._failures_alike, self._last_failure = 1, failure

    def answered(self, report: Report) -> None:
        """Count the rows of a batch that an actor brought to an end."""
        if report.rows:
            self._faults_alike.clear()
        self.finished(report)

    def recovered(self, report: Report, rest: Batch | None, fault: Fault) -> GivenUp | None:
        """Count what of a batch that met `fault` is in storage all the same, and decide about the rest of it."""
        if report.rows:
            self.answered(report)
        if fault.collateral:
            if rest is not None:
                self._again.append(rest if fault.blameless else replace(rest, alone=True))
            return None
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
            # A row that cannot be written cannot be written as failed either: it stays undone, and the next run's.
            self.unwritten += len(batch)
            self.why_unwritten = fault.message
            return None
        if batch.tries == 0:
            self._again.append(replace(batch, tries=1, alone=True))
        elif len(batch) > 1:
            self._again.extend(batch.halves(tries=batch.tries + 1, losses=0, alone=True))
        else:
            return GivenUp(batch, fault, attempts=batch.attempt)
        return None

    def write_again(self, batch: Batch) -> bool:
        """Whether rows that the store refused are to be put there once more."""
        self._unwritten_tries[batch.name] += 1
        return self._unwritten_tries[batch.name] < MAX_UNWRITTEN

    def failures_alike(self, kind: ErrorKind) -> int:
        """How many rows in a row failed with this kind."""
        last = self._last_failure
        return self._failures_alike if last is not None and last.error_kind == kind else 0

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
