"""Parts: the files of `results/`, each put whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from refine_batch.errors import RefineBatchError, UsageError
from refine_batch.io.storage import Storage, StorageError, StoredFile
from refine_batch.io.uri import redact_uri
from refine_batch.results.schema import RESULT_SCHEMA, SCHEMA_VERSION, version_of

RESULTS = "results"
# Compacted parts sort after all others, and each after those it was made of: a reader that lists in order, as object
# stores do, and misses a source that is already gone then still comes to what replaced it.
_PART, _COMPACTED = "part", "stack"

# Text that repeats from row to row; of numbers a dictionary only costs.
_REPEATING = (
    *("category", "status", "error_kind", "kept_reason", "run_id", "batch", "method", "config_hash", "code_version"),
    *("device", "node", "symmetry_axis", "camera_source"),
)
# Uncompressed; what a reader of whole rows holds at a time.
ROW_GROUP_BYTES = 64 << 20
# Below it, dealing out a part's columns to threads costs more than reading them.
_WORTH_THREADS = 4 << 20


def part_name(run_id: str, keys: Iterable[bytes | str], batch: str | None = None) -> str:
    """Name of the part that holds these rows: the same for a repeated attempt, which so overwrites itself.

    With the name of the rows' batch it is found by `batch_prefix`.
    """
    digest = blake2b(digest_size=10)
    for key in sorted(k.encode("utf-8", "surrogatepass") if isinstance(k, str) else k for k in keys):
        digest.update(len(key).to_bytes(4, "big") + key)
    start = f"{_PART}-{run_id}-" if batch is None else batch_prefix(run_id, batch)
    return f"{start}{digest.hexdigest()}.parquet"


def batch_prefix(run_id: str, batch: str) -> str:
    """What the names of the parts of one batch begin with."""
    return f"{_PART}-{run_id}-{batch}-"


def compacted_name(sources: Sequence[str]) -> str:
    """Name of the part that replaces these: sorts after them, and is the same when they are compacted again."""
    digest = blake2b("\n".join(sorted(sources)).encode(), digest_size=10).hexdigest()
    return f"{_COMPACTED}-{max(map(generation, sources), default=0) + 1:06d}-{digest}.parquet"


def generation(name: str) -> int:
    """How many compactions lie behind a part: 0 for one that an actor wrote."""
    fields = name.rpartition("/")[2].split("-")
    return int(fields[1]) if fields[0] == _COMPACTED and len(fields) == 3 and fields[1].isdigit() else 0


def write_part(storage: Storage, table: pa.Table, name: str) -> str:
    """Put the table at `results/<name>` with one write; `storage` is the output folder. Returns the path."""
    sink = io.BytesIO()
    with part_writer(sink) as writer:
        add_rows(writer, table)
    path = f"{RESULTS}/{name}"
    storage.write(path, sink.getvalue())
    return path


def part_writer(sink: BinaryIO, metadata: dict[str, str] | None = None) -> pq.ParquetWriter:
    """A writer of RESULT_SCHEMA with this project's encoding; `metadata` joins the schema's."""
    schema = RESULT_SCHEMA
    if metadata:
        schema = schema.with_metadata(dict(schema.metadata) | {k.encode(): v.encode() for k, v in metadata.items()})
    return pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=list(_REPEATING), version="2.6")


def add_rows(writer: pq.ParquetWriter, table: pa.Table) -> None:
    """Append the rows as row groups of a bounded size."""
    if not table.num_rows:
        return
    rows = max(1, int(table.num_rows * ROW_GROUP_BYTES / max(table.nbytes, 1)))
    writer.write_table(table.cast(writer.schema), row_group_size=rows)


def list_parts(storage: Storage, starting_with: str = "") -> list[StoredFile]:
    """The parts of an output folder, or those with such names, sorted by path.

    None is missed that a compaction replaces meanwhile.
    """
    found = storage.list(RESULTS, starting_with)
    return [f for f in found if f.path.endswith(".parquet") and f.path.count("/") == 1]


@contextmanager
def open_part(storage: Storage, part: StoredFile | str) -> Iterator[pq.ParquetFile]:
    """A part as a Parquet file.

    Raises
    ------
    FileNotFoundError
        It is gone: compacted meanwhile.
    StorageError
        It is not a Parquet file, or damaged.
    UsageError
        A newer version of this package wrote it.
    """
    path, size = (part, None) if isinstance(part, str) else (part.path, part.size)
    where = redact_uri(storage.path_of(path))
    with storage.open(path, size=size, buffer=0) as stream:
        try:
            file = pq.ParquetFile(stream, pre_buffer=True)
            version = version_of(file.metadata.metadata)
            if version > SCHEMA_VERSION:
                raise UsageError(
                    f"{where} has schema version {version}, this package knows up to {SCHEMA_VERSION}: "
                    "use the newer version that wrote it"
                )
            yield file
        except (FileNotFoundError, RefineBatchError):
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise StorageError(f"{where} is not a Parquet file, or is damaged: {reason}") from error


def read_part(storage: Storage, part: StoredFile | str, columns: Sequence[str] | None = None) -> pa.Table:
    """A part as a table of the present RESULT_SCHEMA, or of some of its columns; those an older version lacks are null.

    Raises as `open_part` does.
    """
    with open_part(storage, part) as file:
        return read_row_groups(file, range(file.num_row_groups), columns)


def read_row_groups(file: pq.ParquetFile, groups: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
    """Some row groups of a part, as `read_part` gives it; within `open_part`, which says where damage is."""
    names = RESULT_SCHEMA.names if columns is None else list(columns)
    present = set(file.schema.names)
    if not present.issuperset(names):
        # Of a list column the name above is that of what it holds. This one is dear: it is made anew each time.
        present = set(file.schema_arrow.names)
    metadata = file.metadata
    size = sum(metadata.row_group(group).total_byte_size for group in groups)
    table = file.read_row_groups(
        list(groups), columns=[n for n in names if n in present], use_threads=size >= _WORTH_THREADS
    )
    # pyarrow takes a file's text at its word: bytes that are none would fail only where they are first looked at.
    table.validate(full=True)
    return conform(table, names)


def conform(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The columns in order and of RESULT_SCHEMA's types, nulls for those that are not there."""
    schema = _schema_of(tuple(names))
    if table.schema.equals(schema):
        return pa.Table.from_arrays(table.columns, schema=schema)
    present = set(table.column_names)
    columns = [
        table.column(f.name).cast(f.type) if f.name in present else pa.nulls(table.num_rows, f.type) for f in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


@cache
def _schema_of(names: tuple[str, ...]) -> pa.Schema:
    return pa.schema([RESULT_SCHEMA.field(n) for n in names], RESULT_SCHEMA.metadata)
