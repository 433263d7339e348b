"""What follows from the faces of a batch alone: which vertices and which faces are neighbours."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from refine_batch.mesh.edges import Edges


def face_pairs(edges: Edges) -> tuple[Int32[Tensor, " b"], Int32[Tensor, "b p 2"], Float[Tensor, "b p"]]:
    """All pairs of faces that share an edge, exact for non-manifold meshes: k faces on an edge give k(k − 1)/2 pairs.

    Returns
    -------
    count : (B,) int32
    pairs : (B, P, 2) int32
        Numbers of the two faces; zero where padded. A face that meets itself (a degenerate one) makes no pair.
    sign : (B, P) float32
        +1 where the two run along the edge in opposite directions, as consistently wound neighbours do, else −1; 0
        where padded.
    """
    on_edge = torch.diff(edges.first, dim=1)
    found = []
    # Edges of k faces are handled together; k is 2 but on borders and non-manifold edges.
    for k in range(2, int(on_edge.max()) + 1):
        mesh, edge = (on_edge == k).nonzero().unbind(dim=1)
        if len(mesh):
            one, other = torch.triu_indices(k, k, 1, device=mesh.device)
            first = edges.first[mesh, edge].long()[:, None]
            found.append([t.flatten() for t in torch.broadcast_tensors(mesh[:, None], first + one, first + other)])
    mesh, one, other = (torch.cat(parts) for parts in zip(*found, strict=True)) if found else [on_edge.new_zeros(0)] * 3
    mesh, one, other = mesh.long(), one.long(), other.long()
    pairs = torch.stack([edges.face[mesh, one], edges.face[mesh, other]], dim=1)
    sign = torch.where(edges.along[mesh, one] == edges.along[mesh, other], -1.0, 1.0)
    apart = pairs[:, 0] != pairs[:, 1]
    mesh, pairs, sign = mesh[apart], pairs[apart], sign[apart]
    if len(found) > 1:
        order = torch.argsort(mesh, stable=True)
        mesh, pairs, sign = mesh[order], pairs[order], sign[order]
    count = torch.bincount(mesh, minlength=len(on_edge))
    place = torch.arange(len(mesh), device=mesh.device) - (count.cumsum(dim=0) - count)[mesh]
    width = max(1, int(count.max()))
    of_mesh = torch.zeros((len(count), width, 2), dtype=torch.int32, device=mesh.device)
    sign_of_mesh = torch.zeros((len(count), width), device=mesh.device)
    of_mesh[mesh, place], sign_of_mesh[mesh, place] = pairs, sign
    return count.int(), of_mesh, sign_of_mesh


def adjacency(edges: Edges, width: int) -> tuple[Tensor, Float[Tensor, "b v"]]:
    """Which vertices an edge joins, in meshes of `width` vertices each, padding included.

    Returns
    -------
    matrix : (B·V, B·V) float32, sparse CSR
        1 between neighbours: symmetric and block-diagonal, one block per mesh.
    degree : (B, V) float32
        Number of neighbours.
    """
    real = torch.arange(edges.ends.shape[1], device=edges.ends.device) < edges.count[:, None]
    offset = width * torch.arange(len(real), device=real.device)[:, None, None]
    smaller, larger = (edges.ends + offset)[real].unbind(dim=1)
    size = len(real) * width
    entries = sorted_numbers(torch.cat([smaller * size + larger, larger * size + smaller]))
    rows = entries // size
    degree = torch.bincount(rows, minlength=size)
    starts = torch.zeros(size + 1, dtype=torch.int64, device=rows.device)
    torch.cumsum(degree, dim=0, out=starts[1:])
    ones = torch.ones(len(rows), device=rows.device)
    with warnings.catch_warnings():
        # "Sparse CSR tensor support is in beta state": what is used here is the settled part.
        warnings.simplefilter("ignore", UserWarning)
        matrix = torch.sparse_csr_tensor(starts, entries % size, ones, (size, size), check_invariants=False)
    return matrix, degree.view(len(real), width).float()


def sorted_numbers(numbers: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """In order; on a CPU numpy's way, which is several times torch's, who finds the permutation too."""
    return torch.from_numpy(np.sort(numbers.numpy())) if numbers.device.type == "cpu" else numbers.sort()[0]
