"""Products of a constant sparse matrix, in CSR form, with rows of values."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def csr_matrix(
    rows: Int64[Tensor, " n"], columns: Int64[Tensor, " n"], values: Float[Tensor, " n"], shape: tuple[int, int]
) -> Tensor:
    """The matrix with these entries, given in any order; those of one place add up."""
    with warnings.catch_warnings():
        # "Sparse CSR tensor support is in beta state": what is used here is the settled part.
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_coo_tensor(
            torch.stack([rows, columns]), values, shape, check_invariants=True
        ).to_sparse_csr()


def transpose(matrix: Tensor) -> Tensor:
    """The transpose of a CSR matrix, in CSR form again."""
    entries = matrix.to_sparse_coo()
    rows, columns = entries.indices()
    return csr_matrix(columns, rows, entries.values(), (matrix.shape[1], matrix.shape[0]))


def multiply(
    matrix: Tensor, values: Float[Tensor, "columns c"], transposed: Tensor | None = None
) -> Float[Tensor, "rows c"]:
    """matrix · values, differentiable in the values; a matrix that is not symmetric needs its transpose for that."""
    return _Multiply.apply(values, matrix, matrix if transposed is None else transposed)


class _Multiply(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, matrix, transposed):
        ctx.transposed = transposed
        return _product(matrix, values.detach())

    @staticmethod
    def backward(ctx, gradient):
        return _product(ctx.transposed, gradient), None, None


def _product(matrix: Tensor, values: Tensor) -> Tensor:
    if values.device.type != "cpu":
        return matrix @ values
    # Sums of weighted rows are all that a bag of embeddings is: on a CPU it takes a quarter of the product's time.
    return F.embedding_bag(
        matrix.col_indices(),
        values.contiguous(),
        matrix.crow_indices(),
        mode="sum",
        per_sample_weights=matrix.values(),
        include_last_offset=True,
    )
