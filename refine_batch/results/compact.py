"""Merging small parts and dropping superseded rows.

What a reader sees while parts are compacted, and when a compaction is killed at any point:

- This package's readers (`live_rows`, `CommittedIndex`, `summarise`): always every instance once, with its newest row.
  They take the newest row of each instance, of equal rows one, and look again where a part went away under them.
- Whoever reads `results/*.parquet` plainly, on a local Linux file system: the parts of before or those of after, in one
  step. The new parts, and hard links to those that stay, are laid into a folder beside, which then changes places with
  `results` (`local.exchange`).
- Whoever reads plainly from an object store, or a file system that cannot swap folders: never less than every row. A
  store has no step that removes one object and adds another, so a row that moves between objects must for a moment be
  in both or in neither; here it is in both, and the two rows are identical, `refined_at` included. The moment lasts one
  request, from the put of a merged part to the deletion of its sources, or, if the compaction is killed in it, until
  the next one, which finishes it first. A query that takes the newest row of each instance, as one has to anyway before
  superseded rows are dropped, sees each once at all times:
  `SELECT * FROM read_parquet('results/*.parquet') QUALIFY row_number() OVER (PARTITION BY instance_id ORDER BY
  refined_at DESC) = 1`.
- A plain reader that listed the folder before, and opens a part that has been replaced since, is told that there is no
  such file: an error, never a wrong answer.

There is no journal besides: a merged part names in its own metadata what it replaces, so its put is the commit.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from refine_batch.errors import RefineBatchError, UsageError
from refine_batch.io import local
from refine_batch.io.storage import Storage, StoredFile, failure
from refine_batch.results.index import READERS, READERS_AFAR, ScannedParts, ahead, scan
from refine_batch.results.lock import OutputLock
from refine_batch.results.parts import (
    RESULTS,
    ROW_GROUP_BYTES,
    add_rows,
    compacted_name,
    generation,
    list_parts,
    open_part,
    part_writer,
    read_row_groups,
)
from refine_batch.results.run_record import new_run_id

_REPLACES = "refine_batch.replaces"
_BESIDE = ".results-next"
_REPLACED = ".replaced.json"


class CompactionStoppedError(RefineBatchError):
    """It was asked to stop, and has left nothing half done."""


@dataclass(frozen=True)
class Compaction:
    """What a compaction did."""

    parts_before: int
    parts_after: int
    rows: int
    rows_dropped: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, eq=False)
class _Source:
    """A part to be rewritten and which of its rows are live."""

    part: StoredFile
    groups: np.ndarray
    live: np.ndarray

    @property
    def live_bytes(self) -> float:
        return self.part.size * float(self.live.mean()) if len(self.live) else 0.0


def compact(
    storage: Storage,
    *,
    target_bytes: int = 128 << 20,
    lock: OutputLock | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Compaction:
    """Merge small parts into ones of about `target_bytes` and drop superseded rows.

    Parts of at least half that size without superseded rows stay as they are, so a second compaction changes nothing.
    Holds about `target_bytes` and one row group in memory.

    Parameters
    ----------
    lock
        The output's, where the caller holds it already; otherwise it is taken for the time.
    stop
        Asked again and again whether to end before the work is done.

    Raises
    ------
    CompactionStoppedError
        `stop` said so.
    OutputLockedError
        A run is writing to the output.
    UsageError
        There is no output.
    """
    if target_bytes < 1:
        raise UsageError(f"target_bytes is {target_bytes}; it must be above 0")
    if not list_parts(storage):
        raise UsageError(f"{storage} holds no results")
    if lock is None:
        with OutputLock(storage, new_run_id(), purpose="compact") as own:
            return compact(storage, target_bytes=target_bytes, lock=own, stop=stop)

    def check() -> None:
        lock.check()
        if stop():
            raise CompactionStoppedError("the compaction was stopped; the next one does the rest")

    return _compact(storage, target_bytes, check)


def _compact(storage: Storage, target_bytes: int, check: Callable[[], None]) -> Compaction:
    """`check` raises where the work is not to go on."""
    finish(storage)
    scanned = scan(storage)
    groups = _plan(scanned, target_bytes)
    if groups and not (storage.local and _swap(storage, scanned, groups, check)):
        for group in groups:
            merged = _merged(storage, group, check)
            if merged is not None:
                storage.write(f"{RESULTS}/{merged[0]}", merged[1])
            storage.delete(*(source.part.path for source in group))
    after = list_parts(storage)
    live = int(scanned.newest.sum())
    return Compaction(
        parts_before=len(scanned.parts),
        parts_after=len(after),
        rows=live,
        rows_dropped=len(scanned.newest) - live,
        bytes_before=sum(part.size for part in scanned.parts),
        bytes_after=sum(part.size for part in after),
    )


def finish(storage: Storage) -> int:
    """Remove what a compaction that was killed had replaced but not yet removed; how many parts. Needs the lock."""
    if storage.local:
        try:
            _clear(storage)
        except OSError as error:
            raise failure("write", storage.path_of(RESULTS), error) from error
    parts = {part.path: part for part in list_parts(storage)}
    merged = [part for part in parts.values() if generation(part.path)]
    left: list[str] = []
    if len(merged) < len(parts) or len({generation(part.path) for part in merged}) > 1:
        for replaced in ahead(lambda part: _replaced_by(storage, part), merged):
            # A part of that name written since is another one.
            left += [
                path for path, identity in replaced.items() if path in parts and _identity(parts[path]) == identity
            ]
    if left:
        storage.delete(*left)
    return len(left)


def _plan(scanned: ScannedParts, target_bytes: int) -> list[list[_Source]]:
    """Which parts become one, in the order of their names."""
    bounds = scanned.bounds()
    sources = [
        _Source(part, sizes, scanned.newest[start:end])
        for part, sizes, (start, end) in zip(scanned.parts, scanned.groups, pairwise(bounds), strict=True)
    ]
    groups: list[list[_Source]] = [[]]
    filled = 0.0
    for source in sources:
        if source.live.all() and len(source.live) and source.part.size >= target_bytes / 2:
            continue
        if groups[-1] and filled + source.live_bytes > target_bytes:
            groups.append([])
            filled = 0.0
        groups[-1].append(source)
        filled += source.live_bytes
    # A single part is only rewritten to drop rows from it.
    return [g for g in groups if len(g) > 1 or any(not s.live.any() or not s.live.all() for s in g)]


def _merged(storage: Storage, group: list[_Source], check: Callable[[], None]) -> tuple[str, bytes] | None:
    """Name and bytes of the part that replaces a group; None where no row of it is live."""
    check()
    if not any(source.live.any() for source in group):
        return None
    replaces = {source.part.path: _identity(source.part) for source in group}
    sink = io.BytesIO()
    # Rows are gathered to whole row groups: those of the sources may be a few rows each.
    waiting: list[pa.Table] = []
    held = 0
    with part_writer(sink, {_REPLACES: json.dumps(replaces)}) as writer:
        for table in _live_tables(storage, group):
            check()
            waiting.append(table)
            held += table.nbytes
            if held >= ROW_GROUP_BYTES:
                add_rows(writer, pa.concat_tables(waiting))
                waiting, held = [], 0
        if waiting:
            add_rows(writer, pa.concat_tables(waiting))
    return compacted_name([source.part.path for source in group]), sink.getvalue()


def _live_tables(storage: Storage, group: list[_Source]) -> Iterator[pa.Table]:
    """The live rows of the sources, read ahead as far as memory allows."""

    def read(item: tuple[_Source, int, np.ndarray]) -> pa.Table:
        source, number, live = item
        with open_part(storage, source.part) as file:
            table = read_row_groups(file, [number])
        return table if live.all() else table.filter(pa.array(live))

    def items() -> Iterator[tuple[_Source, int, np.ndarray]]:
        for source in group:
            starts = np.concatenate([[0], np.cumsum(source.groups)])
            for number, (start, end) in enumerate(pairwise(starts)):
                if source.live[start:end].any():
                    yield source, number, source.live[start:end]

    largest = max(source.part.size for source in group)
    most = READERS if storage.local else READERS_AFAR
    yield from ahead(read, items(), workers=max(1, min(most, ROW_GROUP_BYTES // largest)))


def _replaced_by(storage: Storage, part: StoredFile) -> dict[str, list]:
    with open_part(storage, part) as file:
        value = (file.metadata.metadata or {}).get(_REPLACES.encode(), b"{}")
    return json.loads(value)


def _identity(part: StoredFile) -> list:
    return [part.size, part.etag, None if part.etag or part.modified is None else part.modified.timestamp()]


# Local folders: the new state is laid beside the old one, and the two change places.


def _swap(storage: Storage, scanned: ScannedParts, groups: list[list[_Source]], check: Callable[[], None]) -> bool:
    """Compact all groups in one step; False, with nothing changed, where the file system cannot."""
    results, beside = Path(storage.path_of(RESULTS)), Path(storage.path_of(_BESIDE))
    replaced = {source.part.path: _identity(source.part) for group in groups for source in group}
    try:
        if not _can_swap(storage):
            return False
        beside.mkdir()
        for part in scanned.parts:
            if part.path not in replaced:
                os.link(storage.path_of(part.path), beside / Path(part.path).name)
        for group in groups:
            merged = _merged(storage, group, check)
            if merged is not None:
                local.write(str(beside / merged[0]), merged[1])
        # Laid with the rest, it is there exactly when the folders have changed places.
        local.write(str(beside / _REPLACED), json.dumps(replaced).encode())
        if not local.exchange(str(results), str(beside)):
            raise OSError(errno.ENOTSUP, "the file system no longer swaps folders", str(results))
        _clear(storage)
    except OSError as error:
        raise failure("write", storage.path_of(RESULTS), error) from error
    except CompactionStoppedError:
        shutil.rmtree(beside)
        raise
    return True


def _can_swap(storage: Storage) -> bool:
    """Whether the file system swaps folders and links files."""
    one, other = Path(storage.path_of(f"{_BESIDE}-1")), Path(storage.path_of(f"{_BESIDE}-2"))
    try:
        one.mkdir(exist_ok=True)
        other.mkdir(exist_ok=True)
        (one / "a").touch()
        os.link(one / "a", other / "a")
        return local.exchange(str(one), str(other))
    except OSError:
        return False
    finally:
        shutil.rmtree(one, ignore_errors=True)
        shutil.rmtree(other, ignore_errors=True)


def _clear(storage: Storage) -> None:
    """Remove the folder beside: one that was never finished, or that of the parts from before the swap.

    A part in it that the compaction knew nothing of was written meanwhile, against the lock, by an actor that outlived
    its run: it moves to where it belongs.
    """
    results, beside = Path(storage.path_of(RESULTS)), Path(storage.path_of(_BESIDE))
    if beside.is_dir():
        replaced = json.loads((results / _REPLACED).read_bytes()) if (results / _REPLACED).exists() else {}
        for old in Storage(str(beside)).list():
            path, here = f"{RESULTS}/{old.path}", beside / old.path
            known = generation(old.path) > 0 or replaced.get(path) == _identity(old)
            kept = results / old.path
            if not known and not (kept.exists() and kept.stat().st_mtime_ns >= here.stat().st_mtime_ns):
                os.replace(here, kept)
        shutil.rmtree(beside)
    if (results / _REPLACED).exists():
        (results / _REPLACED).unlink()
