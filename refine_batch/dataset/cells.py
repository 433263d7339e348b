"""Files that a Parquet file holds as bytes in columns of its own: `mesh_bytes` in place of `mesh_uri`, and so on.

The bytes stay where they are: a row names its cell (`parquet://`, see `io.inside`); it is read when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from refine_batch.io.inside import cell_uri

_OF_BYTES = "_bytes"


@dataclass(frozen=True)
class BytesColumn:
    """Where bytes are: the column's name, the leaf that holds them, and that of their path, if there is one."""

    name: str
    bytes: str
    path: str


def bytes_column(schema: pa.Schema, *names: str) -> BytesColumn | None:
    """The first column of these names that holds bytes, or structs of `bytes` (and `path`), as the feature Image is."""
    for name in names:
        if name in schema.names:
            dtype = schema.field(name).type
            if _is_bytes(dtype):
                return BytesColumn(name, name, "")
            inside = pa.types.is_struct(dtype) and dtype.get_field_index("bytes") >= 0
            if inside and _is_bytes(dtype.field("bytes").type):
                return BytesColumn(name, f"{name}.bytes", f"{name}.path" if dtype.get_field_index("path") >= 0 else "")
    return None


def bytes_of_uris(schema: pa.Schema, uris: Sequence[str]) -> dict[str, BytesColumn]:
    """By each of the columns `…_uri` the column `…_bytes` that may stand in its place."""
    found = ((uri, bytes_column(schema, uri.removesuffix("_uri") + _OF_BYTES)) for uri in uris)
    return {uri: column for uri, column in found if column is not None}


def filled(parquet: pq.ParquetFile, group: int, leaf: str) -> list[bool] | None:
    """Whether each cell of a column holds bytes; None where all do. Read only where the footer does not tell."""
    chunks = parquet.metadata.row_group(group)
    [chunk] = [c for i in range(chunks.num_columns) if (c := chunks.column(i)).path_in_schema == leaf]
    statistics = chunk.statistics
    nulls = statistics.null_count if statistics is not None and statistics.has_null_count else None
    if nulls in (0, chunks.num_rows):
        return None if nulls == 0 else [False] * chunks.num_rows
    name, _, inner = leaf.partition(".")
    column = parquet.read_row_group(group, columns=[leaf]).column(name).combine_chunks()
    return pc.is_valid(pc.struct_field(column, inner) if inner else column).to_pylist()


class Cells:
    """URIs of the cells of one file, row by row; of the columns that `bytes_of_uris` found."""

    def __init__(self, parquet: pq.ParquetFile, uri: str, columns: dict[str, BytesColumn]):
        self._parquet, self._uri, self._columns = parquet, uri, columns
        counts = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
        self._starts = np.cumsum([0, *counts])
        self._filled: dict[tuple[int, str], list[bool] | None] = {}

    @property
    def paths(self) -> list[str]:
        """Columns to be read beside the others: the names of the files that the bytes were."""
        return [column.path for column in self._columns.values() if column.path]

    def put_in(self, batch: pa.RecordBatch, first_row: int) -> pa.RecordBatch:
        """The batch, whose first row has this number in the file (from 0), with a URI of bytes where it has none."""
        if not self._columns:
            return batch
        arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
        for uri, column in self._columns.items():
            given = arrays.get(uri)
            texts = [None] * batch.num_rows if given is None else given.to_pylist()
            names = arrays.pop(column.name).to_pylist() if column.path else None
            places = self._places(column.bytes, first_row, batch.num_rows)
            for row, place in enumerate(places):
                empty = texts[row] is None or not str(texts[row]).strip()
                if empty and place is not None:
                    path = (names[row] or {}).get("path") if names is not None else None
                    texts[row] = cell_uri(*place, self._uri, column.bytes, path or "")
            arrays[uri] = pa.array(texts, pa.string())
        return pa.RecordBatch.from_pydict(arrays)

    def _places(self, leaf: str, first_row: int, count: int) -> Iterator[tuple[int, int] | None]:
        """(row group, row in it) of each row whose cell is not empty."""
        for row in range(first_row, first_row + count):
            group = int(np.searchsorted(self._starts, row, side="right")) - 1
            if (group, leaf) not in self._filled:
                self._filled = {key: value for key, value in self._filled.items() if key[0] >= group}
                self._filled[group, leaf] = filled(self._parquet, group, leaf)
            there = self._filled[group, leaf]
            at = row - int(self._starts[group])
            yield (group, at) if there is None or there[at] else None


def _is_bytes(dtype: pa.DataType) -> bool:
    return pa.types.is_binary(dtype) or pa.types.is_large_binary(dtype)
