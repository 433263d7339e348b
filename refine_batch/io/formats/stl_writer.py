"""STL with moved positions; header, attributes and what stands behind the facets as they were."""

from __future__ import annotations

import numpy as np

from refine_batch.io.formats.common import Sibling
from refine_batch.io.formats.normals import face_normals
from refine_batch.io.formats.stl import (
    FACET,
    HEADER,
    binary_facets,
    facet_normal_words,
    read_stl,
    stl_blocks,
    vertex_words,
)
from refine_batch.io.formats.written import Written, check_count, replaced, texts


def write_stl(data: bytes, vertices: np.ndarray, max_faces: int, sibling: Sibling | None, stem: str) -> Written:
    """Each facet's three corners, and its normal anew."""
    found = read_stl(data, max_faces)
    check_count(vertices, len(found.vertices))
    moved = (vertices != found.vertices.astype(np.float32)).any(axis=1)[found.faces].any(axis=1)
    corners = vertices[found.faces]
    normals = face_normals(vertices.astype(np.float64), found.faces).astype(np.float32)
    facets = binary_facets(data)
    if facets is not None:
        records = np.frombuffer(data, dtype=FACET, offset=HEADER, count=facets).copy()
        records["corners"][moved], records["normal"][moved] = corners[moved], normals[moved]
        return Written(data[:HEADER] + records.tobytes() + data[HEADER + records.nbytes :])
    places, normal_places = [], []
    for block in stl_blocks(data):
        places.append(block.starts[vertex_words(block)] + block.offset)
        normal_places.append(block.starts[facet_normal_words(block)] + block.offset)
    starts, values = np.concatenate(places).reshape(-1, 9)[moved].reshape(-1), corners[moved].reshape(-1)
    if (beside := np.concatenate(normal_places)).size == 3 * len(found.faces):
        starts = np.concatenate([starts, beside.reshape(-1, 3)[moved].reshape(-1)])
        values = np.concatenate([values, normals[moved].reshape(-1)])
    return Written(replaced(data, starts, texts(values)))
