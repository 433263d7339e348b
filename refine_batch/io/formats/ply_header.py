"""The header of a PLY file: its elements and their properties."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from refine_batch.io.formats.common import BYTE_ORDER_MARK, MeshFormatError, excerpt

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "int64": "i8", "uint64": "u8",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_COUNTS = {name for name, code in TYPES.items() if code[0] in "iu"}
_MAX_HEADER = 1 << 16

Encoding = Literal["ascii", "binary_little_endian", "binary_big_endian"]


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

    def scalars(self, *names: str) -> list[int] | None:
        """Where among the properties these stand, each a plain one; None unless all are there."""
        places = {p.name: i for i, p in enumerate(self.properties) if p.length is None}
        return [places[name] for name in names] if places.keys() >= set(names) else None


@dataclass(frozen=True)
class Header:
    """`body` is the byte at which the elements' rows begin."""

    encoding: Encoding
    elements: list[Element]
    body: int

    @property
    def text(self) -> bool:
        return self.encoding == "ascii"

    @property
    def order(self) -> str:
        """numpy's sign for the byte order."""
        return ">" if self.encoding == "binary_big_endian" else "<"


def looks_like_ply(data: bytes) -> bool:
    return data[:8].removeprefix(BYTE_ORDER_MARK)[:4] in (b"ply\n", b"ply\r")


def read_header(data: bytes) -> Header:
    end = data.find(b"end_header", 0, _MAX_HEADER)
    stop = _line_end(data, end)
    if end < 0 or stop == 0:
        raise MeshFormatError("its header has no end")
    encoding: Encoding | None = None
    elements: list[Element] = []
    for line in data[:end].decode("latin-1").splitlines():
        match line.split():
            case ["format", ("ascii" | "binary_little_endian" | "binary_big_endian") as name, _]:
                encoding = name
            case ["element", name, count]:
                if not count.lstrip("-").isdecimal() or not count.isascii():
                    shown = excerpt(count.encode("latin-1"))
                    raise MeshFormatError(f"element {name!a}: {shown} is not a whole number")
                elements.append(Element(name, int(count)))
                if elements[-1].count < 0:
                    raise MeshFormatError(f"element {name!a} has a negative count")
            case ["property", "list", length, item, name] if elements and length in _COUNTS and item in TYPES:
                elements[-1].properties.append(Property(name, TYPES[item], TYPES[length]))
            case ["property", item, name] if elements and item in TYPES:
                elements[-1].properties.append(Property(name, TYPES[item]))
            case ["property" | "format" | "element", *_]:
                raise MeshFormatError(f"its header says {excerpt(line.encode('latin-1'))}, which means nothing here")
    if encoding is None:
        raise MeshFormatError("its header names no format")
    for element in elements:
        if element.count and not element.properties:
            raise MeshFormatError(f"element {element.name!a} has no properties")
    return Header(encoding, elements, stop)


def _line_end(data: bytes, at: int) -> int:
    """The byte behind the end of the line; 0 where it has none. A binary body may begin with any byte."""
    rest = data[max(at, 0) + len(b"end_header") :][:16]
    tail = len(rest) - len(rest.lstrip(b" \t"))
    for ending in (b"\r\n", b"\n", b"\r"):
        if rest[tail:].startswith(ending):
            return max(at, 0) + len(b"end_header") + tail + len(ending)
    return 0
