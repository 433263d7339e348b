"""Record batches out of Parquet, CSV and JSON Lines, streamed.

Each reader gives `columns`, the names that its files have, and `batches`, whose columns are of MANIFEST_SCHEMA's types;
what is wrong with a file is a UsageError that names it, and the row where there is one.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from refine_batch.dataset.cells import Cells, bytes_of_uris
from refine_batch.dataset.columns import (
    BYTES_OF,
    LISTS,
    MANIFEST_SCHEMA,
    NUMBERS,
    VIEWS,
    WHOLE_NUMBERS,
    check_names,
    check_type,
    coerce,
    parse_number,
    taken_as_text,
    whole_number_text,
)
from refine_batch.dataset.nested import parse_list, view_text
from refine_batch.dataset.packed import not_utf8, open_text
from refine_batch.errors import UsageError
from refine_batch.io.storage import Storage, StorageError
from refine_batch.io.uri import redact, redact_uri

BATCH_ROWS = 16_384
_BLOCK = 8 << 20
_LONGEST_LINE = 1 << 20
# How many lines of JSON tell which columns there are: each object may leave out those it has no value for.
_SAMPLE_LINES = 1000
# What pyarrow raises over a damaged Parquet file: names that are no text are a ValueError.
_DAMAGE = (pa.ArrowException, OSError, ValueError)


class Reader(Protocol):
    @property
    def columns(self) -> tuple[str, ...]: ...

    def notes(self) -> list[str]: ...

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]: ...


@dataclass(frozen=True)
class ParquetReader:
    """One Parquet file, or several in order."""

    storage: Storage
    files: tuple[tuple[str, int], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        with self._opened(*self.files[0]) as file:
            read_in_place = {column.name for column in bytes_of_uris(file.schema_arrow, BYTES_OF).values()}
            return tuple(name for name in file.schema_arrow.names if name not in read_in_place)

    def check(self) -> None:
        """Columns and types of every file, from the footers."""
        for path, size in self.files:
            with self._opened(path, size):
                pass

    def notes(self) -> list[str]:
        """What was understood in a way that the reader of a log should know."""
        with self._opened(*self.files[0]) as file:
            kinds = {f.name: f.type for f in file.schema_arrow if f.name in WHOLE_NUMBERS}
        whole = [name for name, kind in kinds.items() if pa.types.is_integer(kind)]
        return [taken_as_text(name, str(kinds[name])) for name in whole]

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        row = 1
        for path, size in self.files:
            where = redact_uri(self.storage.path_of(path))
            with self._opened(path, size) as file:
                wanted = [n for n in BYTES_OF if n in columns]
                cells = Cells(file, self.storage.path_of(path), bytes_of_uris(file.schema_arrow, wanted))
                present = [*(n for n in columns if n in file.schema_arrow.names), *cells.paths]
                # Not of nothing, whose batches would have no rows.
                rows = file.iter_batches(BATCH_ROWS, columns=present or ["instance_id"])
                begun = row
                while (batch := _next(rows, where)) is not None:
                    whole = cells.put_in(batch, row - begun)
                    yield _conformed(whole, columns, row, where)
                    row += batch.num_rows
                # A column whose own count is damaged ends its batches early, without a word.
                if row - begun != file.metadata.num_rows:
                    message = f"it tells of {file.metadata.num_rows} rows and gives {row - begun}"
                    raise _damaged(ValueError(message), where)

    @contextlib.contextmanager
    def _opened(self, path: str, size: int) -> Iterator[pq.ParquetFile]:
        where = redact_uri(self.storage.path_of(path))
        with self.storage.open(path, size=size, buffer=0) as stream:
            try:
                # No pre-buffering: it would hold whole row groups, and a manifest may be a single one.
                file = pq.ParquetFile(stream, pre_buffer=False, buffer_size=_BLOCK // 2)
            except _DAMAGE as error:
                raise _damaged(error, where) from error
            schema = file.schema_arrow
            check_names([*schema.names, *_in_place_of(schema)], where)
            for field in schema:
                if field.name in MANIFEST_SCHEMA.names:
                    check_type(field.name, field.type, where)
            yield file


def _in_place_of(schema: pa.Schema) -> list[str]:
    """Columns of URIs that the file does without, since it has their bytes."""
    return [uri for uri in bytes_of_uris(schema, BYTES_OF) if uri not in schema.names]


def _next(batches: Iterator[pa.RecordBatch], where: str) -> pa.RecordBatch | None:
    try:
        return next(batches, None)
    except _DAMAGE as error:
        raise _damaged(error, where) from error


def _damaged(error: Exception, where: str) -> Exception:
    if isinstance(error, StorageError):
        return error
    return UsageError(f"{where} is not a Parquet file, or is damaged: {redact(str(error)).splitlines()[0]}")


@dataclass(frozen=True)
class CsvReader:
    """A CSV file with a header. Every cell is read as text, so that no id is ever taken for a number or a null."""

    storage: Storage
    path: str

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self._header())

    def check(self) -> None:
        check_names(self._header(), self._where)

    def notes(self) -> list[str]:
        return []

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        names = self._header()
        bad: list[pa_csv.InvalidRow] = []

        def remember(row: pa_csv.InvalidRow) -> str:
            bad.append(row)
            return "error"

        row = 1
        try:
            with open_text(self.storage, self.path, _BLOCK) as file:
                reader = pa_csv.open_csv(
                    file,
                    read_options=pa_csv.ReadOptions(block_size=_BLOCK),
                    parse_options=pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=remember),
                    convert_options=pa_csv.ConvertOptions(
                        column_types=dict.fromkeys(names, pa.string()),
                        include_columns=[n for n in columns if n in names],
                        strings_can_be_null=True,
                        null_values=[""],
                    ),
                )
                for batch in reader:
                    yield _conformed(batch, columns, row, self._where)
                    row += batch.num_rows
        except pa.ArrowException as error:
            if bad:
                found = f"{bad[0].actual_columns} fields where the header has {bad[0].expected_columns}"
                raise UsageError(f"{self._where}: a row has {found}: {_shown(bad[0].text)}") from error
            if "UTF8" in str(error) and (said := not_utf8(self.storage, self.path, _LONGEST_LINE)):
                raise UsageError(f"{self._where}, {said}") from error
            reason = redact(str(error)).splitlines()[0]
            raise UsageError(f"{self._where} cannot be read after row {row - 1}: {reason}") from error

    @property
    def _where(self) -> str:
        return redact_uri(self.storage.path_of(self.path))

    def _header(self) -> list[str]:
        with open_text(self.storage, self.path, _LONGEST_LINE) as file:
            head = file.read(_LONGEST_LINE)
        if not head.strip():
            raise UsageError(f"{self._where} is empty")
        try:
            text = head[: head.rfind(b"\n") + 1 or None].decode("utf-8-sig")
        except UnicodeDecodeError:
            text = head.decode("utf-8-sig", "replace").partition("\n")[0]
            if "\ufffd" in text:
                said = not_utf8(self.storage, self.path, _LONGEST_LINE)
                raise UsageError(f"{self._where}, {said}") from None
        try:
            return next(row for row in csv.reader(io.StringIO(text, newline="")) if row)
        except (csv.Error, StopIteration) as error:
            raise UsageError(f"{self._where} has no header line that can be read ({error})") from error


@dataclass(frozen=True)
class JsonLinesReader:
    """One JSON object per line."""

    storage: Storage
    path: str

    @property
    def columns(self) -> tuple[str, ...]:
        sample = itertools.islice(self._objects(), _SAMPLE_LINES)
        return tuple(dict.fromkeys(name for _, row in sample for name in row))

    def check(self) -> None:
        columns = self.columns
        if columns:
            check_names(columns, self._where)

    def notes(self) -> list[str]:
        sample = [row for _, row in itertools.islice(self._objects(), _SAMPLE_LINES)]
        whole = [n for n in WHOLE_NUMBERS if any(row.get(n) != whole_number_text(row.get(n)) for row in sample)]
        return [taken_as_text(name, "whole numbers") for name in whole]

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        rows = self._objects()
        while chunk := list(itertools.islice(rows, BATCH_ROWS)):
            arrays = [self._column(name, chunk) for name in columns]
            yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema([MANIFEST_SCHEMA.field(n) for n in columns]))

    def _column(self, name: str, chunk: list[tuple[int, dict]]) -> pa.Array:
        if name in NUMBERS:
            values = [parse_number(name, row.get(name), number, self._where) for number, row in chunk]
            return pa.array(values, pa.float64())
        if name in LISTS:
            lists = [parse_list(name, row.get(name), number, self._where) for number, row in chunk]
            return pa.array(lists, pa.list_(pa.float64()))
        if name == VIEWS:
            chunk = [(number, {name: view_text(row.get(name))}) for number, row in chunk]
        if name in WHOLE_NUMBERS:
            chunk = [(number, {name: whole_number_text(row.get(name))}) for number, row in chunk]
        for number, row in chunk:
            value = row.get(name)
            if value is not None and not isinstance(value, str):
                why = "; write it in quotes" if isinstance(value, (int, float)) else ""
                raise UsageError(f"{self._where}: column {name}, row {number}: {_shown(value)} is not text{why}")
        try:
            text = pa.array([row.get(name) for _, row in chunk], pa.string())
        except (UnicodeEncodeError, pa.ArrowException):
            raise UsageError(
                f"{self._where}: column {name} holds half a Unicode character (a lone surrogate)"
            ) from None
        return coerce(name, text, chunk[0][0], self._where)

    @property
    def _where(self) -> str:
        return redact_uri(self.storage.path_of(self.path))

    def _objects(self) -> Iterator[tuple[int, dict]]:
        """(number of the row from 1, object) of every line that is not blank."""
        number = 0
        with open_text(self.storage, self.path, _BLOCK) as file:
            for at in itertools.count(1):
                line = file.readline(_LONGEST_LINE + 1)
                if not line:
                    return
                if at == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if not line.strip():
                    continue
                number += 1
                try:
                    if len(line) > _LONGEST_LINE:
                        raise ValueError(f"the line is longer than {_LONGEST_LINE:,} bytes")
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    if isinstance(error, UnicodeDecodeError):
                        said = not_utf8(self.storage, self.path, _LONGEST_LINE)
                        raise UsageError(f"{self._where}, {said}") from None
                    raise UsageError(f"{self._where}, line {at}, is not JSON: {redact(str(error))}") from None
                if not isinstance(row, dict):
                    raise UsageError(f"{self._where}, line {at}: one JSON object per line is needed, not {_shown(row)}")
                yield number, row


def _shown(value: object) -> str:
    text = redact(value if isinstance(value, str) else json.dumps(value))
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _conformed(batch: pa.RecordBatch, columns: Sequence[str], first_row: int, where: str) -> pa.RecordBatch:
    fields = [MANIFEST_SCHEMA.field(n) for n in columns]
    arrays = [
        coerce(f.name, batch.column(f.name), first_row, where)
        if f.name in batch.schema.names
        else pa.nulls(batch.num_rows, f.type)
        for f in fields
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
