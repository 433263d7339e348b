"""STL, binary and text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refine_batch.io.formats.common import (
    BYTE_ORDER_MARK,
    Geometry,
    MeshFormatError,
    Sibling,
    check_face_count,
)
from refine_batch.io.formats.text import Block, blocks

FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
HEADER = 84


def read_stl(data: bytes, max_faces: int, sibling: Sibling | None = None) -> Geometry:
    """Vertices and faces in the order of the facets.

    STL repeats a vertex in each of its facets and a graph on it would have no edges between facets, so corners whose
    coordinates are identical become one vertex, numbered by first appearance. No other format is merged.
    """
    notes: tuple[str, ...] = ()
    facets = binary_facets(data)
    if facets is not None:
        check_face_count(facets, max_faces)
        corners = np.frombuffer(data, dtype=FACET, offset=HEADER, count=facets)["corners"].astype(np.float64)
        surplus = len(data) - HEADER - facets * FACET.itemsize
        if surplus:
            notes = (f"{surplus} bytes behind the last facet are left out",)
    else:
        corners = _read_text(data, max_faces)
    vertices, faces = merged(corners.reshape(-1, 3))
    return Geometry(vertices, faces, notes)


def binary_facets(data: bytes) -> int | None:
    """The number of facets of a binary STL; None for text.

    What begins with `solid` may still be binary: the length tells.
    """
    claimed = int.from_bytes(data[80:HEADER], "little") if len(data) >= HEADER else -1
    end = HEADER + claimed * FACET.itemsize
    if claimed >= 0 and end == len(data):
        return claimed
    start = data[:512].removeprefix(BYTE_ORDER_MARK)
    if start.lstrip().lower().startswith(b"solid") and b"\x00" not in start:
        return None
    if claimed > 0 and end <= len(data):
        return claimed
    found = f" (its header claims {claimed} facets, {len(data)} bytes are there)" if claimed >= 0 else ""
    raise MeshFormatError(f"it is neither a text STL nor a whole binary one{found}")


def stl_blocks(data: bytes) -> Iterator[Block]:
    """The lines of a text STL."""
    return blocks(data, 3 if data.startswith(BYTE_ORDER_MARK) else 0, comments=False)


def vertex_words(block: Block) -> np.ndarray:
    """(W,) which words of a block are coordinates."""
    is_vertex = block.begins_with(b"vertex", any_case=True)
    short = is_vertex & (block.counts < 4)
    if short.any():
        row = int(np.flatnonzero(short)[0])
        line = block.line_of(int(block.first[row]))
        raise MeshFormatError(f"line {line}: a vertex has {int(block.counts[row]) - 1} coordinates; it needs 3")
    return is_vertex[block.row] & (block.place >= 1) & (block.place <= 3)


def facet_normal_words(block: Block) -> np.ndarray:
    """(W,) which words of a block are components of a facet's normal."""
    is_facet = block.begins_with(b"facet", any_case=True) & (block.counts == 5)
    return is_facet[block.row] & (block.place >= 2)


def _read_text(data: bytes, max_faces: int) -> np.ndarray:
    check_face_count(data.count(b"endfacet"), max_faces)
    corners = [np.zeros((0, 3))]
    last = b""
    for block in stl_blocks(data):
        if len(block.first):
            last = b"".join(block.word(i) for i in range(int(block.first[-1]), len(block.starts))[:2])
        corners.append(block.numbers(vertex_words(block)).reshape(-1, 3))
    points = np.concatenate(corners)
    if not last.lower().startswith(b"endsolid"):
        raise MeshFormatError("it is cut short: the last line is not endsolid")
    if len(points) % 3:
        raise MeshFormatError(f"it has {len(points)} facet corners, which is no multiple of 3")
    check_face_count(len(points) // 3, max_faces)
    return points


def merged(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different ones among (C, 3) corners, by first appearance, and (C / 3, 3) faces of them."""
    corners = corners + 0.0  # −0.0 and 0.0 are one place
    order = np.lexsort(corners.T)  # stable: within a place the first comes first
    ranked = corners[order]
    begins = np.ones(len(corners), dtype=bool)
    begins[1:] = (ranked[1:] != ranked[:-1]).any(axis=1)
    group = np.empty(len(corners), dtype=np.int64)
    group[order] = np.cumsum(begins) - 1
    first = order[begins]
    by_appearance = np.argsort(first)
    rank = np.empty_like(by_appearance)
    rank[by_appearance] = np.arange(len(by_appearance))
    return corners[first[by_appearance]], rank[group].reshape(-1, 3)
