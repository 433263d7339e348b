"""Layout `huggingface`: Parquet files that hold meshes and pictures as bytes, as Hugging Face's datasets are stored.

A column of bytes, or a struct of `bytes` and `path` (the feature Image), is read in place. The columns are `mesh` or
`mesh_bytes`, `image` or `image_bytes`, and if there are any `mask`, `ground_truth`; the id is `instance_id`, `id`,
`key`, `uid` or `__key__`; other columns count where they have the manifest's names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from refine_batch.dataset.cells import bytes_column, filled
from refine_batch.dataset.layouts.entry import LeftOut, LeftOutError, Reason, Row
from refine_batch.dataset.layouts.options import LayoutOptions
from refine_batch.dataset.layouts.paths import file_names
from refine_batch.dataset.layouts.stated import STATED, STATED_FIELDS, stated
from refine_batch.errors import UsageError
from refine_batch.io.inside import cell_uri
from refine_batch.io.storage import StorageError, redact

_IDS = ("instance_id", "id", "key", "uid", "__key__")
_PARTS = ("mesh", "image", "mask", "ground_truth")
_BUFFER = 1 << 16


@dataclass(frozen=True)
class Record:
    """One row: its values but for the bytes, and where these are."""

    name: str
    values: Mapping[str, Any]
    uris: Mapping[str, str]


class HuggingfaceLayout:
    """SOURCE is a Parquet file, or a folder of them; in their order."""

    extra_fields = STATED_FIELDS

    def __init__(self, options: LayoutOptions):
        self._options = options
        source = options.source.rstrip("/")
        if source.lower().endswith(".parquet"):
            folder, _, name = source.rpartition("/")
            self._storage, self._files = options.storage(folder or "."), [name]
        else:
            self._storage = options.storage(source)
            self._files = sorted(n for n in file_names(self._storage) if n.lower().endswith(".parquet"))
        if not self._files:
            raise UsageError(f"{redact(options.source)} holds no .parquet files")

    def entries(self) -> Iterator[Record | LeftOut]:
        for file in self._files:
            try:
                with self._storage.open(file, buffer=0) as stream:
                    yield from self._records(file, pq.ParquetFile(stream, pre_buffer=False, buffer_size=_BUFFER))
            except (pa.ArrowException, ValueError) as error:
                message = f"{file} is cut short, damaged or no Parquet file: {str(error).splitlines()[0][:200]}"
                yield LeftOut(file, Reason.CUT_SHORT, message)
            except (StorageError, FileNotFoundError) as error:
                yield LeftOut(file, Reason.STORAGE, str(error))

    def rows(self, entry: Record) -> list[Row | LeftOut]:
        for part, reason in (("mesh", Reason.MESH_MISSING), ("image", Reason.IMAGE_MISSING)):
            if part not in entry.uris:
                raise LeftOutError(reason, f"its {part} is empty")
        columns = stated(entry.values, entry.name)
        if self._options.categories and columns.get("category") not in self._options.categories:
            return [LeftOut(entry.name, Reason.FILTERED)]
        uris = {f"{part}_uri": entry.uris.get(part) for part in _PARTS}
        symmetry = {"symmetry_axis": self._options.symmetry_axis} if self._options.symmetry_axis else {}
        return [{"instance_id": entry.name} | columns | symmetry | uris]

    def _records(self, file: str, parquet: pq.ParquetFile) -> Iterator[Record | LeftOut]:
        schema = parquet.schema_arrow
        key = next((name for name in _IDS if name in schema.names), None)
        parts = {part: found for part in _PARTS if (found := bytes_column(schema, f"{part}_bytes", part))}
        missing = [part for part in ("mesh", "image") if part not in parts]
        if key is None or missing:
            what = f"no column of bytes called {missing[0]}" if missing else f"none of the columns {', '.join(_IDS)}"
            yield LeftOut(file, Reason.ENTRY_BROKEN, f"{file} has {what}; it has {', '.join(schema.names)[:300]}")
            return
        # The bytes stay where they are; of the structs the names alone are read.
        paths = {part: column.path for part, column in parts.items() if column.path}
        wanted = [key, *(name for name in STATED if name in schema.names), *paths.values()]
        uri = self._storage.path_of(file)
        for group in range(parquet.num_row_groups):
            table = parquet.read_row_group(group, columns=list(dict.fromkeys(wanted)))
            there = {part: filled(parquet, group, column.bytes) for part, column in parts.items()}
            for row, values in enumerate(table.to_pylist()):
                name = values[key]
                if name is None or not str(name).strip():
                    yield LeftOut(f"{file}, row group {group}, row {row}", Reason.ENTRY_BROKEN, f"its {key} is empty")
                    continue
                uris = {}
                for part, column in parts.items():
                    known = there[part]
                    if known is None or known[row]:
                        path = (values.get(column.name) or {}).get("path") if part in paths else None
                        uris[part] = cell_uri(group, row, uri, column.bytes, path or "")
                yield Record(str(name), values, uris)
