"""Rows that wait to be handed out: kept as columns, by the size of their meshes, the largest to the front."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import pyarrow as pa

# Rows of one class differ in size by less than this factor, so that a batch of them is padded by little.
CLASS = np.sqrt(2.0)
# Bytes of a mesh of which nothing is known.
USUAL = 100_000.0


class _Class:
    """Rows of like size, in the order they came."""

    def __init__(self) -> None:
        self.tables: deque[pa.RecordBatch] = deque()
        self.rows = 0
        self.offset = 0

    def take(self, count: int) -> list[pa.RecordBatch]:
        """The first `count` rows, which there have to be."""
        pieces = []
        self.rows -= count
        while count:
            table = self.tables[0]
            piece = table.slice(self.offset, count)
            pieces.append(piece)
            count -= piece.num_rows
            self.offset += piece.num_rows
            if self.offset == table.num_rows:
                self.tables.popleft()
                self.offset = 0
        return pieces


class Shelf:
    """Holds rows until they are taken.

    A row's weight is what it is expected to cost: one half of it is the same for all, the other goes with its size.
    """

    def __init__(self) -> None:
        self._classes: dict[int, _Class] = {}
        self._order: list[int] = []
        self.rows = 0
        self.weight = 0.0

    def add(self, rows: pa.RecordBatch, sizes: np.ndarray) -> None:
        """Put rows there; `sizes` in bytes, NaN where unknown."""
        if not rows.num_rows:
            return
        known = np.where(np.isfinite(sizes) & (sizes > 0), sizes, USUAL)
        classes = np.floor(np.log(known) / np.log(CLASS)).astype(np.int64)
        first = classes[0]
        if (classes == first).all():
            self._put(int(first), rows)
            return
        order = np.argsort(classes, kind="stable")
        bounds = np.flatnonzero(np.diff(classes[order])) + 1
        for chosen in np.split(order, bounds):
            self._put(int(classes[chosen[0]]), rows.take(pa.array(chosen)))

    def _put(self, size: int, rows: pa.RecordBatch) -> None:
        if size not in self._classes:
            self._classes[size] = _Class()
            self._order = sorted(self._classes, reverse=True)
        kept = self._classes[size]
        kept.tables.append(rows)
        kept.rows += rows.num_rows
        self.rows += rows.num_rows
        self.weight += rows.num_rows * weight_of(size)

    @property
    def each(self) -> float:
        """The weight of the next row."""
        return next((weight_of(size) for size in self._order if self._classes[size].rows), 1.0)

    def take(self, most: int, weight: float = np.inf) -> tuple[pa.RecordBatch, float] | None:
        """Up to `most` rows of about this weight together, at least one, and their weight; None where there are none.

        They come from the front; rows of the next size follow where there are too few of one.
        """
        pieces: list[pa.RecordBatch] = []
        taken, heavy = 0, 0.0
        for size in self._order:
            kept, each = self._classes[size], weight_of(size)
            room = min(most - taken, kept.rows)
            if np.isfinite(weight):
                room = min(room, max(0 if taken else 1, math.ceil((weight - heavy) / each - 1e-6)))
            if room <= 0:
                if taken and kept.rows:
                    break
                continue
            pieces += kept.take(room)
            taken, heavy = taken + room, heavy + room * each
            if taken == most:
                break
        if not pieces:
            return None
        self._order = [size for size in self._order if self._classes[size].rows]
        self._classes = {size: self._classes[size] for size in self._order}
        self.rows -= taken
        self.weight = self.weight - heavy if self.rows else 0.0
        rows = pieces[0] if len(pieces) == 1 else pa.Table.from_batches(pieces).combine_chunks().to_batches()[0]
        # A copy, lest a few rows hold all those they came with; in one buffer, which is made soonest.
        return pa.ipc.read_record_batch(rows.serialize(), rows.schema), heavy


def weight_of(size: int) -> float:
    """Of a row of this class."""
    return 0.5 + 0.5 * float(CLASS ** (size + 0.5)) / USUAL


def bytes_of(weight: float) -> float:
    """Of the mesh of a row of this weight."""
    return max(0.0, 2.0 * weight - 1.0) * USUAL
