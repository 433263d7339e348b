"""What an output already holds: the other half of the anti-join."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from refine_batch.dataset.hashing import hash_text
from refine_batch.io.storage import Storage
from refine_batch.results.index import NO_TIME, IdSet, scan
from refine_batch.results.schema import STATUSES
from refine_batch.results.transient import wants_retry

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CommittedIndex:
    """Hashes of the newest rows' ids and fingerprints: about 41 bytes an instance.

    A row is done when the *newest* row of its instance has its fingerprint: where a manifest goes from A to B and back
    to A, the last change is work too.
    """

    def __init__(
        self,
        ids: np.ndarray,
        fingerprints: np.ndarray,
        failed: np.ndarray,
        transient_runs: np.ndarray,
        newest: datetime | None,
    ):
        self._ids = IdSet(ids)
        self._fingerprints = fingerprints[self._ids.order]
        self._failed = failed[self._ids.order]
        self._runs = transient_runs[self._ids.order]
        self._ids.order = np.empty(0, np.int64)
        self._seen = np.zeros(len(self._ids), bool)
        self._newest = newest

    @classmethod
    def load(cls, storage: Storage) -> CommittedIndex:
        """Read the key columns of an output's parts; empty where there is no output yet."""
        scanned = scan(storage)
        newest = scanned.newest
        # Where nothing is superseded, as after a compaction, nothing has to be copied.
        columns = (scanned.ids, scanned.fingerprints, scanned.status, scanned.transient_runs)
        ids, fingerprints, status, runs = (a if newest.all() else a[newest] for a in columns)
        latest = int(scanned.at.max()) if len(scanned.at) else NO_TIME
        time = None if latest == NO_TIME else _EPOCH + timedelta(microseconds=latest)
        del scanned, newest, columns
        return cls(ids, fingerprints, status == STATUSES.index("failed"), runs, time)

    def __len__(self) -> int:
        """Instances with a row."""
        return len(self._ids)

    def missing(
        self,
        ids: pa.Array | Sequence[str],
        fingerprints: pa.Array | Sequence[str],
        *,
        transient_attempts: int = 0,
        retry_failed: bool = False,
        force: bool = False,
    ) -> np.ndarray:
        """(N,) bool: True where the row has to be refined. Remembers the ids for `not_in_manifest`.

        A row that failed for a reason that may pass is work again until `transient_attempts` runs have tried it.
        """
        at = self._ids.find(hash_text(_text(ids)))
        known = np.flatnonzero(at >= 0)
        self._seen[at[known]] = True
        missing = np.ones(len(at), bool)
        if not force:
            same = self._fingerprints[at[known]] == hash_text(_text(fingerprints))["high"][known]
            same &= ~wants_retry(self._runs[at[known]], transient_attempts)
            if retry_failed:
                same &= ~self._failed[at[known]]
            missing[known] = ~same
        return missing

    def failed(self, ids: pa.Array | Sequence[str]) -> np.ndarray:
        """(N,) bool: True where the newest row of the id has the status `failed`."""
        at = self._ids.find(hash_text(_text(ids)))
        known = at >= 0
        failed = np.zeros(len(at), bool)
        failed[known] = self._failed[at[known]]
        return failed

    def transient_runs(self, ids: pa.Array | Sequence[str], fingerprints: pa.Array | Sequence[str]) -> np.ndarray:
        """(N,) uint8: runs in a row in which the same work failed for a reason that may pass."""
        at = self._ids.find(hash_text(_text(ids)))
        known = np.flatnonzero(at >= 0)
        runs = np.zeros(len(at), np.uint8)
        same = self._fingerprints[at[known]] == hash_text(_text(fingerprints))["high"][known]
        runs[known] = np.where(same, self._runs[at[known]], 0)
        return runs

    def not_in_manifest(self) -> int:
        """Instances of the output that no call of `missing` has named."""
        return int(len(self._seen) - np.count_nonzero(self._seen))

    @property
    def newest(self) -> datetime | None:
        """The latest `refined_at` (UTC)."""
        return self._newest


def _text(values: pa.Array | Sequence[str]) -> pa.Array | pa.ChunkedArray:
    return values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values, pa.string())
