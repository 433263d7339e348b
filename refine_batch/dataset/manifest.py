"""The dataset manifest: Parquet, CSV or JSON Lines, checked and streamed."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from refine_batch.dataset.columns import LISTS, MANIFEST_SCHEMA, NUMBERS, RESULTS_MARK, URIS, VIEWS, absolute, ignored
from refine_batch.dataset.hashing import hash_text
from refine_batch.dataset.packed import bare_name
from refine_batch.dataset.readers import CsvReader, JsonLinesReader, ParquetReader
from refine_batch.dataset.row import ManifestRow
from refine_batch.dataset.views import resolve_views
from refine_batch.errors import UsageError
from refine_batch.io.storage import Stamp, Storage, StorageError, StoredFile, stamp
from refine_batch.io.uri import is_local, normalise, parent, redact_uri

__all__ = ["MANIFEST_SCHEMA", "Manifest", "ManifestRow"]

_FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv"} | dict.fromkeys(
    (".jsonl", ".ndjson", ".json"), "jsonl"
)


# How the files of an output are called.
_RESULT = re.compile(r"(^|/)results/(part|stack)-[^/]*\.parquet$")


@dataclass(frozen=True)
class Manifest:
    """A manifest that exists, can be read and has the columns it needs. Pickles; holds no rows.

    Attributes
    ----------
    uri
        The file, or the folder of Parquet files, absolute.
    folder
        What relative URIs are relative to.
    ignored_columns
        Names the manifest has and this project does not know.
    notes
        What else a log should say once of how it is understood.
    """

    uri: str
    folder: str
    ignored_columns: tuple[str, ...]
    notes: tuple[str, ...]
    reader: ParquetReader | CsvReader | JsonLinesReader
    s3_endpoint: str | None = None

    def __str__(self) -> str:
        return redact_uri(self.uri)

    @classmethod
    def open(cls, uri: str, s3_endpoint: str | None = None) -> Manifest:
        """Check cheaply that the manifest can be used: there, readable, its columns and their types.

        Raises
        ------
        UsageError
            It cannot; one sentence says why.
        """
        try:
            uri = normalise(uri)
            files, own = _files(uri, s3_endpoint)
            folder = parent(uri) if files is None else uri
            storage = Storage(folder, s3_endpoint)
            if files is not None:
                reader: ParquetReader | CsvReader | JsonLinesReader
                reader = ParquetReader(storage, tuple((f.path, f.size) for f in files))
            else:
                reader = _reader(storage, uri.rpartition("/")[2], uri)
            reader.check()
            notes = [*reader.notes(), *([_left_out(own)] if own else [])]
            return cls(uri, folder, ignored(reader.columns), tuple(notes), reader, s3_endpoint)
        except (StorageError, FileNotFoundError) as error:
            shown = error.strerror if isinstance(error, FileNotFoundError) else str(error)
            raise UsageError(f"the manifest {redact_uri(uri)} cannot be read: {shown}") from error

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream the rows in order as batches of MANIFEST_SCHEMA (or those of its columns), URIs absolute.

        Raises
        ------
        UsageError
            A value has the wrong type, or the file is cut short: named with its row.
        """
        names = list(MANIFEST_SCHEMA.names if columns is None else columns)
        for batch in self.reader.batches(names):
            if batch.num_rows:
                arrays = [self._absolute(n, batch.column(n)) for n in names]
                yield pa.RecordBatch.from_arrays(arrays, schema=batch.schema)

    def _absolute(self, name: str, column: pa.Array) -> pa.Array:
        if name in URIS:
            return absolute(column, self.folder)
        if name == VIEWS and column.null_count < len(column):
            texts = [None if text is None else resolve_views(text, self.folder) for text in column.to_pylist()]
            return pa.array(texts, pa.string())
        return column

    def check_ids(self) -> int:
        """Stream once through everything that would stop a run; the number of rows.

        Raises
        ------
        UsageError
            No rows, an empty id, an id that stands twice (with both row numbers, counted from 1), or a value that
            `batches` refuses.
        """
        # Parquet's types are known from its footer, but numbers kept as text have to be read to be known as such.
        columns = ("instance_id", *NUMBERS, *LISTS) if isinstance(self.reader, ParquetReader) else MANIFEST_SCHEMA.names
        hashes: list[np.ndarray] = []
        rows = 0
        for batch in self.reader.batches(columns):
            ids = batch.column("instance_id")
            empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(ids), ""), True)
            if pc.any(empty, min_count=0).as_py():
                row = rows + 1 + pc.index(empty, True).as_py()
                raise UsageError(f"{self}: row {row} has no instance_id")
            hashes.append(hash_text(ids))
            rows += batch.num_rows
        if not rows:
            raise UsageError(f"{self} has no rows")
        self._refuse_repeated(np.concatenate(hashes))
        return rows

    def _refuse_repeated(self, hashes: np.ndarray) -> None:
        order = np.lexsort((hashes["low"], hashes["high"]))
        same = hashes[order[1:]] == hashes[order[:-1]]
        if not same.any():
            return
        # The sort is stable, so of equal ids each follows the one before it in the manifest.
        later = order[1:][same]
        at = int(np.argmin(later))
        second, first = int(later[at]), int(order[:-1][same][at])
        shown = repr(self._id_of(first))
        more = f" ({same.sum()} ids stand more than once)" if same.sum() > 1 else ""
        raise UsageError(
            f"{self}: instance_id {shown} stands in rows {first + 1} and {second + 1}; ids are unique{more}"
        )

    def _id_of(self, row: int) -> str:
        for batch in self.reader.batches(["instance_id"]):
            if row < batch.num_rows:
                return batch.column(0)[row].as_py()
            row -= batch.num_rows
        raise UsageError(f"{self} changed while it was read")

    def fingerprint(self) -> str:
        """32 hex digits that change when the manifest's files do (ETag, or size and time)."""
        digest = hashlib.blake2b(digest_size=16)
        files, _ = _files(self.uri, self.s3_endpoint)
        if files is None:
            files = [_stored(self.uri, stamp(self.uri, s3_endpoint=self.s3_endpoint))]
        for file in files:
            digest.update(repr((file.path, file.etag or (file.size, file.modified))).encode())
        return digest.hexdigest()


def _stored(uri: str, identity: Stamp) -> StoredFile:
    return StoredFile(f"{uri}\n{identity}", identity.size or 0, None, identity.etag)


def _files(uri: str, s3_endpoint: str | None) -> tuple[list[StoredFile] | None, list[StoredFile]]:
    """The Parquet files of a folder, and those left out because they are results; None where the URI is a file."""
    try:
        stamp(uri, s3_endpoint=s3_endpoint)
        return None, []
    except FileNotFoundError:
        missing = True
    except StorageError:
        if not is_local(uri):
            raise
        missing = False
    storage = Storage(uri, s3_endpoint)
    files = storage.list()
    if missing and not files:
        raise FileNotFoundError(2, "there is no such file or folder", redact_uri(uri))
    visible = [f for f in files if not any(s.startswith(("_", ".")) for s in f.path.split("/"))]
    parquet = [f for f in visible if _format(f.path) == "parquet"]
    if not parquet:
        raise UsageError(
            f"the folder {redact_uri(uri)} holds no Parquet files; give a manifest file, or a folder of them"
        )
    own = _results(storage, parquet)
    manifest = [f for f in parquet if f not in own]
    if not manifest:
        raise UsageError(f"the folder {redact_uri(uri)} holds results, and no manifest; give the one they were made of")
    return manifest, sorted(own, key=lambda f: f.path)


def _results(storage: Storage, files: list[StoredFile]) -> set[StoredFile]:
    """Those that a run has written: an output may lie in the folder of its own manifest."""
    folders: dict[str, list[StoredFile]] = defaultdict(list)
    for file in files:
        if _RESULT.search(file.path):
            folders[file.path.rpartition("/")[0]].append(file)
    return {file for some in folders.values() if _is_result(storage, some[0]) for file in some}


def _is_result(storage: Storage, file: StoredFile) -> bool:
    try:
        with storage.open(file.path, size=file.size, buffer=0) as stream:
            return RESULTS_MARK in (pq.read_metadata(stream).metadata or {})
    except pa.ArrowException:
        return False  # damaged, or something else of this name: whoever reads it will say so


def _left_out(own: list[StoredFile]) -> str:
    count = f"{len(own)} files" if len(own) > 1 else "1 file"
    return f"{count} of results lie in the manifest's folder and are not taken for its own: {own[0].path}" + (
        ", …" if len(own) > 1 else ""
    )


def _format(name: str) -> str | None:
    kind = _FORMATS.get(PurePosixPath(bare_name(name)).suffix.lower())
    return kind if name == bare_name(name) or kind in ("csv", "jsonl") else None


def _reader(storage: Storage, name: str, uri: str) -> ParquetReader | CsvReader | JsonLinesReader:
    kind = _format(name) or _sniff(storage, name)
    if kind == "parquet":
        return ParquetReader(storage, ((name, stamp(uri, s3_endpoint=storage.s3_endpoint).size or 0),))
    if kind == "csv":
        return CsvReader(storage, name)
    if kind == "jsonl":
        return JsonLinesReader(storage, name)
    raise UsageError(
        f"{redact_uri(uri)}: a manifest is a .parquet, .csv or .jsonl file, or a folder of .parquet files; "
        ".csv and .jsonl may be compressed, as .gz, .bz2, .xz or .zst"
    )


def _sniff(storage: Storage, name: str) -> str | None:
    with storage.open(name, buffer=16) as file:
        head = file.read(16)
    return "parquet" if head.startswith(b"PAR1") else "jsonl" if head.lstrip().startswith(b"{") else None
