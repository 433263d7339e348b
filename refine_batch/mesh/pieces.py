"""Pieces of a mesh that hang together, and the mesh without the small ones."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from refine_batch.mesh.decimation import compact
from refine_batch.mesh.mesh import Mesh
from refine_batch.mesh.normals import area_normals
from refine_batch.mesh.welding import positions


def without_small_pieces(mesh: Mesh, share: float) -> tuple[Mesh, int]:
    """The mesh without the pieces that have less than `share` of its surface, and how many those were.

    Faces belong together where they share a corner's position, whether or not they share its vertex. The largest piece
    always stays. The mesh itself where nothing goes.
    """
    distinct, position = positions(mesh.vertices)
    corners = position[mesh.faces]
    edges = np.concatenate([corners[:, :2], corners[:, 1:]])
    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(len(distinct),) * 2)
    piece = connected_components(graph, directed=False)[1][corners[:, 0]]
    area = np.bincount(piece, weights=np.linalg.norm(area_normals(mesh), axis=1))
    small = area < share * area.sum()
    small[area.argmax()] = False
    # Numbers of pieces that no face has belong to unused vertices.
    small &= np.bincount(piece, minlength=len(area)) > 0
    if not small.any():
        return mesh, 0
    return compact(mesh.vertices, mesh.faces[~small[piece]]), int(small.sum())
