"""Which rows of an output are the newest: a scan of the parts' key columns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refine_batch.dataset.fingerprint import apart_from_files
from refine_batch.dataset.hashing import HASH, hash_high, hash_text
from refine_batch.io.storage import Storage, StorageError, StoredFile
from refine_batch.results.parts import list_parts, open_part, read_row_groups
from refine_batch.results.schema import STATUSES
from refine_batch.results.transient import MOST_RUNS

T = TypeVar("T")
R = TypeVar("R")

_KEY_COLUMNS = ("instance_id", "fingerprint", "content", "status", "refined_at", "transient_runs")
# In the place of a time, for a row without one: such a row is older than any other.
NO_TIME = int(np.iinfo(np.int64).min)
# Threads that read parts, which are small and many: from afar, or from a disk that is not cached, what takes time is to
# wait for each. More than these few are in each other's way where nothing has to be waited for.
READERS, READERS_AFAR = 4, 16
# A part that a compaction has replaced since the listing is not found; the next listing has its replacement.
_RESTARTS = 10


@dataclass(frozen=True, eq=False)
class ScannedParts:
    """Every row's key, in the order of the parts: 51 bytes a row.

    Attributes
    ----------
    groups
        Rows in each row group of each part.
    ids : (R,) HASH
    fingerprints : (R,) uint64
        Half of a hash: they are only ever compared within one instance.
    apart : (R,) uint64
        The same of the fingerprint's half that does not depend on what is in the row's files.
    contents : (R,) uint64
        The same of the hash of the files' bytes; 0 where there is none.
    at : (R,) int64
        `refined_at`, microseconds since the epoch.
    status : (R,) uint8
        Index into STATUSES.
    transient_runs : (R,) uint8
        Runs in a row that failed for a reason that may pass; 0 for all other rows.
    newest : (R,) bool
        Whether the row is the newest of its instance; of rows of the same time, that of the last part is.
    """

    parts: list[StoredFile]
    groups: list[np.ndarray]
    ids: np.ndarray
    fingerprints: np.ndarray
    apart: np.ndarray
    contents: np.ndarray
    at: np.ndarray
    status: np.ndarray
    transient_runs: np.ndarray
    newest: np.ndarray

    def bounds(self) -> np.ndarray:
        """(P + 1,) where the rows of each part begin, and the last ones end."""
        return np.concatenate([[0], np.cumsum([sizes.sum() for sizes in self.groups], dtype=np.int64)])


def ahead(work: Callable[[T], R], items: Iterable[T], workers: int = READERS_AFAR) -> Iterator[R]:
    """`map` in threads, in order, holding at most `workers` results that are not yet taken."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def restarting(attempt: Callable[[], R]) -> R:
    """`attempt`, again where a part went away under it."""
    for _ in range(_RESTARTS):
        try:
            return attempt()
        except FileNotFoundError as error:
            last = error
    raise StorageError(f"parts of the output keep going away while they are read: {last.filename}")


def scan(storage: Storage) -> ScannedParts:
    """Read the key columns of every part of an output; no more than those."""
    return restarting(lambda: _scan(storage, list_parts(storage)))


def _scan(storage: Storage, parts: list[StoredFile]) -> ScannedParts:
    workers = READERS if storage.local else READERS_AFAR
    groups: list[np.ndarray] = []
    columns: list[list[np.ndarray]] = [[] for _ in _DTYPES]
    for sizes, *arrays in ahead(lambda part: _keys(storage, part), parts, workers):
        groups.append(sizes)
        for column, array in zip(columns, arrays, strict=True):
            column.append(array)
    # One column after the other, so that only one is held twice.
    joined = []
    for column, dtype in zip(columns, _DTYPES, strict=True):
        joined.append(np.concatenate([np.empty(0, dtype), *column]))
        column.clear()
    ids, fingerprints, apart, contents, at, status, runs = joined
    return ScannedParts(parts, groups, ids, fingerprints, apart, contents, at, status, runs, _newest(ids, at))


_DTYPES: tuple[np.dtype[Any], ...] = (HASH, *map(np.dtype, ("u8", "u8", "u8", "i8", "u1", "u1")))


def _keys(storage: Storage, part: StoredFile) -> tuple[np.ndarray, ...]:
    """Sizes of the row groups, and of every row what ScannedParts holds."""
    with open_part(storage, part) as file:
        sizes = np.array([file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)], np.int64)
        table = read_row_groups(file, range(file.num_row_groups), _KEY_COLUMNS)
        if table["instance_id"].null_count:
            raise ValueError("there is a row without an instance_id")
    fingerprints = pc.fill_null(table["fingerprint"], "")
    return (
        sizes,
        hash_text(table["instance_id"]),
        hash_high(fingerprints),
        hash_high(apart_from_files(fingerprints)),
        hash_high(table["content"]),
        pc.fill_null(table["refined_at"].cast(pa.int64()), NO_TIME).to_numpy(),
        pc.fill_null(pc.index_in(table["status"], pa.array(STATUSES)), len(STATUSES)).to_numpy().astype(np.uint8),
        np.clip(pc.fill_null(table["transient_runs"], 0).to_numpy(), 0, MOST_RUNS).astype(np.uint8),
    )


def _newest(ids: np.ndarray, at: np.ndarray) -> np.ndarray:
    # Rows stand in the order of their parts, and the sort is stable.
    order = np.lexsort((at, ids["low"], ids["high"]))
    newest = np.zeros(len(ids), bool)
    ordered = ids[order]
    newest[order[:-1]] = ordered[1:] != ordered[:-1]
    newest[order[-1:]] = True
    return newest


class IdSet:
    """A sorted set of hashed ids. Looks up 64 bits first and the other 64 where those agree."""

    def __init__(self, ids: np.ndarray):
        self.order = np.lexsort((ids["low"], ids["high"]))
        self._high = ids["high"][self.order]
        self._low = ids["low"][self.order]

    def __len__(self) -> int:
        return len(self._high)

    def at(self, positions: np.ndarray) -> np.ndarray:
        """(N,) of HASH: the ids at these positions of the set's order."""
        found = np.empty(len(positions), HASH)
        found["high"], found["low"] = self._high[positions], self._low[positions]
        return found

    def find(self, ids: np.ndarray) -> np.ndarray:
        """(N,) position of each id in the set's order, -1 where it is not in it."""
        found = np.full(len(ids), -1, np.int64)
        if not len(self):
            return found
        at = np.searchsorted(self._high, ids["high"])
        left = np.arange(len(ids))
        while len(left):
            inside = at[left] < len(self)
            left = left[inside]
            left = left[self._high[at[left]] == ids["high"][left]]
            hit = self._low[at[left]] == ids["low"][left]
            found[left[hit]] = at[left[hit]]
            left = left[~hit]
            at[left] += 1
        return found
