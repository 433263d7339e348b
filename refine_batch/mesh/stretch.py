"""By how much a surface is stretched where its vertices move."""

from __future__ import annotations

import numpy as np


def largest_stretch(rest: np.ndarray, moved: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F,) float64: by how many times each face became longer in the direction in which it did so most.

    The larger singular value of the map that takes the face at rest to the moved one, from the first fundamental forms
    G₀ and G₁ of both: its square is the larger eigenvalue of G₀⁻¹G₁, (t + √(t² − 4d)) / 2 by trace and determinant
    (do Carmo, Differential Geometry of Curves and Surfaces, 2-5). One where a face had no area.

    Parameters
    ----------
    rest, moved : (V, 3)
    faces : (F, 3)
    """
    (e0, f0, g0), (e1, f1, g1) = (_form(np.asarray(vertices, np.float64), faces) for vertices in (rest, moved))
    area = e0 * g0 - f0 * f0
    flat = area <= 1e-12 * (e0 + g0) ** 2
    area = np.where(flat, 1.0, area)
    trace = (g0 * e1 - 2.0 * f0 * f1 + e0 * g1) / area
    determinant = (e1 * g1 - f1 * f1) / area
    squared = (trace + np.sqrt(np.maximum(trace**2 - 4.0 * determinant, 0.0))) / 2.0
    return np.where(flat, 1.0, np.sqrt(np.maximum(squared, 0.0)))


def _form(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first fundamental form in the coordinates of two edges: E, F and G of each face."""
    first = vertices[faces]
    u, v = first[:, 1] - first[:, 0], first[:, 2] - first[:, 0]
    return (u * u).sum(axis=1), (u * v).sum(axis=1), (v * v).sum(axis=1)
