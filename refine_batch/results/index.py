"""Which rows of an output are the newest: a scan of the parts' key columns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refine_batch.dataset.hashing import HASH, hash_text
from refine_batch.io.storage import Storage, StorageError, StoredFile
from refine_batch.results.parts import list_parts, open_part, read_row_groups
from refine_batch.results.schema import STATUSES

T = TypeVar("T")
R = TypeVar("R")

_KEY_COLUMNS = ("instance_id", "fingerprint", "status", "refined_at")
# One scanned row, 41 bytes. `fingerprint` is 64 bits of a hash: it is only ever compared within one instance.
_ROW = np.dtype(
    [("id", HASH), ("fingerprint", "<u8"), ("at", "<i8"), ("part", "<i4"), ("row", "<i4"), ("status", "u1")]
)
_AHEAD = 16
# A part that a compaction has replaced since the listing is not found; the next listing has its replacement.
_RESTARTS = 10


@dataclass(frozen=True, eq=False)
class ScannedParts:
    """Every row's key, in the order of the parts, and how the parts are cut into row groups.

    `newest[i]` is True where row i is the newest of its instance; of rows of the same time, that of the last part is.
    """

    parts: list[StoredFile]
    groups: list[np.ndarray]
    rows: np.ndarray
    newest: np.ndarray


def ahead(work: Callable[[T], R], items: Iterable[T], workers: int = _AHEAD) -> Iterator[R]:
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
    chunks, groups = [], []
    # On a local disk threads only add to the work, which is Python's.
    workers = 4 if storage.local else _AHEAD
    for number, (rows, sizes) in enumerate(ahead(lambda part: _keys(storage, part), parts, workers)):
        rows["part"] = number
        chunks.append(rows)
        groups.append(sizes)
    rows = np.concatenate(chunks) if chunks else np.empty(0, _ROW)
    chunks.clear()
    return ScannedParts(parts, groups, rows, _newest(rows))


def _keys(storage: Storage, part: StoredFile) -> tuple[np.ndarray, np.ndarray]:
    with open_part(storage, part) as file:
        sizes = np.array([file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)], np.int64)
        table = read_row_groups(file, range(file.num_row_groups), _KEY_COLUMNS)
    rows = np.zeros(table.num_rows, _ROW)
    rows["id"] = hash_text(table["instance_id"])
    rows["fingerprint"] = hash_text(pc.fill_null(table["fingerprint"], ""))["high"]
    rows["at"] = pc.fill_null(table["refined_at"].cast(pa.int64()), np.iinfo(np.int64).min).to_numpy()
    rows["row"] = np.arange(table.num_rows)
    status = pc.index_in(table["status"], pa.array(STATUSES))
    rows["status"] = pc.fill_null(status, len(STATUSES)).to_numpy()
    return rows, sizes


def _newest(rows: np.ndarray) -> np.ndarray:
    # Rows stand in the order of their parts, and the sort is stable.
    order = np.lexsort((rows["at"], rows["id"]["low"], rows["id"]["high"]))
    high, low = rows["id"]["high"][order], rows["id"]["low"][order]
    last = np.ones(len(rows), bool)
    last[:-1] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    newest = np.zeros(len(rows), bool)
    newest[order[last]] = True
    return newest


class IdSet:
    """A sorted set of hashed ids. Looks up 64 bits first and the other 64 where those agree."""

    def __init__(self, ids: np.ndarray):
        self.order = np.lexsort((ids["low"], ids["high"]))
        self._high = ids["high"][self.order]
        self._low = ids["low"][self.order]

    def __len__(self) -> int:
        return len(self._high)

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
