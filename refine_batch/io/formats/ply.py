"""Stanford PLY: text and both binary byte orders, with any further elements and properties."""

from __future__ import annotations

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
from refine_batch.io.formats.ply_header import Element, read_header
from refine_batch.io.formats.ply_rows import element_rows

_INDEX_NAMES = ("vertex_indices", "vertex_index")


def read_ply(data: bytes, max_faces: int, sibling: Sibling | None = None) -> Geometry:
    """Polygons become fans, triangle strips are taken apart, every other property is left out."""
    header = read_header(data)
    for element in header.elements:
        if element.name == "face":
            check_face_count(element.count, max_faces)
        elif element.name == "vertex":
            check_vertex_count(element.count, max_faces)
    vertices, faces = np.zeros((0, 3)), [np.zeros((0, 3), dtype=np.int64)]
    notes: tuple[str, ...] = ()
    for element, rows in element_rows(data, header):
        if element.name == "vertex" and element.count:
            places = element.scalars("x", "y", "z")
            if places is None:
                raise MeshFormatError("its vertices have no plain properties x, y and z")
            vertices = np.stack([rows.column(i).astype(np.float64) for i in places], axis=1)
        elif element.name in ("face", "tristrips") and element.count:
            corners, counts = rows.lists(_index_list(element), max_corners=3 * max_faces + 2 * element.count)
            if element.name == "face":
                faces.append(fans(corners, counts, max_faces))
                notes = degenerate_note(counts)
            else:
                faces.append(_strips(corners, counts))
                check_face_count(len(faces[-1]), max_faces)
    return Geometry(vertices, np.concatenate(faces), notes)


def read_ply_colours(data: bytes, max_faces: int) -> np.ndarray | None:
    """(V, 3) uint8: the colours of its vertices, where it has `red`, `green` and `blue` as bytes; else None."""
    header = read_header(data)
    for element in header.elements:
        if element.name == "vertex":
            check_vertex_count(element.count, max_faces)
    for element, rows in element_rows(data, header):
        places = element.scalars("red", "green", "blue") if element.name == "vertex" and element.count else None
        if places is not None:
            columns = [rows.column(i) for i in places]
            if all(np.asarray(c).dtype.kind != "f" for c in columns):
                return np.stack([np.clip(c, 0, 255).astype(np.uint8) for c in columns], axis=1)
    return None


def _index_list(element: Element) -> int:
    for i, p in enumerate(element.properties):
        if p.name in _INDEX_NAMES and p.length is not None:
            return i
    raise MeshFormatError("its faces have no list vertex_indices")


def _strips(corners: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(F, 3) triangles of strips; −1 ends a strip within a list, and every second triangle is turned round."""
    number = np.arange(len(corners))
    begins = np.zeros(len(corners), dtype=bool)
    begins[(np.cumsum(counts) - counts)[counts > 0]] = True
    begins[1:] |= corners[:-1] == -1
    place = number - np.maximum.accumulate(np.where(begins, number, 0))
    last = np.flatnonzero((place >= 2) & (corners != -1))
    faces = np.stack([corners[last - 2], corners[last - 1], corners[last]], axis=1)
    odd = place[last] % 2 == 1
    faces[odd] = faces[odd][:, [1, 0, 2]]
    return faces
