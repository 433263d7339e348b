"""Manifests written as a stream, and put in place whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from refine_batch.dataset.columns import LATER, MANIFEST_SCHEMA, URIS, VIEWS
from refine_batch.dataset.layouts.entry import LeftOut, Row
from refine_batch.dataset.nested import view_text
from refine_batch.errors import RefineBatchError
from refine_batch.io.storage import Storage, failure
from refine_batch.io.uri import file_of, in_file, is_inside, is_local, parent

BATCH_ROWS = 16_384


@contextlib.contextmanager
def whole_file(uri: str, s3_endpoint: str | None = None) -> Iterator[BinaryIO]:
    """A stream whose content appears at `uri` when the block ends well, and not otherwise."""
    remote = not is_local(uri)
    folder = Path(tempfile.gettempdir()) if remote else Path(uri).parent
    temporary = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if remote:
            fs, root = Storage(parent(uri), s3_endpoint).filesystem()
            fs.put_file(str(temporary), f"{root}/{uri.rpartition('/')[2]}")
        else:
            os.replace(temporary, uri)
    except RefineBatchError:
        raise
    except OSError as error:
        raise failure("write", uri, error) from None
    finally:
        temporary.unlink(missing_ok=True)


class ManifestWriter:
    """Rows into a Parquet or CSV stream. URIs inside `folder` become relative, so that the whole can be moved.

    `extra` are the columns besides those that every manifest has; in CSV lists become JSON text.
    """

    def __init__(self, sink: BinaryIO, folder: Storage, extra: Sequence[pa.Field], *, parquet: bool):
        self.rows = 0
        fields = [*(field for field in MANIFEST_SCHEMA if field.name not in LATER), *extra]
        self._lists = () if parquet else tuple(field.name for field in fields if pa.types.is_list(field.type))
        self._schema = pa.schema(
            [pa.field(field.name, pa.string()) if field.name in self._lists else field for field in fields]
        )
        self._folder = folder.uri.rstrip("/") + "/"
        self._waiting: list[dict] = []
        self._writer = (
            pq.ParquetWriter(sink, self._schema, compression="zstd")
            if parquet
            else pa_csv.CSVWriter(sink, self._schema)
        )

    def add(self, row: Row) -> None:
        values = dict(row)
        for name in URIS:
            if values.get(name):
                values[name] = self._relative(values[name])
        if isinstance(values.get(VIEWS), list):
            values[VIEWS] = view_text([self._portable(view) for view in values[VIEWS]])
        values |= {name: json.dumps(list(values[name])) for name in self._lists if values.get(name) is not None}
        self._waiting.append(values)
        self.rows += 1
        if len(self._waiting) >= BATCH_ROWS:
            self._flush()

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._waiting, schema=self._schema))
            self._waiting = []

    def _portable(self, view: dict) -> dict:
        return {key: self._relative(value) if key.endswith("_uri") else value for key, value in view.items()}

    def _relative(self, uri: str) -> str:
        if is_inside(uri):
            return in_file(uri, self._relative(file_of(uri)))
        inside = uri.removeprefix(self._folder)
        return uri if inside.startswith("/") or "://" in inside else inside


class LeftOutWriter:
    """The list of what was left out: CSV with the columns name, reason, message."""

    def __init__(self, sink: BinaryIO):
        self._text = io.TextIOWrapper(sink, encoding="utf-8", errors="replace", newline="", write_through=True)
        self._sheet = csv.writer(self._text, lineterminator="\n")
        self._sheet.writerow(["name", "reason", "message"])

    def add(self, item: LeftOut) -> None:
        self._sheet.writerow([item.name, item.reason.value, item.message])

    def __enter__(self) -> LeftOutWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._text.flush()
        self._text.detach()  # the stream is its owner's to close
