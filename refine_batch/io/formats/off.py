"""Object File Format, as text: OFF, COFF, NOFF, STOFF and their combinations."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from refine_batch.io.formats.common import (
    Geometry,
    MeshFormatError,
    Sibling,
    check_face_count,
    check_vertex_count,
    degenerate_note,
    fans,
)
from refine_batch.io.formats.text import Block, blocks

# The counts may follow at once, as in ModelNet40: OFF642 1280 0.
_KEYWORD = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:ST)?C?N?OFF(?=[\s\d#]|$)")


def looks_like_off(data: bytes) -> bool:
    return _KEYWORD.match(data[:64]) is not None


def read_off(data: bytes, max_faces: int, sibling: Sibling | None = None) -> Geometry:
    """Polygons become fans, colours and normals are left out."""
    rows = OffRows(data)
    check_face_count(rows.face_count, max_faces)
    check_vertex_count(rows.vertex_count, max_faces)
    # The shortest lines there are: "0 0 0" and "1 0", with their ends.
    if rows.vertex_count * 6 + rows.face_count * 4 > len(data) + 2:
        raise MeshFormatError(
            f"it is cut short: {rows.vertex_count} vertices and {rows.face_count} faces need more bytes"
        )
    vertices, corners, counts = [np.zeros((0, 3))], [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for block, is_vertex, is_face in rows:
        vertices.append(block.numbers(off_coordinates(block, is_vertex)).reshape(-1, 3))
        counts.append(_counts(block, is_face))
        length = np.zeros(len(block.first), dtype=np.int64)
        length[is_face] = counts[-1]
        corners.append(block.numbers((block.place >= 1) & (block.place <= length[block.row]), whole=True))
    sizes = np.concatenate(counts)
    points = np.concatenate(vertices)
    if len(points) < rows.vertex_count or len(sizes) < rows.face_count:
        raise MeshFormatError(
            f"it is cut short: {len(points)} of {rows.vertex_count} vertices, {len(sizes)} of {rows.face_count} faces"
        )
    return Geometry(points, fans(np.concatenate(corners), sizes, max_faces), degenerate_note(sizes))


class OffRows:
    """The blocks of the file behind its counts, and which of their rows are vertices and which faces."""

    def __init__(self, data: bytes):
        keyword = _KEYWORD.match(data)
        if keyword is None:
            raise MeshFormatError("it does not begin with OFF")
        if data[keyword.end() : keyword.end() + 8].split()[:1] == [b"BINARY"]:
            raise MeshFormatError("binary OFF is not supported; write it as text")
        self.has_normals = b"N" in keyword[0]
        self._blocks = blocks(data, keyword.end(), comments=True)
        self._head: Block | None = next((block for block in self._blocks if len(block.first)), None)
        if self._head is None or self._head.counts[0] < 2:
            raise MeshFormatError("the line with the numbers of vertices and faces is missing")
        counts = self._head.numbers((self._head.row == 0) & (self._head.place < 2), whole=True)
        self.vertex_count, self.face_count = counts.tolist()
        if self.vertex_count < 0 or self.face_count < 0:
            raise MeshFormatError(f"it claims {self.vertex_count} vertices and {self.face_count} faces")

    def __iter__(self) -> Iterator[tuple[Block, np.ndarray, np.ndarray]]:
        """A block, and for each of its rows whether it is a vertex, and whether a face."""
        number = -1  # of the block's first row, the line of counts not counted
        block = self._head
        while block is not None:
            index = number + np.arange(len(block.first))
            is_vertex = (index >= 0) & (index < self.vertex_count)
            yield block, is_vertex, (index >= self.vertex_count) & (index < self.vertex_count + self.face_count)
            number += len(block.first)
            block = next(self._blocks, None)


def off_coordinates(block: Block, is_vertex: np.ndarray) -> np.ndarray:
    """(W,) which words of a block are coordinates."""
    short = is_vertex & (block.counts < 3)
    if short.any():
        row = int(np.flatnonzero(short)[0])
        line = block.line_of(int(block.first[row]))
        raise MeshFormatError(f"line {line}: a vertex has {int(block.counts[row])} coordinates; it needs 3")
    return is_vertex[block.row] & (block.place < 3)


def _counts(block: Block, is_face: np.ndarray) -> np.ndarray:
    """(F,) corners of each face."""
    counts = block.numbers(is_face[block.row] & (block.place == 0), whole=True)
    named = block.counts[is_face] - 1
    wrong = (counts < 1) | (counts > named)
    if wrong.any():
        bad = int(np.flatnonzero(wrong)[0])
        line = block.line_of(int(block.first[is_face][bad]))
        raise MeshFormatError(f"line {line}: a face claims {counts[bad]} corners and names {named[bad]}")
    return counts
