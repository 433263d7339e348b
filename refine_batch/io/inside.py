"""Files that lie inside others: members of a tar shard, cells of a Parquet file. Read in place, by ranges of bytes.

`tar://START-END/SHARD#MEMBER` is bytes START to END of a shard that is not compressed.
`parquet://GROUP.ROW/FILE#COLUMN` is a cell of a column of bytes (a struct's field after a dot): ROW of row group GROUP.
After COLUMN a slash and a name may follow, for a file's kind to be told by. SHARD and FILE are URIs themselves,
absolute or relative to the manifest's folder; MEMBER and the name are percent-encoded.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from refine_batch.io.storage import FileTooLargeError, Storage, StorageError
from refine_batch.io.uri import file_of, parent, redact_uri

_TAR = re.compile(r"tar://(\d{1,15})-(\d{1,15})/")
_CELL = re.compile(r"parquet://(\d{1,9})\.(\d{1,12})/")
# Columns of row groups that are kept, since rows are read one after the other.
_KEPT_BYTES = 512 << 20


def tar_uri(start: int, end: int, shard: str, member: str) -> str:
    """URI of a member whose content lies at bytes [start, end) of the shard."""
    return f"tar://{start}-{end}/{shard}#{quote(member)}"


def cell_uri(group: int, row: int, file: str, column: str, name: str = "") -> str:
    """URI of a cell; `name` tells what kind of file its bytes are."""
    return f"parquet://{group}.{row}/{file}#{quote(column, safe='.')}" + (f"/{quote(name, safe='')}" if name else "")


def read_inside(uri: str, s3_endpoint: str | None, max_bytes: int | None) -> bytes:
    """The bytes of a URI of this kind, as `storage.fetch` gives them, and with its errors."""
    if match := _TAR.match(uri):
        return _member(uri, int(match[1]), int(match[2]), s3_endpoint, max_bytes)
    if match := _CELL.match(uri):
        return _cell(uri, int(match[1]), int(match[2]), s3_endpoint, max_bytes)
    raise StorageError(f"{redact_uri(uri)} does not say where in its file it lies")


def _opened(file: str, s3_endpoint: str | None, size: int | None = None):
    return Storage(parent(file), s3_endpoint).open(file.rpartition("/")[2], size=size, buffer=0)


def _member(uri: str, start: int, end: int, s3_endpoint: str | None, max_bytes: int | None) -> bytes:
    if end < start:
        raise StorageError(f"{redact_uri(uri)} ends before it begins")
    if max_bytes is not None and end - start > max_bytes:
        raise FileTooLargeError(f"{redact_uri(uri)} is larger than {max_bytes:,} bytes")
    with _opened(file_of(uri), s3_endpoint, end) as stream:
        stream.seek(start)
        data = bytearray()
        while len(data) < end - start and (more := stream.read(end - start - len(data))):
            data += more
    if len(data) != end - start:
        raise StorageError(f"{redact_uri(uri)}: the shard ends before byte {end}; it is not the one that was listed")
    return bytes(data)


def _cell(uri: str, group: int, row: int, s3_endpoint: str | None, max_bytes: int | None) -> bytes:
    column = uri.rpartition("#")[2].partition("/")[0]
    values = _KEPT.column(file_of(uri), group, column, s3_endpoint, redact_uri(uri))
    if row >= len(values):
        raise StorageError(
            f"{redact_uri(uri)}: the row group has {len(values)} rows; it is not the one that was listed"
        )
    value = values[row]
    if not value.is_valid:
        raise FileNotFoundError(2, "the cell is empty", redact_uri(uri))
    data = value.as_py()
    if max_bytes is not None and len(data) > max_bytes:
        raise FileTooLargeError(f"{redact_uri(uri)} is larger than {max_bytes:,} bytes")
    return data


class _Columns:
    """The columns of row groups read last, at most `_KEPT_BYTES` of them; each is read by one thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._columns: OrderedDict[tuple, pa.ChunkedArray] = OrderedDict()

    def column(self, file: str, group: int, column: str, s3_endpoint: str | None, shown: str) -> pa.ChunkedArray:
        key = (file, group, column, s3_endpoint)
        with self._lock:
            if key not in self._columns:
                self._columns[key] = _read_column(file, group, column, s3_endpoint, shown)
                while len(self._columns) > 1 and sum(c.nbytes for c in self._columns.values()) > _KEPT_BYTES:
                    self._columns.popitem(last=False)
            self._columns.move_to_end(key)
            return self._columns[key]


_KEPT = _Columns()


def _read_column(file: str, group: int, column: str, s3_endpoint: str | None, shown: str) -> pa.ChunkedArray:
    name, _, inner = column.partition(".")
    try:
        with _opened(file, s3_endpoint) as stream:
            table = pq.ParquetFile(stream, pre_buffer=False).read_row_group(group, columns=[column])
        values = table.column(name)
        if inner:
            values = pa.chunked_array([chunk.field(inner) for chunk in values.chunks])
        return values if pa.types.is_large_binary(values.type) else values.cast(pa.large_binary())
    except (StorageError, FileNotFoundError):
        raise
    except (pa.ArrowException, KeyError, IndexError, ValueError, OSError) as error:
        raise StorageError(f"cannot read {shown}: {str(error).splitlines()[0] if str(error) else error!r}") from None
