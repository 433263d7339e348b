"""Where the rows of a PLY file's elements are, and what stands in their columns."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np

from refine_batch.io.formats.common import MeshFormatError, MeshTooLargeError
from refine_batch.io.formats.ply_header import Element, Header
from refine_batch.io.formats.text import blocks


def element_rows(data: bytes, header: Header) -> list[tuple[Element, Rows]]:
    """Each element that has rows, and where they are."""
    needed = sum(element.least_bytes(header.text) for element in header.elements)
    if len(data) - header.body + 1 < needed:
        raise MeshFormatError(
            f"it is cut short: its header asks for {needed} bytes, {len(data) - header.body} are there"
        )
    body: Body = TextBody(data, header.body) if header.text else BinaryBody(data, header.order)
    at, found = 0 if header.text else header.body, []
    for element in header.elements:
        rows = Rows(body, element, at)
        found.append((element, rows))
        at = rows.end
    return found


_STRUCT = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q"}


class Body(Protocol):
    """What stands behind the header, in its own units: words or bytes."""

    end: int

    def size(self, code: str) -> int:
        """Units of one value of a type."""

    def lengths(self, code: str) -> Callable[[int], int]:
        """A function from a unit to the list's length that begins there; IndexError or struct.error past the end."""

    def values(self, at: np.ndarray, code: str) -> np.ndarray:
        """The values that begin at these units."""

    def cut_short(self) -> MeshFormatError: ...


class TextBody:
    """The body of a text PLY as a run of numbers; lines mean nothing."""

    def __init__(self, data: bytes, start: int):
        self._fault: MeshFormatError | None = None
        numbers, places = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
        for block in blocks(data, start, comments=False):
            found, self._fault = block.leading_numbers()
            numbers.append(found)
            places.append((block.starts + block.offset)[: len(found)])
            if self._fault:  # one only if more words are asked for
                break
        self._numbers = np.concatenate(numbers)
        self.places = np.concatenate(places)
        self.end = len(self._numbers)

    def size(self, code: str) -> int:
        return 1

    def lengths(self, code: str) -> Callable[[int], int]:
        numbers = memoryview(cast(Any, self._numbers))

        def length(at: int) -> int:
            number = numbers[at]
            if not 0 <= number <= len(numbers) or number % 1:
                raise MeshFormatError(f"it has {number:.9g} where the length of a list belongs")
            return int(number)

        return length

    def values(self, at: np.ndarray, code: str) -> np.ndarray:
        return self._numbers[at]

    def cut_short(self) -> MeshFormatError:
        return self._fault or MeshFormatError("it is cut short: its header asks for more numbers than there are")


class BinaryBody:
    def __init__(self, data: bytes, order: str):
        self._data, self._order = data, order
        self.end = len(data)

    def size(self, code: str) -> int:
        return np.dtype(code).itemsize

    def lengths(self, code: str) -> Callable[[int], int]:
        unpack, data = struct.Struct(self._order + _STRUCT[code]).unpack_from, self._data
        return lambda at: unpack(data, at)[0]

    def values(self, at: np.ndarray, code: str) -> np.ndarray:
        if len(at) == 0:
            return np.zeros(0, dtype=code)
        # A value may begin at any byte: an array with a stride of one byte has them all.
        dtype = np.dtype(self._order + code)
        return np.ndarray((self.end - dtype.itemsize + 1,), dtype, self._data, 0, (1,))[at]

    def cut_short(self) -> MeshFormatError:
        return MeshFormatError("it is cut short: its header asks for more bytes than there are")


class Rows:
    """The rows of one element, which begin at unit `at` of a body.

    A list ends a segment of its row: within a segment, all that comes before the list's items has a fixed place.
    """

    def __init__(self, body: Body, element: Element, at: int):
        self.body, self.element = body, element
        self._segment: list[int] = []  # of each property
        self._place: list[int] = []  # of each property, from its segment's first unit
        self._lists: list[
            tuple[int, int, str, int]
        ] = []  # property, units before its items, length's type, item's size
        units = 0
        for i, p in enumerate(element.properties):
            self._segment.append(len(self._lists))
            self._place.append(units)
            units += body.size(p.length or p.item)
            if p.length is not None:
                self._lists.append((i, units, p.length, body.size(p.item)))
                units = 0
        self._tail = units
        self._bases: list[np.ndarray] = []
        self.end = at
        if element.count and not self._uniform(at):
            self._walk(at)

    def places(self, prop: int) -> np.ndarray:
        """(count,) the unit at which this property begins in each row."""
        return self._bases[self._segment[prop]] + self._place[prop]

    def column(self, prop: int) -> np.ndarray:
        """(count,) values of a plain property."""
        return self.body.values(self.places(prop), self.element.properties[prop].item)

    def lists(self, prop: int, *, max_corners: int) -> tuple[np.ndarray, np.ndarray]:
        """All items of a list property, one row's after another's, and (count,) how many each row has; int64."""
        _, units, length, size = self._lists[self._segment[prop]]
        bases = self._bases[self._segment[prop]]
        counts = self.body.values(bases + units - self.body.size(length), length).astype(np.int64)
        total = int(counts.sum())
        if total > max_corners:
            raise MeshTooLargeError(f"its faces have {total} corners; the limit is {max_corners}")
        code = self.element.properties[prop].item
        if len(counts) and (counts == counts[0]).all():
            at = (bases + units)[:, None] + size * np.arange(counts[0])
        else:
            at = np.repeat(bases + units - size * (np.cumsum(counts) - counts), counts) + size * np.arange(total)
        items = self.body.values(at.reshape(-1), code)
        if items.dtype.kind == "f" and (items % 1 != 0).any():
            bad = float(items[items % 1 != 0][0])
            raise MeshFormatError(f"it has {bad:.9g} where a whole number belongs")
        return items.astype(np.int64), counts

    def _uniform(self, at: int) -> bool:
        """All rows at once, where each list is as long as in the first row; else False."""
        first = self._measured(at)
        if first is None or at + self.element.count * first[1] > self.body.end:
            return False
        lengths, stride = first
        starts = at + stride * np.arange(self.element.count, dtype=np.int64)
        bases = [starts]
        for (_, units, code, size), length in zip(self._lists, lengths, strict=True):
            if (self.body.values(bases[-1] + units - self.body.size(code), code) != length).any():
                return False
            bases.append(bases[-1] + units + length * size)
        self._bases, self.end = bases, at + self.element.count * stride
        return True

    def _measured(self, at: int) -> tuple[list[int], int] | None:
        """The lengths of the first row's lists and its units in all; None where it reaches past the end."""
        start, lengths = at, []
        for _, units, code, size in self._lists:
            if at + units > self.body.end:
                return None
            lengths.append(self.body.lengths(code)(at + units - self.body.size(code)))
            if lengths[-1] < 0:
                raise self.body.cut_short()
            at += units + lengths[-1] * size
        return lengths, at + self._tail - start

    def _walk(self, at: int) -> None:
        """Row by row: where the next begins is known only from this one's lists."""
        bases = [array("q") for _ in range(len(self._lists) + 1)]
        steps = [
            (base, units, units - self.body.size(code), self.body.lengths(code), size)
            for base, (_, units, code, size) in zip(bases, self._lists, strict=False)
        ]
        end, tail, last = self.body.end, self._tail, bases[-1]
        try:
            for _ in range(self.element.count):
                for base, units, before, length, size in steps:
                    base.append(at)
                    items = length(at + before)
                    if items < 0:
                        raise self.body.cut_short()
                    at += units + items * size
                    if at > end:
                        raise self.body.cut_short()
                last.append(at)
                at += tail
                if at > end:
                    raise self.body.cut_short()
        except (IndexError, struct.error):
            raise self.body.cut_short() from None
        self._bases, self.end = [np.frombuffer(base, dtype=np.int64) for base in bases], at
