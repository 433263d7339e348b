"""Merging small parts and dropping superseded rows."""

from __future__ import annotations

from dataclasses import dataclass

from refine_batch.io.storage import Storage
from refine_batch.results.lock import OutputLock


@dataclass(frozen=True)
class Compaction:
    """What a compaction did."""

    parts_before: int
    parts_after: int
    rows: int
    rows_dropped: int
    bytes_before: int
    bytes_after: int


def compact(storage: Storage, *, target_bytes: int = 128 << 20, lock: OutputLock | None = None) -> Compaction:
    """Merge small parts into ones of about `target_bytes` and drop superseded rows.

    `lock` is the output's, where the caller holds it already; otherwise it is taken for the time.
    """
    raise NotImplementedError
