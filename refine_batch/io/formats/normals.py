"""Normals and tangents of a surface that has moved: what was smooth stays smooth, what was an edge stays one.

A file's normals say more than its faces do: which edges are creases, how faces are weighted, sometimes a hand-made
shading. So they are turned, each as the surface about it turned; what did not move keeps its normal to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SAME = 1000.0  # normals are one where their components agree to a thousandth
_FLAT = 1e-12


@dataclass(frozen=True)
class Shading:
    """Normals where they are used.

    Parameters
    ----------
    normals : (S, 3) float64
        One per slot: a place in the file where a normal is kept.
    vertex : (S,) int64
        The vertex that each slot's normal is of.
    corners : (F, 3) int64
        The slot of each corner of each face.
    tangents : (S, 3) float64, optional
    """

    normals: np.ndarray
    vertex: np.ndarray
    corners: np.ndarray
    tangents: np.ndarray | None = None


def renewed(
    before: np.ndarray, after: np.ndarray, faces: np.ndarray, shading: Shading
) -> tuple[np.ndarray, np.ndarray | None]:
    """(S, 3) normals, and tangents where there are any, of length 1 wherever the surface moved.

    `before` and `after` are (V, 3) positions, `faces` (F, 3) their indices. Slots at one place (before) with one normal
    are one, or the seams of a texture would show after they have moved.
    """
    places = np.ascontiguousarray(before[shading.vertex] + 0.0, dtype=np.float32).view(np.int32)
    group = groups(np.concatenate([places, np.rint(shading.normals * _SAME).astype(np.int32)], axis=1))
    corners = group[shading.corners]
    was, size = _weighted_normals(before, faces, corners, int(group.max(initial=-1)) + 1)
    now, size_now = _weighted_normals(after, faces, corners, len(was))
    certain = (size > _FLAT) & (size_now > _FLAT)
    moved = certain & (was != now).any(axis=1)
    turned = _turned(shading.normals, was[group], now[group])
    normals = np.where(moved[group, None], _unit(turned), shading.normals)
    if shading.tangents is None:
        return normals, None
    turned = _turned(shading.tangents, was[group], now[group])
    tangents = np.where(moved[group, None], _unit(turned), shading.tangents)
    return normals, _pushed(before, after, faces, shading, normals, tangents)


def groups(rows: np.ndarray) -> np.ndarray:
    """(N,) int64: equal rows of (N, K) have equal numbers, from 0."""
    if len(rows) == 0:
        return np.zeros(0, dtype=np.int64)
    order = np.lexsort(rows.T)
    ranked = rows[order]
    number = np.empty(len(rows), dtype=np.int64)
    number[order] = np.concatenate([[0], np.cumsum((ranked[1:] != ranked[:-1]).any(axis=1))])
    return number


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F, 3) of length 1, zero where a face has no area."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return _unit(np.cross(b - a, c - a))


def _weighted_normals(
    vertices: np.ndarray, faces: np.ndarray, corners: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """(count, 3) mean normals of the faces about each group, weighted by their angles there; and their lengths' sums.

    Thürmer and Wüthrich, "Computing Vertex Normals from Polygonal Facets", Journal of Graphics Tools 3 (1998).
    """
    normals = face_normals(vertices, faces)
    total = np.zeros((count, 3))
    for i in range(3):
        here, left, right = (vertices[faces[:, (i + k) % 3]] for k in range(3))
        angle = _angle(left - here, right - here)
        for axis in range(3):
            total[:, axis] += np.bincount(corners[:, i], weights=angle * normals[:, axis], minlength=count)
    return _unit(total), np.linalg.norm(total, axis=1)


def _angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(axis=1))


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > _FLAT**2)


def _turned(vectors: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Each vector turned as the shortest turn from unit `a` to unit `b` turns it (Rodrigues' formula)."""
    axis = np.cross(a, b)
    cosine = (a * b).sum(axis=1, keepdims=True)
    once = np.cross(axis, vectors)
    turned = vectors + once + np.cross(axis, once) / np.maximum(1.0 + cosine, 1e-9)
    # Turned right over: no shortest turn.
    return np.where(cosine > -1.0 + 1e-6, turned, np.sign((vectors * a).sum(axis=1, keepdims=True)) * b)


def _pushed(
    before: np.ndarray,
    after: np.ndarray,
    faces: np.ndarray,
    shading: Shading,
    normals: np.ndarray,
    otherwise: np.ndarray,
) -> np.ndarray:
    """(S, 3) tangents: carried along by the faces about each slot, then made to stand upright on the normals.

    Where no face of any area says how, they are `otherwise`.
    """
    assert shading.tangents is not None
    total = np.zeros_like(normals)
    p, q = (before[faces[:, i]] - before[faces[:, 0]] for i in (1, 2))
    p_now, q_now = (after[faces[:, i]] - after[faces[:, 0]] for i in (1, 2))
    pp, pq, qq = (p * p).sum(axis=1), (p * q).sum(axis=1), (q * q).sum(axis=1)
    scale = pp * qq - pq * pq
    good = scale > _FLAT * np.maximum(pp * qq, _FLAT**2)
    scale = np.where(good, scale, 1.0)
    for i in range(3):
        slot = shading.corners[:, i]
        tangent = shading.tangents[slot]
        tp, tq = (tangent * p).sum(axis=1), (tangent * q).sum(axis=1)
        along = ((tp * qq - tq * pq) / scale)[:, None] * p_now + ((tq * pp - tp * pq) / scale)[:, None] * q_now
        for axis in range(3):
            total[:, axis] += np.bincount(slot, weights=np.where(good, along[:, axis], 0.0), minlength=len(total))
    upright = total - (total * normals).sum(axis=1, keepdims=True) * normals
    moved = np.zeros(len(total), dtype=bool)
    moved[shading.corners[(before[faces] != after[faces]).any(axis=(1, 2))].reshape(-1)] = True
    certain = moved & (np.linalg.norm(upright, axis=1) > 1e-6 * np.maximum(np.linalg.norm(total, axis=1), _FLAT))
    return np.where(certain[:, None], _unit(upright), otherwise)
