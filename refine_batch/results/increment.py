"""Which rows of a manifest are work: the anti-join of a batch of them with what an output holds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from refine_batch.dataset.content import contents
from refine_batch.dataset.fingerprint import fingerprints, unseen
from refine_batch.dataset.stamps import InputStamper
from refine_batch.results.committed import CommittedIndex


@dataclass(frozen=True, eq=False)
class Work:
    """What is to be done of some rows.

    Attributes
    ----------
    fingerprints : (N,) string
    missing : (N,) bool
        Whether the row has to be refined.
    transient_runs : (N,) uint8
        Runs in a row, before this one, in which the same work failed for a reason that may pass.
    failed : (N,) bool
        Whether the row stays as it is, which is failed.
    unseen : (N,) bool
        Whether the row has to be refined and the store of one of its files does not answer, so that it is not known
        whether it really has to, and it will fail unless the store comes back.
    """

    fingerprints: pa.StringArray
    missing: np.ndarray
    transient_runs: np.ndarray
    failed: np.ndarray
    unseen: np.ndarray


@dataclass(frozen=True)
class Increment:
    """Tells work from what is done.

    Parameters
    ----------
    config_hash
        Of all that a result depends on besides its row and files.
    transient_attempts
        Runs that try a row whose failure may pass.
    retry_failed, force
        As the options of a run.
    """

    index: CommittedIndex
    config_hash: str
    stamper: InputStamper
    transient_attempts: int = 0
    retry_failed: bool = False
    force: bool = False

    def of(self, rows: pa.RecordBatch) -> Work:
        """What is to be done of a batch of `Manifest.batches()`."""
        marks = fingerprints(rows, self.config_hash, self.stamper)
        known = self.index.look(rows.column("instance_id"), marks)
        touched = np.flatnonzero(known.touched)
        if len(touched) and not self.force:
            unchanged = touched[contents(rows.take(pa.array(touched))) == known.contents[touched]]
            same = known.same.copy()
            same[unchanged] = True
            known = replace(known, same=same)
            chosen = pa.array(unchanged)
            self.index.touched(rows.column("instance_id").take(chosen), marks.take(chosen))
        missing = known.missing(
            transient_attempts=self.transient_attempts, retry_failed=self.retry_failed, force=self.force
        )
        return Work(marks, missing, known.transient_runs, known.failed & ~missing, unseen(marks) & missing)
