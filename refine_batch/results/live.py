"""The newest row of an instance_id is the truth: reading only those."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refine_batch.dataset.hashing import HASH, hash_text
from refine_batch.io.storage import Storage, StorageError, StoredFile
from refine_batch.results.index import READERS, READERS_AFAR, IdSet, ScannedParts, ahead, scan
from refine_batch.results.parts import open_part, read_row_groups
from refine_batch.results.schema import HEAVY_COLUMNS, RESULT_SCHEMA

_RESTARTS = 10


def live_rows(
    storage: Storage,
    columns: Sequence[str] | None = None,
    *,
    filter: pc.Expression | None = None,
    ids: Iterable[str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Stream the newest row of every instance, each once, in no particular order.

    An output that is compacted meanwhile is no disturbance: what went away is found again where it went.

    Parameters
    ----------
    columns
        Read only these; leave out the heavy ones (`vertices`, `faces`) wherever possible.
    filter
        Over `columns`; applied after the newest rows were chosen.
    ids
        Only these instances: row groups that hold none of them are not read.
    """
    names = RESULT_SCHEMA.names if columns is None else list(columns)
    wanted = None if ids is None else IdSet(hash_text(pa.array(list(dict.fromkeys(ids)), pa.string())))
    done: list[np.ndarray] = []
    for _ in range(_RESTARTS):
        try:
            for read, table in _pass(storage, names, wanted, done):
                done.append(read)
                if filter is not None:
                    table = table.filter(filter)
                yield from (batch for batch in table.to_batches() if batch.num_rows)
            return
        except FileNotFoundError as error:
            last = error
    raise StorageError(f"parts of the output keep going away while they are read: {last.filename}")


@dataclass(frozen=True, eq=False)
class _Piece:
    """Some row groups of a part, and which of their rows are wanted."""

    part: StoredFile
    groups: list[int]
    mask: np.ndarray
    ids: np.ndarray


def _pass(
    storage: Storage, names: list[str], wanted: IdSet | None, done: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, pa.Table]]:
    scanned = scan(storage)
    chosen = scanned.newest
    if wanted is not None:
        chosen = chosen & (wanted.find(scanned.ids) >= 0)
    if done:
        chosen = chosen & (IdSet(np.concatenate(done)).find(scanned.ids) < 0)
    heavy = any(name in HEAVY_COLUMNS for name in names)

    def read(piece: _Piece) -> tuple[np.ndarray, pa.Table]:
        with open_part(storage, piece.part) as file:
            table = read_row_groups(file, piece.groups, names)
        return piece.ids, table if piece.mask.all() else table.filter(pa.array(piece.mask))

    # Meshes are read a row group at a time, and few ahead.
    workers = 2 if heavy else READERS if storage.local else READERS_AFAR
    yield from ahead(read, _pieces(scanned, chosen, heavy), workers)


def _pieces(scanned: ScannedParts, chosen: np.ndarray, singly: bool) -> Iterator[_Piece]:
    starts = scanned.bounds()
    for part, sizes, start in zip(scanned.parts, scanned.groups, starts[:-1], strict=True):
        bounds = start + np.concatenate([[0], np.cumsum(sizes)])
        groups = [g for g in range(len(sizes)) if chosen[bounds[g] : bounds[g + 1]].any()]
        for some in [[g] for g in groups] if singly else [groups] if groups else []:
            mask = np.concatenate([chosen[bounds[g] : bounds[g + 1]] for g in some])
            ids = np.concatenate([scanned.ids[bounds[g] : bounds[g + 1]] for g in some])
            yield _Piece(part, some, mask, np.ascontiguousarray(ids[mask], HASH))
