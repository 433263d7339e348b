"""Whether a run still waits for an actor's work: one that was cut off may come back when others have done all of it."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from refine_batch.io.storage import StorageError
from refine_batch.job.assignment import Assignment
from refine_batch.results.lock import held_by

# Seconds that a batch may have waited for its turn without a question whether anybody still waits for it.
LONG = 30.0
# Seconds within which an answer counts: the device waits for it.
SOON = 5.0


def be_awaited(assignment: Assignment) -> None:
    """Raise StorageError where the run is over: rows that failed would be the newest, and stand for those that others
    have stored."""
    reason = _over(assignment)
    if reason is not None:
        raise StorageError(f"rows that failed are not written to {assignment.output}: {reason}")


def be_awaited_after(came: float, assignment: Assignment) -> None:
    """Raise StorageError where the run is over and the batch came (by `time.monotonic`) long ago: nobody needs it done.

    A storage that does not answer, or not soon, is no reason to wait.
    """
    if time.monotonic() - came < LONG:
        return
    told: list[str | None] = []

    def ask() -> None:
        with suppress(StorageError):
            told.append(_over(assignment))

    asking = threading.Thread(target=ask, name="is-the-run-over", daemon=True)
    asking.start()
    asking.join(SOON)
    if told and told[0] is not None:
        raise StorageError(f"a batch is not begun: of {assignment.output} {told[0]}")


def _over(assignment: Assignment) -> str | None:
    """Why the run is over, as its lock says; None where it goes on."""
    holder = held_by(assignment.output)
    if holder == assignment.run_id:
        return None
    return f"this run's lock is {f'held by {holder}' if holder else 'gone'}"
