"""One vertex where a file has several: what a surface hangs together by, whatever its seams and creases."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from refine_batch.mesh.mesh import Mesh
from refine_batch.mesh.normals import across

# Border vertices nearer than this, in shares of the largest extent, are one: seams that were rounded apart.
TOLERANCE = 1e-5
_ODD = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9))


def positions(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows of (V, 3) float32 `vertices` in the order in which they first appear, and (V,) which of them
    each one is. +0 and −0 are the same."""
    # Adding zero makes +0 of −0.
    bits = np.ascontiguousarray(vertices + np.float32(0)).view(np.uint32).astype(np.uint64)
    with np.errstate(over="ignore"):
        key = (bits[:, 0] * _ODD[0]) ^ (bits[:, 1] * _ODD[1] + (bits[:, 1] << np.uint64(31))) ^ (bits[:, 2] * _ODD[2])
        key ^= key >> np.uint64(29)
    sorted_keys = np.sort(key)
    if (sorted_keys[1:] != sorted_keys[:-1]).all():
        # As a rule no two are alike, which sorting plain numbers soon shows.
        return vertices, np.arange(len(vertices))
    _, first, of_vertex = np.unique(key, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    distinct, of_vertex = vertices[first[order]], rank[of_vertex.reshape(-1)]
    if not np.array_equal(distinct[of_vertex] + np.float32(0), vertices + np.float32(0)):
        # Two positions with one key: next to never.
        distinct, of_vertex = np.unique(vertices + np.float32(0), axis=0, return_inverse=True)
    return distinct, of_vertex.reshape(-1)


def weld(mesh: Mesh, tolerance: float = TOLERANCE) -> tuple[Mesh, np.ndarray]:
    """The surface of `mesh` as one hangs together: welded, without strays.

    Vertices at one position become one; so do border vertices within `tolerance` (in shares of the largest extent of
    what the faces use). Faces without an area go, and of faces that stand on the same three vertices all but the first.
    Vertices that no face uses go.

    Returns
    -------
    Mesh
        May have no faces, if none has an area.
    place : (V,) int64
        Which of its vertices each vertex of `mesh` became; −1 for those that went.
    """
    distinct, of_vertex = positions(mesh.vertices)
    faces = _with_area(distinct, of_vertex[mesh.faces])
    joined = _near_borders(distinct, faces, tolerance)
    if joined is not None:
        distinct, of_vertex = distinct[joined[1]], joined[0][of_vertex]
        faces = _with_area(distinct, joined[0][faces])
    faces = _each_once(faces)
    used = np.zeros(len(distinct), bool)
    used[faces] = True
    number = np.where(used, np.cumsum(used) - 1, -1)
    return Mesh(distinct[used], number[faces].reshape(-1, 3)), number[of_vertex]


def _with_area(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    x, y, z = across(vertices, faces)
    area = (x != 0) | (y != 0) | (z != 0)
    return faces if area.all() else faces[area]


def _near_borders(vertices: np.ndarray, faces: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray] | None:
    """(V,) the new number of each vertex, and of each new one the old one that it is; None where all stay."""
    if not len(faces):
        return None
    start, end = faces.T.ravel(), faces.T[[1, 2, 0]].ravel()
    key = np.sort(np.minimum(start, end).astype(np.int64) * len(vertices) + np.maximum(start, end))
    other = key[1:] != key[:-1]
    border = np.unique(np.stack(np.divmod(key[np.r_[True, other] & np.r_[other, True]], len(vertices)), axis=1))
    if len(border) < 2:
        return None
    used = vertices[np.unique(faces)]
    reach = tolerance * float(np.ptp(used, axis=0).max())
    pairs = cKDTree(vertices[border].astype(np.float64)).query_pairs(reach, output_type="ndarray")
    if not len(pairs):
        return None
    one, other = border[pairs].T
    graph = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(len(vertices),) * 2)
    group = connected_components(graph, directed=False)[1]
    _, first = np.unique(group, return_index=True)
    return group, first


def _each_once(faces: np.ndarray) -> np.ndarray:
    """Without the faces that stand on the same three vertices as one before them."""
    if not len(faces):
        return faces
    if faces.max() < 1 << 21:
        # Three numbers as one: as a rule no two are alike, which sorting plain numbers soon shows.
        a, b, c = faces.T.astype(np.int64)
        low, high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
        middle = a + b + c - low - high
        key = np.sort((low << 42) | (middle << 21) | high)
        if (key[1:] != key[:-1]).all():
            return faces
    corners = np.sort(faces, axis=1).astype(np.int64)
    order = np.lexsort((np.arange(len(faces)), corners[:, 2], corners[:, 1], corners[:, 0]))
    ordered = corners[order]
    again = np.r_[False, (ordered[1:] == ordered[:-1]).all(axis=1)]
    keep = np.ones(len(faces), bool)
    keep[order[again]] = False
    return faces[keep]
