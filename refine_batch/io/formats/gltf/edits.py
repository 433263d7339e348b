"""A document that is being changed: bytes in place where nothing else has them, new data behind the old."""

from __future__ import annotations

import base64
import copy
from functools import cached_property
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from refine_batch.io.formats.gltf.accessors import COMPONENTS, layout
from refine_batch.io.formats.gltf.buffers import Buffers
from refine_batch.io.formats.gltf.document import Document, whole, write_document
from refine_batch.io.formats.written import Written

_CODES = {dtype.str.lstrip("<|"): code for code, dtype in COMPONENTS.items()}
_ALIGNED = 4


class Edits:
    """Changes of a document.

    `description` is a copy to change at will; array data goes through the methods.
    """

    def __init__(self, document: Document, buffers: Buffers):
        self.description: dict[str, Any] = copy.deepcopy(document.description)
        self._document, self._buffers = document, buffers
        self._changed: dict[int, bytearray] = {}
        self._free_views: list[int] = []

    @property
    def home(self) -> int:
        """The buffer that new data goes into: the first that has any."""
        entries = self.description.setdefault("buffers", [])
        for index, entry in enumerate(entries):
            if "uri" in entry or index in self._changed or (index == 0 and self._document.binary is not None):
                return index
        entries.append({"byteLength": 0})
        self._changed[len(entries) - 1] = bytearray()
        return len(entries) - 1

    def bytes_of(self, buffer: int) -> bytearray:
        """A buffer to be changed."""
        if buffer not in self._changed:
            self._changed[buffer] = bytearray(self._buffers.buffer(buffer))
        return self._changed[buffer]

    def free(self, view: int) -> None:
        """Nothing names this view any more: a new one may take its number."""
        self._free_views.append(view)

    def stored(self, data: bytes, **properties: Any) -> dict[str, Any]:
        """A view of new data, which is put behind what the buffer has."""
        buffer = self.home
        body = self.bytes_of(buffer)
        body.extend(b"\x00" * (-len(body) % _ALIGNED))
        view = {"buffer": buffer, "byteOffset": len(body), "byteLength": len(data), **properties}
        body.extend(data)
        return view

    def new_view(self, view: dict[str, Any]) -> int:
        """The number that a view gets."""
        views = self.description.setdefault("bufferViews", [])
        if self._free_views:
            views[index := self._free_views.pop()] = view
            return index
        views.append(view)
        return len(views) - 1

    def new_accessor(self, like: dict[str, Any] | None = None) -> int:
        """The number of a further accessor, a copy of one."""
        accessors = self.description.setdefault("accessors", [])
        accessors.append(copy.deepcopy(like) if like else {})
        return len(accessors) - 1

    def fill(self, index: int, values: np.ndarray, *, target: int | None = 34962) -> None:
        """Give an accessor new data of its own: (count, width), of a type that glTF has.

        `target` 34962: of vertices, 34963: of indices, None: neither.
        """
        accessor = self.description["accessors"][index]
        values = np.ascontiguousarray(values)
        # Vertex attributes begin at multiples of four bytes.
        row = values.shape[1] * values.itemsize
        padded = row if target != 34962 else row + -row % _ALIGNED
        data = values.tobytes()
        properties: dict[str, Any] = {} if target is None else {"target": target}
        if padded != row:
            wide = np.zeros((len(values), padded), dtype=np.uint8)
            wide[:, :row] = values.view(np.uint8).reshape(len(values), row)
            data = wide.tobytes()
            properties["byteStride"] = padded
        accessor["bufferView"] = self.new_view(self.stored(data, **properties))
        accessor["componentType"] = _CODES[values.dtype.str.lstrip("<|")]
        accessor["count"] = len(values)
        accessor.pop("byteOffset", None)
        accessor.pop("sparse", None)
        if values.dtype.kind == "f":
            accessor.pop("normalized", None)

    def overwrite(self, index: int, values: np.ndarray) -> bool:
        """Put (count, width) float32 where the accessor's data is; False where it is kept otherwise or shared."""
        accessor = self.description["accessors"][index]
        dtype, width = layout(accessor)
        if dtype != np.dtype("<f4") or "sparse" in accessor or "bufferView" not in accessor:
            return False
        view = self.description["bufferViews"][whole(accessor["bufferView"])]
        if view.get("extensions") or self._shared(index):
            return False
        start, stride = _place(accessor, view, width * dtype.itemsize)
        body = self.bytes_of(whole(view["buffer"]))
        np.ndarray((len(values), width), dtype, body, start, (stride, dtype.itemsize))[:] = values
        return True

    def _shared(self, index: int) -> bool:
        """Whether any other accessor, an image or an extension may have a byte of this one's data."""
        owner, buffer, start, end, stride, size = self._spans.T
        mine = int(np.flatnonzero(owner == index)[0])
        near = (buffer == buffer[mine]) & (end > start[mine]) & (start < end[mine])
        near[mine] = False
        # Interleaved is not shared: the same stride, and apart within it.
        gap = (start - start[mine]) % stride[mine]
        apart = (stride == stride[mine]) & (gap >= size[mine]) & (gap + size <= stride[mine])
        return bool((near & ~apart).any())

    @cached_property
    def _spans(self) -> np.ndarray:
        """(N, 6): what has bytes in a buffer: its accessor (−1: none), buffer, first byte, end, stride, size."""
        description, spans, viewed = self._document.description, [], set()
        for number, accessor in enumerate(description["accessors"]):
            for place in (accessor, *accessor.get("sparse", {}).values()):
                if isinstance(place, dict) and "bufferView" in place:
                    viewed.add(whole(place["bufferView"]))
                    spans.append(_span(description, place, number if place is accessor else -1))
        for number, view in enumerate(description["bufferViews"]):
            if number not in viewed:
                start = whole(view.get("byteOffset", 0))
                spans.append((-1, whole(view["buffer"]), start, start + whole(view["byteLength"]), 1, 1))
        return np.array(spans, dtype=np.int64).reshape(-1, 6)

    def compact(self) -> None:
        """Drop what no view names from the buffers that were changed, unless extensions may name it."""
        if any("extensions" in view for view in self.description.get("bufferViews", [])):
            return
        for buffer, body in self._changed.items():
            views = [v for v in self.description.get("bufferViews", []) if v["buffer"] == buffer]
            views.sort(key=lambda v: v.get("byteOffset", 0))
            kept, source_end, shift = bytearray(), 0, 0
            for view in views:
                start, end = view.get("byteOffset", 0), view.get("byteOffset", 0) + view["byteLength"]
                if start >= source_end:
                    kept.extend(b"\x00" * ((start - len(kept)) % _ALIGNED))
                    shift, source_end = start - len(kept), start
                if end > source_end:
                    kept.extend(body[source_end:end])
                    source_end = end
                view["byteOffset"] = start - shift
            self._changed[buffer] = kept

    def renumber(self, entries: list[dict[str, Any]], numbers: dict[int, int]) -> None:
        """Other buffers, and the new number of each that stays; no data may be asked for after it."""
        self.description["buffers"] = entries
        self._changed = {numbers[index]: body for index, body in self._changed.items()}

    def document(self) -> Document:
        """The changed document, every buffer inside it; for another round of changes."""
        binary, external = self._document.binary, set(self._document.external)
        for buffer, body in self._changed.items():
            entry = self.description["buffers"][buffer]
            entry["byteLength"] = len(body)
            if buffer == 0 and binary is not None:
                entry.pop("uri", None)
                binary = bytes(body)
            else:
                if _lies_beside(entry):
                    external.add(buffer)
                entry["uri"] = _inline(body)
        return Document(self.description, binary, self._document.more, frozenset(external))

    def written(self, stem: str) -> Written:
        """The file: buffers that lay beside it and were changed get names made of `stem`."""
        beside = {}
        binary = self._document.binary
        for buffer, body in self._changed.items():
            entry = self.description["buffers"][buffer]
            entry["byteLength"] = len(body)
            if buffer == 0 and binary is not None:
                entry.pop("uri", None)
                binary = bytes(body)
            elif not _lies_beside(entry) and buffer not in self._document.external:
                entry["uri"] = _inline(body)
            else:
                name = f"{stem}.bin" if buffer == 0 else f"{stem}.{buffer}.bin"
                entry["uri"] = quote(name)
                beside[name] = bytes(body)
        data = write_document(Document(self.description, binary, self._document.more))
        return Written(data, beside, tuple(r for r in references(self.description) if unquote(r) not in beside))


def references(description: dict[str, Any]) -> tuple[str, ...]:
    """The files beside it that a description names."""
    kinds = (description.get(kind, []) for kind in ("buffers", "images"))
    return tuple(dict.fromkeys(entry["uri"] for kind in kinds for entry in kind if _lies_beside(entry)))


def _lies_beside(entry: dict[str, Any]) -> bool:
    return "uri" in entry and entry["uri"][:5].lower() != "data:"


def _inline(body: bytes | bytearray) -> str:
    return "data:application/octet-stream;base64," + base64.b64encode(body).decode("ascii")


def _span(description: dict[str, Any], place: dict[str, Any], owner: int) -> tuple[int, ...]:
    """Of an accessor, or of the indices or values of a sparse one, whose own size is not said there."""
    view = description["bufferViews"][whole(place["bufferView"])]
    if "type" not in place:
        start = whole(view.get("byteOffset", 0))
        return owner, whole(view["buffer"]), start, start + whole(view["byteLength"]), 1, 1
    dtype, width = layout(place)
    size = width * dtype.itemsize
    start, stride = _place(place, view, size)
    count = max(whole(place["count"]), 1)
    return owner, whole(view["buffer"]), start, start + stride * (count - 1) + size, stride, size


def _place(place: dict[str, Any], view: dict[str, Any], size: int) -> tuple[int, int]:
    """The byte at which an accessor begins in its buffer, and its stride."""
    start = whole(view.get("byteOffset", 0)) + whole(place.get("byteOffset", 0))
    return start, whole(view.get("byteStride", size))
