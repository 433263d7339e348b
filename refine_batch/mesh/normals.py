"""Normals of faces and of vertices."""

from __future__ import annotations

import numpy as np

from refine_batch.mesh.mesh import Mesh


def area_normals(mesh: Mesh) -> np.ndarray:
    """(F, 3) float64 face normals, as long as twice the face's area."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    return np.cross(b - a, c - a)


def areas_about(mesh: Mesh) -> np.ndarray:
    """(V,) float64: twice the area of the faces about each vertex, each counted at its three corners."""
    area = np.linalg.norm(area_normals(mesh), axis=1)
    return np.bincount(mesh.faces.ravel(), np.repeat(area, 3), minlength=len(mesh.vertices))


def vertex_normals(mesh: Mesh) -> np.ndarray:
    """(V, 3) float64 unit normals, weighted by the faces' areas; zero where no face with an area meets."""
    with np.errstate(invalid="ignore"):
        across = area_normals(mesh)
    corners = mesh.faces.ravel()
    normals = np.stack(
        [np.bincount(corners, np.repeat(across[:, axis], 3), len(mesh.vertices)) for axis in range(3)], axis=1
    )
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
