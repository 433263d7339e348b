"""What an output already holds: the other half of the anti-join."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from refine_batch.dataset.fingerprint import apart_from_files, unseen
from refine_batch.dataset.hashing import hash_high, hash_text
from refine_batch.io.storage import Storage
from refine_batch.results.index import NO_TIME, IdSet, ScannedParts, scan
from refine_batch.results.schema import STATUSES
from refine_batch.results.touched import TOUCHED, recall, remember
from refine_batch.results.transient import wants_retry

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, eq=False)
class Known:
    """What an output holds of some rows of a manifest.

    Attributes
    ----------
    same : (N,) bool
        Whether the instance's newest row is of the same work; where the stamps of a row's files cannot be had, of what
        is the same as far as can be told.
    touched : (N,) bool
        Whether it is but for the stamps of its files, and their bytes would tell.
    failed : (N,) bool
        Whether the instance's newest row has the status `failed`.
    runs : (N,) uint8
        `transient_runs` of the instance's newest row, whatever it was made from.
    contents : (N,) uint64
        Hash of the bytes of the files that the newest row was made from; 0 where unknown.
    """

    same: np.ndarray
    touched: np.ndarray
    failed: np.ndarray
    runs: np.ndarray
    contents: np.ndarray

    @property
    def transient_runs(self) -> np.ndarray:
        """(N,) uint8: runs in a row in which the same work failed for a reason that may pass."""
        return np.where(self.same, self.runs, 0).astype(np.uint8)

    def missing(self, *, transient_attempts: int = 0, retry_failed: bool = False, force: bool = False) -> np.ndarray:
        """(N,) bool: True where the row has to be refined.

        A row that failed for a reason that may pass is work again until `transient_attempts` runs have tried it.
        """
        if force:
            return np.ones(len(self.same), bool)
        done = self.same & ~wants_retry(self.transient_runs, transient_attempts)
        return ~(done & ~self.failed if retry_failed else done)


class CommittedIndex:
    """Hashes of the newest rows' ids and fingerprints: about 57 bytes an instance.

    A row is done when the *newest* row of its instance has its fingerprint: where a manifest goes from A to B and back
    to A, the last change is work too.
    """

    def __init__(self, scanned: ScannedParts, touched: np.ndarray | None = None):
        # Where nothing is superseded, as after a compaction, nothing has to be copied.
        whole = bool(scanned.newest.all())
        self._ids = IdSet(scanned.ids if whole else scanned.ids[scanned.newest])
        order = self._ids.order if whole else np.flatnonzero(scanned.newest)[self._ids.order]
        self._ids.order = np.empty(0, np.int64)
        self._fingerprints = scanned.fingerprints[order]
        self._apart = scanned.apart[order]
        self._contents = scanned.contents[order]
        self._failed = scanned.status[order] == STATUSES.index("failed")
        self._runs = scanned.transient_runs[order]
        self._seen = np.zeros(len(order), bool)
        # Hashes of the fingerprints that rows have since their files were touched; empty where there are none.
        self._now = np.empty(0, np.uint64)
        if touched is not None:
            at = self._ids.find(touched[["high", "low"]])
            held = (at >= 0) & (self._fingerprints[at] == touched["result"]) if len(order) else np.zeros(len(at), bool)
            self._note(at[held], touched["now"][held])
        self._noted = False
        latest = int(scanned.at.max()) if len(scanned.at) else NO_TIME
        self._newest = None if latest == NO_TIME else _EPOCH + timedelta(microseconds=latest)

    @classmethod
    def load(cls, storage: Storage) -> CommittedIndex:
        """Read the key columns of an output's parts; empty where there is no output yet."""
        return cls(scan(storage), recall(storage))

    def __len__(self) -> int:
        """Instances with a row."""
        return len(self._ids)

    def look(self, ids: pa.Array | Sequence[str], fingerprints: pa.Array | Sequence[str]) -> Known:
        """What the output holds of these rows. Remembers the ids for `not_in_manifest`."""
        found = self._ids.find(hash_text(_text(ids)))
        rows = np.flatnonzero(found >= 0)
        at = found[rows]
        self._seen[at] = True
        marks = _text(fingerprints).take(pa.array(rows))
        same = self._fingerprints[at] == hash_high(marks)
        alike = self._apart[at] == hash_high(apart_from_files(marks))
        same |= alike & unseen(marks)
        if len(self._now):
            same |= self._now[at] == hash_high(marks)

        def spread(values: np.ndarray) -> np.ndarray:
            column = np.zeros(len(found), values.dtype)
            column[rows] = values
            return column

        return Known(
            same=spread(same),
            touched=spread(alike & ~same & (self._contents[at] != 0)),
            failed=spread(self._failed[at]),
            runs=spread(self._runs[at]),
            contents=spread(self._contents[at]),
        )

    def touched(self, ids: pa.Array | Sequence[str], fingerprints: pa.Array | Sequence[str]) -> None:
        """Note that rows with these fingerprints are of the same work as the newest ones here, as their bytes told."""
        found = self._ids.find(hash_text(_text(ids)))
        self._note(found[found >= 0], hash_high(_text(fingerprints))[found >= 0])

    def _note(self, at: np.ndarray, now: np.ndarray) -> None:
        if len(at):
            self._now = self._now if len(self._now) else np.zeros(len(self), np.uint64)
            self._now[at] = now
            self._noted = True

    def keep(self, storage: Storage) -> None:
        """Have later indices of this output know what `touched` was told. Raises StorageError."""
        if not self._noted:
            return
        noted = np.zeros(np.count_nonzero(self._now), TOUCHED)
        at = np.flatnonzero(self._now)
        ids = self._ids.at(at)
        noted["high"], noted["low"] = ids["high"], ids["low"]
        noted["result"], noted["now"] = self._fingerprints[at], self._now[at]
        remember(storage, noted)
        self._noted = False

    def not_in_manifest(self) -> int:
        """Instances of the output that no call of `look` has named."""
        return int(len(self._seen) - np.count_nonzero(self._seen))

    @property
    def newest(self) -> datetime | None:
        """The latest `refined_at` (UTC)."""
        return self._newest


def _text(values: pa.Array | Sequence[str]) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, pa.string())
