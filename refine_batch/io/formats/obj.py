"""Wavefront OBJ, the geometry only: `v` and `f` lines.

Materials (`mtllib`, `usemtl`) are not read, so no other file is ever opened. Objects and groups are one mesh, their
vertices already being numbered through.
"""

from __future__ import annotations

import numpy as np

from refine_batch.io.formats.common import (
    MeshFormatError,
    check_face_count,
    check_vertex_count,
    excerpt,
    fans,
    integer,
    lines,
    number,
)


def read_obj(data: bytes, max_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) float64 vertices and (F, 3) int64 faces; polygons become fans, negative indices count from the end."""
    check_face_count(data.count(b"\nf ") + data.startswith(b"f "), max_faces)
    check_vertex_count(data.count(b"\nv ") + data.startswith(b"v "), max_faces)
    if b"\x00" in data[:4096]:
        raise MeshFormatError("it is binary, not the text of an OBJ file")
    if b"\\" in data:
        data = data.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ")
    vertices: list[tuple[float, float, float]] = []
    polygons: list[list[int]] = []
    for line_number, words in lines(data):
        if words[0] == b"v":
            vertices.append(_vertex(words, line_number))
        elif words[0] == b"f":
            polygons.append(_corners(words, len(vertices), line_number))
    return np.array(vertices, dtype=np.float64).reshape(-1, 3), fans(polygons, max_faces)


def _vertex(words: list[bytes], line_number: int) -> tuple[float, float, float]:
    if len(words) < 4:
        raise MeshFormatError(f"line {line_number}: a vertex has {len(words) - 1} coordinates; it needs 3")
    try:
        return float(words[1]), float(words[2]), float(words[3])
    except ValueError:
        x, y, z = (number(word, f"line {line_number}") for word in words[1:4])
        return x, y, z


def _corners(words: list[bytes], seen: int, line_number: int) -> list[int]:
    """Indices from 0 of `f 1 2 3`, `f 1/1 2/2 3/3`, `f 1//1 …` and `f -3 -2 -1`, `seen` vertices standing above."""
    corners = []
    for word in words[1:]:
        if word.startswith(b"#"):
            break
        index = integer(word.partition(b"/")[0], f"line {line_number}")
        if index == 0 or index < -seen:
            raise MeshFormatError(f"line {line_number}: {excerpt(word)} names no vertex ({seen} stand above it)")
        corners.append(index - 1 if index > 0 else seen + index)
    if len(corners) < 3:
        raise MeshFormatError(f"line {line_number}: a face has {len(corners)} corners; it needs at least 3")
    return corners
