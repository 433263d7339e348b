"""OFF with moved positions; colours, comments and polygons as they were."""

from __future__ import annotations

import numpy as np

from refine_batch.io.formats.common import Sibling
from refine_batch.io.formats.normals import Shading, renewed
from refine_batch.io.formats.off import OffRows, off_coordinates, read_off
from refine_batch.io.formats.written import Written, check_count, replaced, texts


def write_off(data: bytes, vertices: np.ndarray, max_faces: int, sibling: Sibling | None, stem: str) -> Written:
    """NOFF's normals follow the surface."""
    found = read_off(data, max_faces)
    check_count(vertices, len(found.vertices))
    rows = OffRows(data)
    starts, normal_starts, normals = [], [], []
    for block, is_vertex, _ in rows:
        words = off_coordinates(block, is_vertex)
        starts.append(block.starts[words] + block.offset)
        if rows.has_normals:
            words = is_vertex[block.row] & (block.place >= 3) & (block.place < 6)
            normal_starts.append(block.starts[words] + block.offset)
            normals.append(block.numbers(words))
    moved = (vertices != found.vertices.astype(np.float32)).any(axis=1)
    places, values = np.concatenate(starts).reshape(-1, 3), vertices.astype(np.float64)
    if normals and (old := np.concatenate(normals)).size == 3 * len(vertices):
        own = np.arange(len(vertices))
        before = np.where(moved[:, None], found.vertices, values)
        new, _ = renewed(before, values, found.faces, Shading(old.reshape(-1, 3), own, found.faces))
        places = np.concatenate([places, np.concatenate(normal_starts).reshape(-1, 3)], axis=1)
        moved = moved | (new != old.reshape(-1, 3)).any(axis=1)
        values = np.concatenate([values, new], axis=1)
    return Written(replaced(data, places[moved].reshape(-1), texts(values[moved])))
