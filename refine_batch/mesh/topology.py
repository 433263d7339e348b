"""What follows from a mesh's faces alone: edges, and the pairs of faces that share one."""

from __future__ import annotations

import numpy as np


def face_edges(faces: np.ndarray) -> np.ndarray:
    """(3·F, 2) int32 the three edges of every face, each with its smaller vertex first, in the order ab, bc, ca."""
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    return np.sort(edges, axis=1)


def unique_edges(faces: np.ndarray) -> np.ndarray:
    """(E, 2) int32 undirected edges, each once, smaller vertex first, sorted; none from a vertex to itself."""
    edges = face_edges(faces)
    edges = edges[edges[:, 0] != edges[:, 1]]
    return np.unique(edges, axis=0).astype(np.int32)


def face_pairs(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of faces that share an edge, exact for non-manifold meshes: k faces on an edge give k(k − 1)/2 pairs.

    Returns
    -------
    pairs : (P, 2) int32
        Numbers of the two faces. A face that meets itself (a degenerate one) makes no pair.
    signs : (P,) float32
        +1 where the two run along the edge in opposite directions, as consistently wound neighbours do, else −1.
    """
    directed = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    forward = directed[:, 0] < directed[:, 1]
    edges = np.sort(directed, axis=1)
    owner = np.repeat(np.arange(len(faces), dtype=np.int32), 3)
    order = np.lexsort((owner, edges[:, 1], edges[:, 0]))
    order = order[edges[order, 0] != edges[order, 1]]
    edges, owner, forward = edges[order], owner[order], forward[order]
    if not len(edges):
        return np.zeros((0, 2), np.int32), np.zeros(0, np.float32)
    starts = np.flatnonzero(np.r_[True, (edges[1:] != edges[:-1]).any(axis=1)])
    counts = np.diff(np.r_[starts, len(edges)])
    firsts, seconds = [], []
    # Edges of k faces are handled together; k is 2 but on borders and non-manifold edges.
    for k in np.unique(counts[counts > 1]):
        group = starts[counts == k][:, None] + np.arange(k)
        one, other = np.triu_indices(k, 1)
        firsts.append(group[:, one].ravel())
        seconds.append(group[:, other].ravel())
    if not firsts:
        return np.zeros((0, 2), np.int32), np.zeros(0, np.float32)
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    apart = owner[first] != owner[second]
    first, second = first[apart], second[apart]
    signs = np.where(forward[first] == forward[second], -1.0, 1.0).astype(np.float32)
    return np.stack([owner[first], owner[second]], axis=1).astype(np.int32), signs
