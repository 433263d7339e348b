"""Layout `webdataset`: tar shards whose files of one key make one sample; read where they lie, by ranges of bytes.

A key is a file's path up to the first dot of its name, as the webdataset library has it. Of a sample `glb`, `obj`,
`ply`, `off`, `stl` (or `mesh.glb`, …) is the coarse mesh, `png`, `jpg`, `jpeg`, `webp` (or `image.png`, …) the picture,
`mask.png` its mask, `truth.glb` the ground truth, and `json` an object whose names are the manifest's columns.
"""

from __future__ import annotations

import json
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from refine_batch.dataset.layouts.entry import LeftOut, LeftOutError, Reason, Row
from refine_batch.dataset.layouts.options import LayoutOptions
from refine_batch.dataset.layouts.paths import IMAGE_SUFFIXES, MESH_SUFFIXES, file_names
from refine_batch.dataset.layouts.stated import STATED_FIELDS, stated
from refine_batch.errors import UsageError
from refine_batch.io.inside import tar_uri
from refine_batch.io.storage import StorageError, fetch, redact

_LARGEST_JSON = 1 << 20
_BUFFER = 1 << 16


@dataclass
class Sample:
    """Members of one key: URIs by what they are."""

    name: str
    shard: str
    parts: dict[str, str] = field(default_factory=dict)
    twice: str = ""


class WebdatasetLayout:
    """SOURCE is a shard, or a folder of shards; in their order."""

    extra_fields = STATED_FIELDS

    def __init__(self, options: LayoutOptions):
        self._options = options
        source = options.source.rstrip("/")
        if source.lower().endswith(".tar"):
            folder, _, name = source.rpartition("/")
            self._storage, self._shards = options.storage(folder or "."), [name]
        else:
            self._storage = options.storage(source)
            names = list(file_names(self._storage))
            self._shards = sorted(name for name in names if name.lower().endswith(".tar"))
            packed = next((name for name in names if name.lower().endswith((".tar.gz", ".tgz", ".tar.zst"))), None)
            if not self._shards and packed:
                raise UsageError(f"{packed} is compressed; samples can be read in place of plain .tar shards only")
        if not self._shards:
            raise UsageError(f"{redact(options.source)} holds no .tar shards")

    def entries(self) -> Iterator[Sample | LeftOut]:
        for shard in self._shards:
            yield from self._samples(shard)

    def rows(self, entry: Sample) -> list[Row | LeftOut]:
        if entry.twice:
            raise LeftOutError(Reason.AMBIGUOUS, f"{entry.shard} holds two of its {entry.twice}")
        for part, reason in (("mesh", Reason.MESH_MISSING), ("image", Reason.IMAGE_MISSING)):
            if part not in entry.parts:
                raise LeftOutError(reason, f"{entry.shard} holds no {part} of it")
        record = self._record(entry)
        columns = stated(record, f"{entry.name}.json")
        if self._options.categories and columns.get("category") not in self._options.categories:
            return [LeftOut(entry.name, Reason.FILTERED)]
        uris = {f"{part}_uri": entry.parts.get(part) for part in ("mesh", "image", "mask", "ground_truth")}
        symmetry = {"symmetry_axis": self._options.symmetry_axis} if self._options.symmetry_axis else {}
        return [{"instance_id": str(record.get("instance_id") or entry.name)} | columns | symmetry | uris]

    def _record(self, entry: Sample) -> dict[str, Any]:
        if "json" not in entry.parts:
            return {}
        try:
            data = fetch(entry.parts["json"], s3_endpoint=self._options.s3_endpoint, max_bytes=_LARGEST_JSON)
            record = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise LeftOutError(Reason.ENTRY_BROKEN, f"{entry.name}.json is not JSON: {error}") from None
        except StorageError as error:
            raise LeftOutError(Reason.STORAGE, str(error)) from None
        if not isinstance(record, dict):
            raise LeftOutError(Reason.ENTRY_BROKEN, f"{entry.name}.json is not an object")
        return record

    def _samples(self, shard: str) -> Iterator[Sample | LeftOut]:
        """As the shard is read; files of one key follow each other, as its writers put them."""
        sample: Sample | None = None
        uri = self._storage.path_of(shard)
        try:
            with self._storage.open(shard, buffer=_BUFFER) as stream:
                end = stream.seek(0, 2)
                stream.seek(0)
                with tarfile.open(fileobj=stream, mode="r:") as archive:
                    for member in archive:
                        archive.members.clear()  # type: ignore[attr-defined]  # they would add up
                        if not member.isreg():
                            continue
                        start, stop = member.offset_data, member.offset_data + member.size
                        if stop > end:
                            raise tarfile.ReadError(f"it ends within {member.name}")
                        name, kind = _kind(member.name)
                        if sample is not None and sample.name != name:
                            yield sample
                            sample = None
                        if sample is None:
                            sample = Sample(name, shard)
                        if kind in sample.parts:
                            sample.twice = kind
                        elif kind:
                            sample.parts[kind] = tar_uri(start, stop, uri, member.name)
        except tarfile.TarError as error:
            if sample is not None:
                yield LeftOut(sample.name, Reason.CUT_SHORT, f"{shard} ends within its files")
            yield LeftOut(shard, Reason.CUT_SHORT, f"{shard} is cut short, damaged or no tar file: {error}")
            return
        except (StorageError, FileNotFoundError) as error:
            yield LeftOut(shard, Reason.STORAGE, str(error))
            return
        if sample is not None:
            yield sample


def _kind(path: str) -> tuple[str, str]:
    """(key, part) of a member; an empty part is of no use here."""
    folder, base = posixpath.split(path.removeprefix("./"))
    stem, _, rest = base.partition(".")
    *role, suffix = f".{rest}".lower().rsplit(".", 1)
    role_name, suffix = "".join(role).strip("."), f".{suffix}"
    if rest.lower() == "json":
        kind = "json"
    elif suffix in MESH_SUFFIXES:
        kind = {"": "mesh", "mesh": "mesh", "coarse": "mesh", "truth": "ground_truth", "gt": "ground_truth"}.get(
            role_name, ""
        )
    elif suffix in IMAGE_SUFFIXES:
        kind = {"": "image", "image": "image", "rgb": "image", "rgba": "image", "mask": "mask"}.get(role_name, "")
    else:
        kind = ""
    return posixpath.join(folder, stem), kind
