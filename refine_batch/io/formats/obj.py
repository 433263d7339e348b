"""Wavefront OBJ, the geometry only: `v` and `f` lines.

Materials (`mtllib`, `usemtl`) are not read, so no other file is ever opened. Objects and groups are one mesh, their
vertices already being numbered through.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refine_batch.io.formats.common import (
    BYTE_ORDER_MARK,
    Geometry,
    MeshFormatError,
    Sibling,
    check_face_count,
    check_vertex_count,
    degenerate_note,
    excerpt,
    fans,
)
from refine_batch.io.formats.text import Block, blocks


def read_obj(data: bytes, max_faces: int, sibling: Sibling | None = None) -> Geometry:
    """Polygons become fans, negative indices count from the end; a face of fewer than three corners is left out."""
    check_face_count(data.count(b"\nf ") + data.startswith(b"f "), max_faces)
    check_vertex_count(data.count(b"\nv ") + data.startswith(b"v "), max_faces)
    vertices, corners, counts = [np.zeros((0, 3))], [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    seen = triangles = 0
    for block in obj_blocks(data):
        is_vertex, is_face = block.begins_with(b"v"), block.begins_with(b"f")
        vertices.append(_vertices(block, is_vertex))
        corners.append(_corners(block, is_face, seen + np.cumsum(is_vertex)))
        counts.append(block.counts[is_face] - 1)
        seen += len(vertices[-1])
        triangles += int(np.maximum(counts[-1] - 2, 0).sum())
        check_vertex_count(seen, max_faces)
        check_face_count(triangles, max_faces)
    sizes = np.concatenate(counts)
    faces = fans(np.concatenate(corners), sizes, max_faces)
    return Geometry(np.concatenate(vertices), faces, degenerate_note(sizes))


def obj_blocks(data: bytes) -> Iterator[Block]:
    """The file's lines, those that end in a backslash joined with the next; every byte stays in its place."""
    if b"\x00" in data[:4096]:
        raise MeshFormatError("it is binary, not the text of an OBJ file")
    if data.startswith(BYTE_ORDER_MARK):
        data = b"   " + data[3:]
    if b"\\" in data:
        data = data.replace(b"\\\r\n", b"   ").replace(b"\\\n", b"  ")
    return blocks(data, comments=True)


def coordinate_words(block: Block, is_vertex: np.ndarray) -> np.ndarray:
    """(W,) which words of a block are the coordinates of a vertex; colours and weights behind them are not."""
    short = is_vertex & (block.counts < 4)
    if short.any():
        row = int(np.flatnonzero(short)[0])
        found = int(block.counts[row]) - 1
        line = block.line_of(int(block.first[row]))
        raise MeshFormatError(f"line {line}: a vertex has {found} coordinates; it needs 3")
    return is_vertex[block.row] & (block.place >= 1) & (block.place <= 3)


def _vertices(block: Block, is_vertex: np.ndarray) -> np.ndarray:
    if not is_vertex.any():
        return np.zeros((0, 3))
    return block.numbers(coordinate_words(block, is_vertex)).reshape(-1, 3)


def _corners(block: Block, is_face: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Indices from 0 of `f 1 2 3`, `f 1/1 2/2 3/3`, `f 1//1 …` and `f -3 -2 -1`; `seen` (R,) vertices stand above."""
    if not is_face.any():
        return np.zeros(0, dtype=np.int64)
    words = is_face[block.row] & (block.place >= 1)
    where, indices, _ = block.fields(words, 0)
    return resolved(block, where, indices, seen, "vertex")


def resolved(block: Block, words: np.ndarray, indices: np.ndarray, seen: np.ndarray, what: str) -> np.ndarray:
    """Indices from 0; negative ones count back from the `seen` (R,) that stand above their row."""
    above = seen[block.row[words]]
    wrong = (indices == 0) | (indices < -above)
    if wrong.any():
        bad = int(np.flatnonzero(wrong)[0])
        text, count = excerpt(block.word(int(words[bad]))), int(above[bad])
        raise MeshFormatError(f"line {block.line_of(int(words[bad]))}: {text} names no {what} ({count} stand above it)")
    return np.where(indices > 0, indices - 1, above + indices)
