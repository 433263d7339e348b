"""Where exported files go: a folder, or tar shards as webdataset reads them; and the index of what went where."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol

if TYPE_CHECKING:
    from refine_batch.io.storage import Storage

IndexFormat = Literal["csv", "parquet"]
INDEX_COLUMNS = ("instance_id", "status", "category", "iou_2d_before", "iou_2d_after")
# What a sample's JSON says of the camera: what holds whatever the picture's size.
CAMERA_COLUMNS = ("azimuth", "elevation", "distance", "fov", "roll", "offset_x", "offset_y", "projection")


class Sink(Protocol):
    """Takes an instance's files; `place` says which shard the last one is in, None where there are none."""

    @property
    def place(self) -> str | None: ...

    def write(self, path: str, data: bytes) -> Any: ...

    def finish(self, row: dict[str, Any], name: str) -> None:
        """Say that this was all of the row's instance, whose files begin with `name`."""

    def close(self) -> None: ...


class Folder:
    """Each file by itself."""

    place = None

    def __init__(self, target: Storage):
        self._target = target

    def write(self, path: str, data: bytes) -> None:
        self._target.write(path, data)

    def finish(self, row: dict[str, Any], name: str) -> None:
        pass

    def close(self) -> None:
        pass


class Shards:
    """shard-000000.tar and so on: an instance's files follow each other, the last of them `NAME.json` with its row.

    A shard appears when it is whole. It is closed once it holds `most_bytes`.
    """

    def __init__(self, target: Storage, most_bytes: int):
        self._target, self._most = target, most_bytes
        self._count = 0
        self._file: BinaryIO | None = None
        self._tar: tarfile.TarFile | None = None
        self._open = contextlib.ExitStack()

    @property
    def place(self) -> str:
        return f"shard-{self._count:06d}.tar"

    def write(self, path: str, data: bytes) -> None:
        from refine_batch.dataset.layouts.writer import whole_file

        if self._tar is None:
            self._file = self._open.enter_context(
                whole_file(self._target.path_of(self.place), self._target.s3_endpoint)
            )
            tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
            self._tar = self._open.enter_context(tar)
        member = tarfile.TarInfo(path)
        member.size = len(data)
        self._tar.addfile(member, io.BytesIO(data))

    def finish(self, row: dict[str, Any], name: str) -> None:
        said = {c: row[c] for c in (*INDEX_COLUMNS, *CAMERA_COLUMNS) if row.get(c) is not None}
        self.write(f"{name}.json", json.dumps(said, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        if self._file is not None and self._file.tell() >= self._most:
            self.close()

    def close(self) -> None:
        if self._tar is not None:
            self._open.close()
            self._count += 1
            self._tar = self._file = None


class Index:
    """A line for each exported instance: its files, its shard, and the row's small columns."""

    def __init__(self, columns: tuple[str, ...]):
        self._columns = columns
        self._rows: list[tuple] = []

    def add(self, *values: Any) -> None:
        self._rows.append(values)

    def write(self, target: Storage, index_format: IndexFormat) -> str:
        """Write it as index.csv or index.parquet; its name."""
        name = f"index.{index_format}"
        target.write(name, self._parquet() if index_format == "parquet" else self._csv())
        return name

    def _csv(self) -> bytes:
        text = io.StringIO(newline="")
        sheet = csv.writer(text)
        sheet.writerow(self._columns)
        sheet.writerows([["" if value is None else value for value in row] for row in self._rows])
        return text.getvalue().encode("utf-8", "surrogatepass")

    def _parquet(self) -> bytes:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([(c, pa.float64() if c.startswith("iou_") else pa.string()) for c in self._columns])
        columns = list(zip(*self._rows, strict=True)) or [()] * len(schema)
        sink = io.BytesIO()
        arrays = [
            pa.array([v or None if f.name == "coarse_file" else v for v in c], f.type)
            for c, f in zip(columns, schema, strict=True)
        ]
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), sink)
        return sink.getvalue()
