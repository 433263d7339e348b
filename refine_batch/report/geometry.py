"""Meshes small enough to travel in a page."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from refine_batch.mesh import Mesh

# More than a view of 300 pixels shows.
MAX_FACES = 10_000
# Of positions and faces together: 24 instances with three such meshes each, and their pictures, stay below 15 MB.
MAX_BYTES = 115_000
_LEVELS = 65_535


def encode(mesh: Mesh, *, max_faces: int = MAX_FACES) -> dict[str, Any]:
    """The mesh as JSON takes it: positions in 16-bit steps of its box, both arrays little-endian in base64.

    Returns `low` and `size` (3 floats each, object units), `vertices` (uint16 (V, 3)), `faces` (uint16 or uint32
    (F, 3); `wide` tells) and `of`, the mesh's own number of faces where it is shown with fewer, else null. A position
    is off by at most 1/131 070 of the box's side.
    """
    vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    number = len(faces)
    simplified = number > 1.2 * max_faces
    if simplified:
        vertices, faces = _decimated(vertices, faces, max_faces)
    low = vertices[np.unique(faces)].min(axis=0) if len(faces) else np.zeros(3)
    size = np.maximum((vertices[np.unique(faces)].max(axis=0) if len(faces) else low) - low, 1e-12)
    steps = np.rint(np.clip((vertices - low) / size, 0.0, 1.0) * _LEVELS).astype("<u2")
    steps, faces = _welded(steps, faces)
    size_now = steps.nbytes + 6 * len(faces)
    if size_now > MAX_BYTES:
        # What could not be simplified enough, such as loose triangles, is thinned out: it is only looked at.
        simplified = True
        kept = np.linspace(0, len(faces) - 1, int(len(faces) * MAX_BYTES / size_now)).astype(np.int64)
        steps, faces = _welded(steps, faces[kept])
    wide = len(steps) > _LEVELS
    return {
        "low": low.tolist(),
        "size": size.tolist(),
        "vertices": _base64(steps),
        "faces": _base64(faces.astype("<u4" if wide else "<u2")),
        "wide": wide,
        "of": number if simplified else None,
    }


def _welded(steps: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Repeated corners, as STL has them, become one; vertices of no face go."""
    found, inverse = np.unique(steps[faces.reshape(-1)], axis=0, return_inverse=True)
    return found, inverse.reshape(-1, 3)


def _decimated(vertices: np.ndarray, faces: np.ndarray, max_faces: int) -> tuple[np.ndarray, np.ndarray]:
    import fast_simplification

    reduction = 1.0 - max_faces / len(faces)
    fewer, triangles = fast_simplification.simplify(vertices.astype(np.float32), faces.astype(np.int32), reduction)
    return np.asarray(fewer, np.float64), np.asarray(triangles, np.int64)


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
