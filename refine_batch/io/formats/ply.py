"""Stanford PLY: text and both binary byte orders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from refine_batch.io.formats.common import (
    MeshFormatError,
    check_face_count,
    check_vertex_count,
    excerpt,
    fan_rows,
    fans,
    integer,
    lines,
    number,
)

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "int64": "i8", "uint64": "u8",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_INDEX_NAMES = ("vertex_indices", "vertex_index")
_MAX_HEADER = 1 << 16


@dataclass(frozen=True)
class Property:
    """A scalar of type `item`, or a list of them behind a length of type `length`; numpy type codes."""

    name: str
    item: str
    length: str | None = None


@dataclass
class Element:
    name: str
    count: int
    properties: list[Property] = field(default_factory=list)

    def least_bytes(self, text: bool) -> int:
        """The fewest bytes that this element's rows can take."""
        if text:
            return self.count * 2 * len(self.properties)
        return self.count * sum(np.dtype(p.length or p.item).itemsize for p in self.properties)


def read_ply(data: bytes, max_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) float64 vertices and (F, 3) int64 faces; polygons become fans, every other property is left out."""
    encoding, elements, body = _read_header(data)
    for element in elements:
        if element.name == "face":
            check_face_count(element.count, max_faces)
        elif element.name == "vertex":
            check_vertex_count(element.count, max_faces)
    needed = sum(element.least_bytes(encoding == "ascii") for element in elements)
    if len(data) - body + 1 < needed:
        raise MeshFormatError(f"it is cut short: its header asks for {needed} bytes, {len(data) - body} are there")
    rows = (
        _TextRows(data[body:]) if encoding == "ascii" else _BinaryRows(data, body, "<" if "little" in encoding else ">")
    )
    vertices, faces = np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64)
    for element in elements:
        if element.name == "vertex":
            vertices = rows.vertices(element)
        elif element.name == "face":
            faces = rows.faces(element, max_faces)
        elif element.count:
            rows.skip(element)
    return vertices, faces


def _read_header(data: bytes) -> tuple[str, list[Element], int]:
    """Encoding, elements and the offset at which the body begins."""
    end = data.find(b"end_header", 0, _MAX_HEADER)
    stop = data.find(b"\n", end) + 1
    if end < 0 or stop == 0:
        raise MeshFormatError("its header has no end")
    encoding = ""
    elements: list[Element] = []
    for line in data[:end].decode("latin-1").splitlines():
        match line.split():
            case ["format", ("ascii" | "binary_little_endian" | "binary_big_endian") as name, _]:
                encoding = name
            case ["element", name, count]:
                elements.append(Element(name, integer(count.encode("latin-1"), "element " + ascii(name))))
                if elements[-1].count < 0:
                    raise MeshFormatError(f"element {name!a} has a negative count")
            case ["property", "list", length, item, name] if elements and length in _TYPES and item in _TYPES:
                elements[-1].properties.append(Property(name, _TYPES[item], _TYPES[length]))
            case ["property", item, name] if elements and item in _TYPES:
                elements[-1].properties.append(Property(name, _TYPES[item]))
            case ["property" | "format" | "element", *_]:
                raise MeshFormatError(f"its header says {excerpt(line.encode('latin-1'))}, which means nothing here")
    if not encoding:
        raise MeshFormatError("its header names no format")
    for element in elements:
        if element.count and not element.properties:
            raise MeshFormatError(f"element {element.name!a} has no properties")
    return encoding, elements, stop


def _coordinates(element: Element) -> list[int]:
    names = [p.name for p in element.properties if p.length is None]
    if not {"x", "y", "z"} <= set(names) or len(names) < len(element.properties):
        raise MeshFormatError("its vertices have no plain properties x, y and z")
    return [names.index(axis) for axis in "xyz"]


def _index_list(element: Element) -> int:
    for i, p in enumerate(element.properties):
        if p.name in _INDEX_NAMES and p.length is not None:
            return i
    raise MeshFormatError("its faces have no list vertex_indices")


class _TextRows:
    """The body of a text PLY as a run of words."""

    def __init__(self, body: bytes):
        self._words = (word for _, words in lines(body) for word in words)

    def _take(self, count: int) -> list[bytes]:
        words = list(islice(self._words, max(count, 0)))
        if count < 0 or len(words) < count:
            raise MeshFormatError("it is cut short: its header asks for more numbers than there are")
        return words

    def vertices(self, element: Element) -> np.ndarray:
        columns = _coordinates(element)
        width = len(element.properties)
        words = self._take(element.count * width)
        values = [number(words[row * width + c], f"vertex {row}") for row in range(element.count) for c in columns]
        return np.array(values, dtype=np.float64).reshape(-1, 3)

    def faces(self, element: Element, max_faces: int) -> np.ndarray:
        wanted = _index_list(element)
        polygons = []
        for row in range(element.count):
            for i, words in enumerate(self._row(element, f"face {row}")):
                if i == wanted:
                    polygons.append([integer(word, f"face {row}") for word in words])
        return fans(polygons, max_faces)

    def skip(self, element: Element) -> None:
        for row in range(element.count):
            for _ in self._row(element, f"{element.name!a} {row}"):
                pass

    def _row(self, element: Element, what: str) -> Iterator[list[bytes]]:
        for p in element.properties:
            yield self._take(1 if p.length is None else integer(self._take(1)[0], what))


class _BinaryRows:
    """The body of a binary PLY, read element by element."""

    def __init__(self, data: bytes, body: int, order: str):
        self._data, self._at, self._order = data, body, order  # order: "<" or ">"

    def _type(self, code: str) -> np.dtype:
        return np.dtype(self._order + code)

    def _take(self, dtype: np.dtype, count: int) -> np.ndarray:
        if count < 0 or self._at + count * dtype.itemsize > len(self._data):
            raise MeshFormatError("it is cut short: its header asks for more bytes than there are")
        values = np.frombuffer(self._data, dtype=dtype, count=count, offset=self._at)
        self._at += count * dtype.itemsize
        return values

    def vertices(self, element: Element) -> np.ndarray:
        columns = _coordinates(element)
        rows = self._take(
            np.dtype([(f"p{i}", self._type(p.item)) for i, p in enumerate(element.properties)]), element.count
        )
        return np.stack([rows[f"p{i}"].astype(np.float64) for i in columns], axis=1)

    def faces(self, element: Element, max_faces: int) -> np.ndarray:
        wanted = _index_list(element)
        if element.count == 0:
            return np.zeros((0, 3), dtype=np.int64)
        rows = self._uniform_rows(element)
        if rows is not None:
            polygons = rows[f"v{wanted}"].astype(np.int64)
            check_face_count(len(polygons) * max(polygons.shape[1] - 2, 0), max_faces)
            return fan_rows(polygons)
        return fans((self._walk(element)[wanted].tolist() for _ in range(element.count)), max_faces)

    def skip(self, element: Element) -> None:
        if self._uniform_rows(element) is None:
            for _ in range(element.count):
                self._walk(element)

    def _uniform_rows(self, element: Element) -> np.ndarray | None:
        """All rows at once where each list is as long as in the first row, else None and nothing is consumed."""
        start = self._at
        lengths = [len(values) for values in self._walk(element)]
        self._at = start
        fields: list[tuple] = []
        for i, p in enumerate(element.properties):
            if p.length is not None:
                fields.append((f"n{i}", self._type(p.length)))
            fields.append((f"v{i}", self._type(p.item), (lengths[i],)))
        dtype = np.dtype(fields)
        if start + element.count * dtype.itemsize > len(self._data):
            return None
        rows = self._take(dtype, element.count)
        if any((rows[f"n{i}"] != lengths[i]).any() for i, p in enumerate(element.properties) if p.length is not None):
            self._at = start
            return None
        return rows

    def _walk(self, element: Element) -> list[np.ndarray]:
        """One row, value by value."""
        row = []
        for p in element.properties:
            count = 1 if p.length is None else int(self._take(self._type(p.length), 1)[0])
            row.append(self._take(self._type(p.item), count))
        return row
