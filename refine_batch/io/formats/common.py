"""What the readers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# The bytes of a file that lies beside the mesh, asked for by its relative name; at most so many of them.
Sibling = Callable[[str, int], bytes]


class MeshFormatError(ValueError):
    """The bytes are not a mesh of this format; the text says why, without naming the file."""


class MeshTooLargeError(ValueError):
    """More faces or vertices than allowed; the text says how many, as far as known."""


@dataclass(frozen=True)
class Geometry:
    """What a reader found.

    Parameters
    ----------
    vertices : (V, 3) float64
        In the file's own order.
    faces : (F, 3) int64
        Polygons cut into fans; indices may still be out of range.
    notes
        Sentences about what was left out, without the file's name.
    """

    vertices: np.ndarray
    faces: np.ndarray
    notes: tuple[str, ...] = ()


def check_face_count(count: int, max_faces: int) -> None:
    if count > max_faces:
        raise MeshTooLargeError(f"it has {count} faces; the limit is {max_faces}")


def check_vertex_count(count: int, max_faces: int) -> None:
    """Faces that share nothing have three vertices each; a file with more than that for the most faces is no mesh."""
    if count > 3 * max_faces:
        raise MeshTooLargeError(f"it has {count} vertices; the limit is {3 * max_faces}")


def fans(corners: np.ndarray, counts: np.ndarray, limit: int) -> np.ndarray:
    """(F, 3): each polygon cut into a fan about its first corner, in the order given.

    Parameters
    ----------
    corners : (C,) int64
        The polygons' vertices, one polygon after another.
    counts : (P,) int64
        Corners of each polygon. One of k ≥ 3 gives k − 2 triangles; one of fewer encloses nothing and gives none.
    limit
        The most triangles, checked before they are made.
    """
    if len(counts) == 0:
        return np.zeros((0, 3), dtype=np.int64)
    triangles = np.maximum(counts - 2, 0)
    total = int(triangles.sum())
    check_face_count(total, limit)
    if (counts == 3).all():
        return corners.reshape(-1, 3)
    first = np.repeat(np.cumsum(counts) - counts, triangles)
    place = np.arange(total) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    return np.stack([corners[first], corners[first + place + 1], corners[first + place + 2]], axis=1)


def degenerate_note(counts: np.ndarray) -> tuple[str, ...]:
    """The sentence about polygons of fewer than three corners, if there are any."""
    number = int((counts < 3).sum())
    return (f"{number} faces have fewer than 3 corners and are left out",) if number else ()


def excerpt(text: bytes) -> str:
    """At most 40 characters of hostile bytes, quoted and printable."""
    return ascii(text[:40].decode("latin-1"))
