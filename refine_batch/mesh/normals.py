"""Normals of faces and of vertices."""

from __future__ import annotations

import numpy as np

from refine_batch.mesh.mesh import Mesh


def area_normals(mesh: Mesh) -> np.ndarray:
    """(F, 3) float64 face normals, as long as twice the face's area."""
    return np.stack(across(mesh.vertices, mesh.faces), axis=1)


def across(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of (V, 3) vertices and (F, 3) faces by axes, which are passed through one after the other."""
    axes = np.ascontiguousarray(vertices.T, np.float64)
    one, two, three = (axes[:, faces[:, k]] for k in range(3))
    (a, b, c), (d, e, f) = two - one, three - one
    return b * f - c * e, c * d - a * f, a * e - b * d


def areas_about(mesh: Mesh) -> np.ndarray:
    """(V,) float64: twice the area of the faces about each vertex, each counted at its three corners."""
    area = np.linalg.norm(area_normals(mesh), axis=1)
    return np.bincount(mesh.faces.ravel(), np.repeat(area, 3), minlength=len(mesh.vertices))


def vertex_normals(mesh: Mesh) -> np.ndarray:
    """(V, 3) float64 unit normals, weighted by the faces' areas; zero where no face with an area meets."""
    with np.errstate(invalid="ignore"):
        normal = across(mesh.vertices, mesh.faces)
    corners = mesh.faces.ravel()
    normals = np.stack([np.bincount(corners, np.repeat(of_axis, 3), len(mesh.vertices)) for of_axis in normal], axis=1)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
