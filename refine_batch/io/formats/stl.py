"""STL, binary and text."""

from __future__ import annotations

import numpy as np

from refine_batch.io.formats.common import MeshFormatError, check_face_count, lines, number

_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_HEADER = 84


def read_stl(data: bytes, max_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) vertices and (F, 3) int64 faces, in the order of the facets.

    STL repeats a vertex in each of its facets and a graph on it would have no edges between facets, so corners whose
    coordinates are identical become one vertex, numbered by first appearance. No other format is merged.
    """
    facets = int.from_bytes(data[80:_HEADER], "little") if len(data) >= _HEADER else -1
    if facets >= 0 and len(data) == _HEADER + facets * _FACET.itemsize:
        check_face_count(facets, max_faces)
        corners = np.frombuffer(data, dtype=_FACET, offset=_HEADER)["corners"].astype(np.float64)
    elif data[:512].lstrip().lower().startswith(b"solid") and b"\x00" not in data[:512]:
        corners = _read_text(data, max_faces)
    else:
        claimed = f" (its header claims {facets} facets, {len(data)} bytes are there)" if facets >= 0 else ""
        raise MeshFormatError(f"it is neither a text STL nor a whole binary one{claimed}")
    return _merge(corners.reshape(-1, 3))


def _read_text(data: bytes, max_faces: int) -> np.ndarray:
    check_face_count(data.count(b"endfacet"), max_faces)
    corners: list[list[float]] = []
    last: list[bytes] = []
    for line_number, words in lines(data):
        last = words
        if words[0].lower() == b"vertex":
            if len(words) < 4:
                raise MeshFormatError(f"line {line_number}: a vertex has {len(words) - 1} coordinates; it needs 3")
            corners.append([number(word, f"line {line_number}") for word in words[1:4]])
    if not b"".join(last).lower().startswith(b"endsolid"):
        raise MeshFormatError("it is cut short: the last line is not endsolid")
    if len(corners) % 3:
        raise MeshFormatError(f"it has {len(corners)} facet corners, which is no multiple of 3")
    check_face_count(len(corners) // 3, max_faces)
    return np.array(corners, dtype=np.float64).reshape(-1, 3)


def _merge(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    corners = corners + 0.0  # −0.0 and 0.0 are one place
    _, first, inverse = np.unique(corners, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return corners[first[order]], rank[inverse.reshape(-1)].reshape(-1, 3)
