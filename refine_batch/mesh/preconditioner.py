"""The smooth preconditioner of Nicolet, Jacobson and Jakob, "Large Steps in Inverse Rendering of Geometry" (SIGGRAPH
Asia 2021, https://rgl.epfl.ch/publications/Nicolet2021Large): M = I + λL with the uniform Laplacian L = D − A."""

from __future__ import annotations

import torch
from cholespy import CholeskySolverF, MatrixType
from jaxtyping import Float
from torch import Tensor

from refine_batch.mesh.batch import MeshBatch


class Preconditioner:
    """M of a whole batch, factorised once (sparse Cholesky, on the CPU or the GPU) and solved many times.

    The matrix is block-diagonal, one block per instance; padded vertices are rows of the identity.

    Parameters
    ----------
    smoothness : (B,) float32, or one number for all
        λ of each instance: what a vertex does, its neighbours within about √λ edges do too.
    """

    def __init__(self, batch: MeshBatch, smoothness: Float[Tensor, " b"] | float):
        smooth = torch.as_tensor(smoothness, dtype=torch.float32, device=batch.device).expand(len(batch))
        self._batch, self._smoothness = batch, smooth[:, None, None]
        of_vertex = smooth.repeat_interleave(batch.vertices.shape[1])
        rows = batch.adjacency.crow_indices()
        size = batch.adjacency.shape[0]
        neighbours = batch.adjacency.col_indices()
        owners = torch.repeat_interleave(torch.arange(size, device=rows.device), torch.diff(rows))
        diagonal = torch.arange(size, device=rows.device)
        self._shape = batch.vertices.shape
        self._solver = CholeskySolverF(
            size,
            torch.cat([owners, diagonal]).int(),
            torch.cat([neighbours, diagonal]).int(),
            torch.cat(
                [
                    -of_vertex[owners],
                    1.0 + of_vertex * batch.degree.flatten(),
                ]
            ).double(),
            MatrixType.COO,
        )

    def apply(self, vertices: Float[Tensor, "b v 3"]) -> Float[Tensor, "b v 3"]:
        """M·x."""
        laplacian = self._batch.degree[..., None] * vertices - self._batch.sum_neighbours(vertices)
        return vertices + self._smoothness * laplacian

    def solve(self, values: Float[Tensor, "b v 3"]) -> Float[Tensor, "b v 3"]:
        """M⁻¹·x."""
        flat = values.detach().reshape(-1, 3).contiguous()
        solution = torch.empty_like(flat)
        self._solver.solve(flat, solution)
        return solution.reshape(self._shape)
