"""Object File Format, as text: OFF, COFF, NOFF, STOFF and their combinations."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from refine_batch.io.formats.common import (
    MeshFormatError,
    check_face_count,
    check_vertex_count,
    fans,
    integer,
    lines,
    number,
)

_KEYWORD = re.compile(rb"\s*(?:ST)?C?N?OFF\b")


def looks_like_off(data: bytes) -> bool:
    return _KEYWORD.match(data[:64]) is not None


def read_off(data: bytes, max_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) float64 vertices and (F, 3) int64 faces; polygons become fans, colours and normals are left out."""
    keyword = _KEYWORD.match(data)
    if keyword is None:
        raise MeshFormatError("it does not begin with OFF")
    rows = _rows(data[keyword.end() :])
    counts = next(rows, [])
    if counts[:1] == [b"BINARY"]:
        raise MeshFormatError("binary OFF is not supported; write it as text")
    if len(counts) < 2:
        raise MeshFormatError("the line with the numbers of vertices and faces is missing")
    vertex_count, face_count = (integer(word, "the line of counts") for word in counts[:2])
    if vertex_count < 0 or face_count < 0:
        raise MeshFormatError(f"it claims {vertex_count} vertices and {face_count} faces")
    check_face_count(face_count, max_faces)
    check_vertex_count(vertex_count, max_faces)
    # The shortest lines there are: "0 0 0" and "3 0 1 2", with their ends.
    if vertex_count * 6 + face_count * 8 > len(data) + 2:
        raise MeshFormatError(f"it is cut short: {vertex_count} vertices and {face_count} faces need more bytes")
    vertices = [_vertex(words, i) for i, words in zip(range(vertex_count), rows, strict=False)]
    polygons = [_polygon(words, i) for i, words in zip(range(face_count), rows, strict=False)]
    if len(vertices) < vertex_count or len(polygons) < face_count:
        raise MeshFormatError(
            f"it is cut short: {len(vertices)} of {vertex_count} vertices, {len(polygons)} of {face_count} faces"
        )
    return np.array(vertices, dtype=np.float64).reshape(-1, 3), fans(polygons, max_faces)


def _rows(text: bytes) -> Iterator[list[bytes]]:
    """Words of each line, comments left out."""
    for _, words in lines(text):
        comment = next((i for i, word in enumerate(words) if b"#" in word), len(words))
        kept = words[:comment]
        if comment < len(words) and not words[comment].startswith(b"#"):
            kept.append(words[comment].partition(b"#")[0])
        if kept:
            yield kept


def _vertex(words: list[bytes], index: int) -> tuple[float, float, float]:
    if len(words) < 3:
        raise MeshFormatError(f"vertex {index} has {len(words)} coordinates; it needs 3")
    x, y, z = (number(word, f"vertex {index}") for word in words[:3])
    return x, y, z


def _polygon(words: list[bytes], index: int) -> list[int]:
    corners = integer(words[0], f"face {index}")
    if not 3 <= corners < len(words):
        raise MeshFormatError(f"face {index} claims {corners} corners and names {len(words) - 1}")
    return [integer(word, f"face {index}") for word in words[1 : corners + 1]]
