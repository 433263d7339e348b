"""What there is to do: the manifest's rows that the output does not hold yet, found while the run is already going."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from refine_batch.dataset.manifest import Manifest
from refine_batch.dataset.row import ManifestRow
from refine_batch.dataset.stamps import InputStamper
from refine_batch.io.storage import StorageError
from refine_batch.job.batch import Batch, Task
from refine_batch.results.committed import CommittedIndex
from refine_batch.results.increment import Increment

# Rows held ready, as Arrow tables of about 300 bytes a row; beyond that the reader waits for the actors.
READY_ROWS = 500_000


class Plan:
    """Streams the manifest in a thread and keeps the rows that are still to be done.

    Parameters
    ----------
    limit
        Look at the manifest's first rows only.
    """

    def __init__(
        self,
        manifest: Manifest,
        index: CommittedIndex,
        config_hash: str,
        *,
        limit: int | None = None,
        retry_failed: bool = False,
        transient_attempts: int = 0,
        force: bool = False,
        s3_endpoint: str | None = None,
    ):
        self._manifest, self._limit = manifest, limit
        self._increment = Increment(
            index,
            config_hash,
            InputStamper(s3_endpoint),
            transient_attempts=transient_attempts,
            retry_failed=retry_failed,
            force=force,
        )
        self._ready: deque[tuple[pa.RecordBatch, pa.Array, np.ndarray]] = deque()
        self._offset = 0
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._cancelled = False
        self.ended = False
        self.seen = 0
        self.skipped = 0
        self.skipped_failed = 0
        self.ready = 0
        self._thread = threading.Thread(target=self._run, name="plan", daemon=True)

    def start(self) -> Plan:
        self._thread.start()
        return self

    def cancel(self) -> None:
        """Let the thread end at its next batch."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def wait(self, until: Callable[[], bool] = lambda: False, poll: float = 0.2) -> bool:
        """Wait until there is work or none will come, or `until()` says to give up; whether there is work."""
        with self._changed:
            while not (self.ready or self.ended or until()):
                self._changed.wait(poll)
        self.check()
        return self.ready > 0

    def check(self) -> None:
        """Raise what ended the reading before its time."""
        if self._error is not None:
            raise self._error

    @property
    def exhausted(self) -> bool:
        """Whether every row has been handed out."""
        return self.ended and self.ready == 0

    def take(self, size: int) -> Batch | None:
        """The next `size` rows, fewer at the end; None where none are ready at the moment."""
        with self._changed:
            # No more than READY_ROWS are ever waited for: with them ready, the reader waits itself.
            if self.ready < min(size, READY_ROWS) and not self.ended:
                return None
            tasks: list[Task] = []
            while self._ready and len(tasks) < size:
                rows, marks, runs = self._ready[0]
                stop = min(self._offset + size - len(tasks), rows.num_rows)
                tasks += [
                    Task(ManifestRow.from_batch(rows, i), marks[i].as_py(), int(runs[i]))
                    for i in range(self._offset, stop)
                ]
                self._offset = stop
                if stop == rows.num_rows:
                    self._ready.popleft()
                    self._offset = 0
            self.ready -= len(tasks)
            self._changed.notify_all()
        return Batch(tuple(tasks)) if tasks else None

    def _run(self) -> None:
        try:
            for rows in self._manifest.batches():
                if self._limit is not None:
                    rows = rows.slice(0, self._limit - self.seen)
                if rows.num_rows == 0 or not self._add(rows):
                    break
        except FileNotFoundError as error:
            self._error = StorageError(f"the manifest {self._manifest} went away while it was read: {error.strerror}")
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def _add(self, rows: pa.RecordBatch) -> bool:
        """Keep what is to be done of these rows; False once the run no longer wants any."""
        work = self._increment.of(rows)
        marks, todo, mask = work.fingerprints, int(np.count_nonzero(work.missing)), pa.array(work.missing)
        with self._changed:
            while self.ready >= READY_ROWS and not self._cancelled:
                self._changed.wait()
            self.seen += rows.num_rows
            self.skipped += rows.num_rows - todo
            self.skipped_failed += int(np.count_nonzero(work.failed))
            if todo:
                self._ready.append((rows.filter(mask), marks.filter(mask), work.transient_runs[work.missing]))
                self.ready += todo
            self._changed.notify_all()
            return not self._cancelled
