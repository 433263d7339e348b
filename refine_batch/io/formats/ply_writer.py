"""PLY with moved positions; colours, texture coordinates and every further element and property as they were."""

from __future__ import annotations

import numpy as np

from refine_batch.io.formats.common import MeshFormatError, Sibling
from refine_batch.io.formats.normals import Shading, renewed
from refine_batch.io.formats.ply import read_ply
from refine_batch.io.formats.ply_header import read_header
from refine_batch.io.formats.ply_rows import TextBody, element_rows
from refine_batch.io.formats.written import Written, check_count, replaced, texts


def write_ply(data: bytes, vertices: np.ndarray, max_faces: int, sibling: Sibling | None, stem: str) -> Written:
    """Vertex normals (nx, ny, nz) follow the surface where there are any."""
    found = read_ply(data, max_faces)
    check_count(vertices, len(found.vertices))
    header = read_header(data)
    element, rows = next((e, r) for e, r in element_rows(data, header) if e.name == "vertex" and e.count)
    moved = (vertices != found.vertices.astype(np.float32)).any(axis=1)
    columns = element.scalars("x", "y", "z")
    assert columns is not None
    values = vertices.astype(np.float64)
    normal_columns = element.scalars("nx", "ny", "nz")
    if normal_columns is not None:
        old = np.stack([rows.column(i).astype(np.float64) for i in normal_columns], axis=1)
        before = np.where(moved[:, None], found.vertices, values)
        new, _ = renewed(before, values, found.faces, Shading(old, np.arange(len(values)), found.faces))
        moved = moved | (new != old).any(axis=1)
        columns, values = columns + normal_columns, np.concatenate([values, new], axis=1)
    places = np.stack([rows.places(i) for i in columns], axis=1)
    if any(element.properties[i].item[0] != "f" for i in columns):
        raise MeshFormatError("its positions or normals are whole numbers; moved ones cannot be written as such")
    if header.text:
        body = rows.body
        assert isinstance(body, TextBody)
        return Written(replaced(data, body.places[places[moved]].reshape(-1), texts(values[moved])))
    changed = np.frombuffer(data, dtype=np.uint8).copy()
    for column, i in enumerate(columns):
        code = header.order + element.properties[i].item
        raw = values[moved, column].astype(code).view(np.uint8).reshape(-1, np.dtype(code).itemsize)
        changed[places[moved, column][:, None] + np.arange(raw.shape[1])] = raw
    return Written(changed.tobytes())
