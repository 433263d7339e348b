"""The smooth preconditioner of Nicolet, Jacobson and Jakob, "Large Steps in Inverse Rendering of Geometry" (SIGGRAPH
Asia 2021, https://rgl.epfl.ch/publications/Nicolet2021Large): M = I + λL with the uniform Laplacian L = D − A."""

from __future__ import annotations

from typing import Protocol

import torch
from cholespy import CholeskySolverF, MatrixType
from jaxtyping import Float
from torch import Tensor

from refine_batch.mesh.batch import MeshBatch
from refine_batch.mesh.elimination import Factor

# Vertices up to which a GPU solves with explicit inverses, where they fit: at 2000 those of 64 meshes take 100 ms
# against 700 for one sparse factorisation, and a solve a third of the time.
MOST_DENSE = 2500
# Vertices up to which a CPU works factors out in an order of minimum degree: what is larger and regular has up to three
# times as many entries so as by nested dissection. No more are refined, unless that is asked for.
MOST_ELIMINATED = 6000
# Bytes that the inverses of a batch may take.
MOST_BYTES = 4e9


class Preconditioner:
    """M of a whole batch, factorised once and solved many times.

    By sparse Cholesky factors; on a GPU and for meshes of up to `MOST_DENSE` vertices by explicit inverses. The matrix
    is block-diagonal, one block per instance; padded vertices are rows of the identity.

    Parameters
    ----------
    smoothness : (B,) float32, or one number for all
        λ of each instance: what a vertex does, its neighbours within about √λ edges do too.
    """

    def __init__(self, batch: MeshBatch, smoothness: Float[Tensor, " b"] | float):
        smooth = _per_instance(batch, smoothness)
        self._batch, self._smoothness = batch, smooth[:, None, None]
        size = batch.vertices.shape[1]
        on_gpu = batch.device.type == "cuda"
        dense = on_gpu and size <= MOST_DENSE and 4 * len(batch) * size**2 <= MOST_BYTES
        self._solver: Solver
        if on_gpu or size > MOST_ELIMINATED:
            self._solver = DenseInverse(batch, smooth) if dense else SparseFactor(batch, smooth)
        else:
            self._solver = Factor(batch, smooth)

    def apply(self, vertices: Float[Tensor, "b v 3"]) -> Float[Tensor, "b v 3"]:
        """M·x."""
        laplacian = self._batch.degree[..., None] * vertices - self._batch.sum_neighbours(vertices)
        return vertices + self._smoothness * laplacian

    def solve(self, values: Float[Tensor, "b v 3"]) -> Float[Tensor, "b v 3"]:
        """M⁻¹·x."""
        return self._solver.solve(values.detach())


class Solver(Protocol):
    def solve(self, values: Float[Tensor, "b v 3"]) -> Float[Tensor, "b v 3"]: ...


class SparseFactor:
    """One sparse Cholesky factor of all instances (cholespy), by nested dissection."""

    def __init__(self, batch: MeshBatch, smoothness: Float[Tensor, " b"]):
        of_vertex = smoothness.repeat_interleave(batch.vertices.shape[1])
        rows = batch.adjacency.crow_indices()
        size = batch.adjacency.shape[0]
        neighbours = batch.adjacency.col_indices()
        owners = torch.repeat_interleave(torch.arange(size, device=rows.device), torch.diff(rows))
        diagonal = torch.arange(size, device=rows.device)
        self._solver = CholeskySolverF(
            size,
            torch.cat([owners, diagonal]).int(),
            torch.cat([neighbours, diagonal]).int(),
            torch.cat([-of_vertex[owners], 1.0 + of_vertex * batch.degree.flatten()]).double(),
            MatrixType.COO,
        )

    def solve(self, values: Float[Tensor, "b v 3"]) -> Float[Tensor, "b v 3"]:
        flat = values.reshape(-1, 3).contiguous()
        solution = torch.empty_like(flat)
        self._solver.solve(flat, solution)
        return solution.reshape(values.shape)


class DenseInverse:
    """M⁻¹ of each instance, by dense Cholesky factors of all of them together; nothing of it waits for the device."""

    def __init__(self, batch: MeshBatch, smoothness: Float[Tensor, " b"]):
        count, size = batch.vertex_mask.shape
        rows = batch.adjacency.crow_indices()
        owners = torch.repeat_interleave(
            torch.arange(count * size, device=rows.device),
            torch.diff(rows),
            output_size=batch.adjacency.col_indices().shape[0],
        )
        matrix = torch.zeros((count, size, size), device=rows.device)
        mesh = owners // size
        matrix[mesh, owners % size, batch.adjacency.col_indices() % size] = -smoothness[mesh]
        matrix.diagonal(dim1=1, dim2=2).copy_(1.0 + smoothness[:, None] * batch.degree)
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(matrix)[0])

    def solve(self, values: Float[Tensor, "b v 3"]) -> Float[Tensor, "b v 3"]:
        return torch.bmm(self._inverse, values)


def smoothed(
    batch: MeshBatch, values: Float[Tensor, "b v 3"], smoothness: Float[Tensor, " b"] | float
) -> Float[Tensor, "b v 3"]:
    """M⁻¹·x once."""
    return Preconditioner(batch, smoothness).solve(values)


def _per_instance(batch: MeshBatch, smoothness: Float[Tensor, " b"] | float) -> Float[Tensor, " b"]:
    return torch.as_tensor(smoothness, dtype=torch.float32, device=batch.device).expand(len(batch))
