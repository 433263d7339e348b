"""What there is to do: the manifest's rows that the output does not hold yet, found while the run is already going."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refine_batch.dataset.columns import MANIFEST_SCHEMA
from refine_batch.dataset.manifest import Manifest
from refine_batch.dataset.stamps import InputStamper
from refine_batch.io.storage import StorageError
from refine_batch.job.batch import WORK_SCHEMA, Batch
from refine_batch.job.shelf import Shelf
from refine_batch.results.committed import CommittedIndex
from refine_batch.results.increment import Increment

# Rows held ready, as Arrow tables of about 300 bytes a row; beyond that the reader waits for the actors.
READY_ROWS = 500_000


class Plan:
    """Streams the manifest in a thread and keeps the rows that are still to be done.

    Parameters
    ----------
    rows
        Of the manifest, as far as the run goes, for an estimate of what will come.
    limit
        Look at the manifest's first rows only.
    """

    def __init__(
        self,
        manifest: Manifest,
        index: CommittedIndex,
        config_hash: str,
        *,
        rows: int = 0,
        limit: int | None = None,
        retry_failed: bool = False,
        transient_attempts: int = 0,
        force: bool = False,
        s3_endpoint: str | None = None,
    ):
        self._manifest, self._rows, self._limit = manifest, rows, limit
        self._stamper = _Noting(s3_endpoint)
        self._increment = Increment(
            index,
            config_hash,
            self._stamper,
            transient_attempts=transient_attempts,
            retry_failed=retry_failed,
            force=force,
        )
        self._shelf = Shelf()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._cancelled = False
        self.ended = False
        self.seen = 0
        self.skipped = 0
        self.skipped_failed = 0
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

    @property
    def ready(self) -> int:
        """Rows that wait to be handed out."""
        return self._shelf.rows

    @property
    def left(self) -> float:
        """The weight of the rows that are ready and, if as many of the others are to do, of those not read yet."""
        if self.ended:
            return self._shelf.weight
        found = self.seen - self.skipped
        each = self._shelf.weight / self._shelf.rows if self._shelf.rows else 1.0
        unread = max(0, self._rows - self.seen)
        return self._shelf.weight + each * unread * (found + 1) / (self.seen + 1)

    @property
    def each(self) -> float:
        """The weight of the next row."""
        return self._shelf.each

    def take(self, most: int, weight: float = np.inf) -> Batch | None:
        """The next rows, up to `most` and of about this weight; None where too few are ready at the moment."""
        with self._changed:
            # No more than READY_ROWS are ever waited for: with them ready, the reader waits itself.
            enough = self._shelf.rows >= min(most, READY_ROWS) or self._shelf.weight >= weight
            if not (enough or self.ended):
                return None
            taken = self._shelf.take(most, weight)
            self._changed.notify_all()
        return None if taken is None else Batch(taken[0], weight=taken[1])

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
        self._stamper.forget()
        work = self._increment.of(rows)
        todo = int(np.count_nonzero(work.missing))
        if todo:
            columns = [rows.column(name) for name in MANIFEST_SCHEMA.names]
            runs = pa.array(work.transient_runs.astype(np.int32))
            missing = pa.RecordBatch.from_arrays([*columns, work.fingerprints, runs], schema=WORK_SCHEMA)
            missing = missing.filter(pa.array(work.missing))
            # What will fail unless its store comes back is left for the end.
            sizes = np.where(work.unseen, 1.0, self._stamper.sizes(rows.num_rows))[work.missing]
        with self._changed:
            while self.ready >= READY_ROWS and not self._cancelled:
                self._changed.wait()
            self.seen += rows.num_rows
            self.skipped += rows.num_rows - todo
            self.skipped_failed += int(np.count_nonzero(work.failed))
            if todo:
                self._shelf.add(missing, sizes)
            self._changed.notify_all()
            return not self._cancelled


class _Noting(InputStamper):
    """Keeps the stamps of the meshes, which are the first files that a fingerprint asks for: they tell sizes."""

    _meshes: pa.Array | None = None

    def forget(self) -> None:
        self._meshes = None

    def stamps(self, uris: pa.Array) -> pa.Array:
        found = super().stamps(uris)
        if self._meshes is None:
            self._meshes = found
        return found

    def sizes(self, count: int) -> np.ndarray:
        """Bytes of each mesh, NaN where its stamp does not say."""
        if self._meshes is None:
            return np.full(count, np.nan)
        text = pc.struct_field(pc.extract_regex(self._meshes, r"size:(?P<size>\d+)"), "size")
        return text.cast(pa.float64()).to_numpy(zero_copy_only=False)
