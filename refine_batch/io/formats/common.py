"""What the readers share."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

MAX_LINE = 1 << 20


class MeshFormatError(ValueError):
    """The bytes are not a mesh of this format; the text says why, without naming the file."""


class MeshTooLargeError(ValueError):
    """More faces or vertices than allowed; the text says how many, as far as known."""


def check_face_count(count: int, max_faces: int) -> None:
    if count > max_faces:
        raise MeshTooLargeError(f"it has {count} faces; the limit is {max_faces}")


def check_vertex_count(count: int, max_faces: int) -> None:
    """Faces that share nothing have three vertices each; a file with more than that for the most faces is no mesh."""
    if count > 3 * max_faces:
        raise MeshTooLargeError(f"it has {count} vertices; the limit is {3 * max_faces}")


def lines(data: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Number (from 1) and words of each line that has any, one at a time: no claim or filler costs memory."""
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    for line_number, line in enumerate(io.BytesIO(data), start=1):
        if len(line) > MAX_LINE:
            raise MeshFormatError(f"line {line_number} has {len(line)} bytes; the limit is {MAX_LINE}")
        words = line.split()
        if words:
            yield line_number, words


def fans(polygons: Iterable[Sequence[int]], limit: int) -> np.ndarray:
    """(F, 3) int64: each polygon cut into a fan about its first corner, in the order given.

    A polygon of k ≥ 3 corners gives k − 2 triangles.
    """
    faces: list[tuple[int, int, int]] = []
    for number, polygon in enumerate(polygons, start=1):
        if len(polygon) == 3:
            faces.append((polygon[0], polygon[1], polygon[2]))
            continue
        if len(polygon) < 3:
            raise MeshFormatError(f"face {number} has {len(polygon)} corners; it needs at least 3")
        check_face_count(len(faces) + len(polygon) - 2, limit)
        first = polygon[0]
        faces.extend((first, polygon[i], polygon[i + 1]) for i in range(1, len(polygon) - 1))
    check_face_count(len(faces), limit)
    return np.array(faces, dtype=np.int64).reshape(-1, 3)


def fan_rows(polygons: np.ndarray) -> np.ndarray:
    """(F·(k − 2), 3): fans of F polygons of k corners each."""
    k = polygons.shape[1]
    if k < 3:
        raise MeshFormatError(f"its faces have {k} corners; they need at least 3")
    triangles = [np.stack([polygons[:, 0], polygons[:, i], polygons[:, i + 1]], axis=1) for i in range(1, k - 1)]
    return np.stack(triangles, axis=1).reshape(-1, 3)


def number(text: bytes, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise MeshFormatError(f"{what}: {excerpt(text)} is not a number") from None


def integer(text: bytes, what: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise MeshFormatError(f"{what}: {excerpt(text)} is not a whole number") from None


def excerpt(text: bytes) -> str:
    """At most 40 characters of hostile bytes, quoted and printable."""
    return ascii(text[:40].decode("latin-1"))
