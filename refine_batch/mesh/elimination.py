"""M = I + λL of each mesh of a batch on the CPU, eliminated in an order that is found once for every λ.

SuperLU (by SciPy) finds the order, by minimum degree, and which entries the Cholesky factor has; the numbers are worked
out row by row (Davis, "Direct Methods for Sparse Linear Systems", 2006, section 4.7). A thread sees to a mesh, so that
nothing depends on its neighbours in the batch. A third of the time that cholespy takes, which looks for a nested
dissection anew for each λ; it solves as fast, which takes loops over plain memory, in C++: Warp's own arrays, which
work out an address for each number, took twice as long.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import warp as wp
from jaxtyping import Float, Float64, Int32
from scipy.sparse import coo_array, csr_array
from scipy.sparse.linalg import splu
from torch import Tensor

from refine_batch.devices.warp_runtime import launch, recorded
from refine_batch.mesh.batch import MeshBatch

# Of the matrix that the order is found for; so large that no entry of its factor is too small to be told from none.
_SMOOTHNESS = 1e3
# No blocks, to which entries would be added: the numbers are not wanted, and soon found.
_SUPERLU: dict[str, Any] = {"relax": 1, "panel_size": 1, "options": {"SymmetricMode": True}}

_FACTOR = """
    for (int i = first_vertex; i < first_vertex + vertices; ++i) {
        const int vertex = order.data[i];
        for (int q = neighbour_first.data[vertex]; q < neighbour_first.data[vertex + 1]; ++q) {
            const int k = place.data[neighbour.data[q]];
            if (k < i) row.data[k] = -smoothness;
        }
        double pivot = 1.0 + smoothness * (neighbour_first.data[vertex + 1] - neighbour_first.data[vertex]);
        for (int q = row_first.data[i]; q < row_first.data[i + 1]; ++q) {
            const int k = row_place.data[q];
            const double entry = row.data[k] * inverse.data[k];
            row.data[k] = 0.0;
            const int known = column_first.data[k] + filled.data[k];
            for (int p = column_first.data[k]; p < known; ++p)
                row.data[column_place.data[p]] -= by_column.data[p] * entry;
            pivot -= entry * entry;
            by_column.data[known] = entry;
            by_row.data[q] = entry;
            ++filled.data[k];
        }
        inverse.data[i] = 1.0 / sqrt(pivot);
    }
"""

_SOLVE = """
    for (int i = first_vertex; i < first_vertex + vertices; ++i) {
        const float* value = values.data + 3 * order.data[i];
        double x = value[0], y = value[1], z = value[2];
        for (int q = row_first.data[i]; q < row_first.data[i + 1]; ++q) {
            const double* other = between.data + 4 * row_place.data[q];
            x -= by_row.data[q] * other[0];
            y -= by_row.data[q] * other[1];
            z -= by_row.data[q] * other[2];
        }
        double* own = between.data + 4 * i;
        own[0] = x * inverse.data[i];
        own[1] = y * inverse.data[i];
        own[2] = z * inverse.data[i];
    }
    for (int i = first_vertex + vertices - 1; i >= first_vertex; --i) {
        double* own = between.data + 4 * i;
        double x = own[0], y = own[1], z = own[2];
        for (int p = column_first.data[i]; p < column_first.data[i + 1]; ++p) {
            const double* other = between.data + 4 * column_place.data[p];
            x -= by_column.data[p] * other[0];
            y -= by_column.data[p] * other[1];
            z -= by_column.data[p] * other[2];
        }
        own[0] = x * inverse.data[i];
        own[1] = y * inverse.data[i];
        own[2] = z * inverse.data[i];
        float* found = solution.data + 3 * order.data[i];
        for (int axis = 0; axis < 3; ++axis) found[axis] = (wp::float32)own[axis];
    }
"""


@wp.func_native(_FACTOR)
def factor(
    first_vertex: wp.int32,
    vertices: wp.int32,
    smoothness: wp.float64,
    order: wp.array[wp.int32],
    place: wp.array[wp.int32],
    neighbour_first: wp.array[wp.int32],
    neighbour: wp.array[wp.int32],
    row_first: wp.array[wp.int32],
    row_place: wp.array[wp.int32],
    column_first: wp.array[wp.int32],
    column_place: wp.array[wp.int32],
    row: wp.array[wp.float64],
    filled: wp.array[wp.int32],
    by_row: wp.array[wp.float64],
    by_column: wp.array[wp.float64],
    inverse: wp.array[wp.float64],
): ...


@wp.func_native(_SOLVE)
def solve(
    first_vertex: wp.int32,
    vertices: wp.int32,
    order: wp.array[wp.int32],
    row_first: wp.array[wp.int32],
    row_place: wp.array[wp.int32],
    column_first: wp.array[wp.int32],
    column_place: wp.array[wp.int32],
    by_row: wp.array[wp.float64],
    by_column: wp.array[wp.float64],
    inverse: wp.array[wp.float64],
    values: wp.array[wp.float32],
    between: wp.array[wp.float64],
    solution: wp.array[wp.float32],
): ...


@wp.kernel(enable_backward=False)
def factor_kernel(
    vertices: wp.int32,
    smoothness: wp.array[wp.float64],
    order: wp.array[wp.int32],
    place: wp.array[wp.int32],
    neighbour_first: wp.array[wp.int32],
    neighbour: wp.array[wp.int32],
    row_first: wp.array[wp.int32],
    row_place: wp.array[wp.int32],
    column_first: wp.array[wp.int32],
    column_place: wp.array[wp.int32],
    row: wp.array[wp.float64],
    filled: wp.array[wp.int32],
    by_row: wp.array[wp.float64],
    by_column: wp.array[wp.float64],
    inverse: wp.array[wp.float64],
):
    mesh = wp.tid()
    factor(
        mesh * vertices,
        vertices,
        smoothness[mesh],
        order,
        place,
        neighbour_first,
        neighbour,
        row_first,
        row_place,
        column_first,
        column_place,
        row,
        filled,
        by_row,
        by_column,
        inverse,
    )


@wp.kernel(enable_backward=False)
def solve_kernel(
    vertices: wp.int32,
    order: wp.array[wp.int32],
    row_first: wp.array[wp.int32],
    row_place: wp.array[wp.int32],
    column_first: wp.array[wp.int32],
    column_place: wp.array[wp.int32],
    by_row: wp.array[wp.float64],
    by_column: wp.array[wp.float64],
    inverse: wp.array[wp.float64],
    values: wp.array[wp.float32],
    between: wp.array[wp.float64],
    solution: wp.array[wp.float32],
):
    mesh = wp.tid()
    solve(
        mesh * vertices,
        vertices,
        order,
        row_first,
        row_place,
        column_first,
        column_place,
        by_row,
        by_column,
        inverse,
        values,
        between,
        solution,
    )


@dataclass(frozen=True, eq=False)
class Elimination:
    """In which order the vertices of a batch's meshes are eliminated, and which entries their factors have.

    Attributes
    ----------
    order : (B·V,) int32
        The vertex at each place, within its mesh; padded ones last.
    place : (B·V,) int32
        The place of each vertex.
    neighbour_first : (B·V + 1,) int32
    neighbour : (E,) int32
        The batch's adjacency.
    row_first : (B·V + 1,) int32
    row_place : (N,) int32
        Places of the entries of each row of the factors before its diagonal, in order.
    column_first : (B·V + 1,) int32
    column_place : (N,) int32
        The same of each column, after its diagonal.
    """

    order: Int32[Tensor, " bv"]
    place: Int32[Tensor, " bv"]
    neighbour_first: Int32[Tensor, " bv1"]
    neighbour: Int32[Tensor, " e"]
    row_first: Int32[Tensor, " bv1"]
    row_place: Int32[Tensor, " n"]
    column_first: Int32[Tensor, " bv1"]
    column_place: Int32[Tensor, " n"]

    @classmethod
    def of(cls, batch: MeshBatch) -> Elimination:
        """Of a batch on the CPU; kept as long as the batch is."""
        kept = _kept.get(batch)
        if kept is None:
            kept = _kept[batch] = cls._made(batch)
        return kept

    @classmethod
    def _made(cls, batch: MeshBatch) -> Elimination:
        count, width = batch.vertex_mask.shape
        first = batch.adjacency.crow_indices().numpy().astype(np.int32)
        neighbour = batch.adjacency.col_indices().numpy().astype(np.int32)
        order = np.arange(count * width, dtype=np.int32)
        in_row, in_column = np.zeros((2, count * width + 1), np.int32)
        rows, columns = [], []
        for start, vertices in zip(range(0, count * width, width), batch.vertex_count.tolist(), strict=True):
            of_mesh = first[start : start + vertices + 1]
            found, by_row = _ordered(of_mesh - of_mesh[0], neighbour[of_mesh[0] : of_mesh[-1]] - start)
            own = slice(start, start + vertices)
            order[own] = start + found
            # Sorted once more, which is soon done.
            by_column = by_row.tocsc()
            by_row = by_column.tocsr()
            in_row[1:][own], in_column[1:][own] = np.diff(by_row.indptr), np.diff(by_column.indptr)
            rows.append(by_row.indices + start)
            columns.append(by_column.indices + start)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        tables = (order, place, first, neighbour, in_row.cumsum(), np.concatenate(rows), in_column.cumsum())
        return cls(*(torch.from_numpy(table.astype(np.int32)) for table in (*tables, np.concatenate(columns))))


_kept: weakref.WeakKeyDictionary[MeshBatch, Elimination] = weakref.WeakKeyDictionary()


def _ordered(first: np.ndarray, neighbour: np.ndarray) -> tuple[np.ndarray, csr_array]:
    """(V,) the vertex at each place, and where a mesh's factor has entries below its diagonal, from its adjacency as
    CSR."""
    count = len(first) - 1
    # Shuffled: to find the order in which regular meshes are stored takes up to seven times as long.
    shuffled = np.random.default_rng(0).permutation(count)
    degree = np.diff(first)
    rows, columns = shuffled[neighbour], shuffled[np.repeat(np.arange(count), degree)]
    values = np.r_[np.full(len(rows), -_SMOOTHNESS), 1.0 + _SMOOTHNESS * degree]
    rows, columns = np.r_[rows, shuffled], np.r_[columns, shuffled]
    matrix = coo_array((values, (rows, columns)), shape=(count, count)).tocsc()
    # Diagonal pivots, whatever their size: it is positive definite.
    found = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, **_SUPERLU)
    lower = found.L
    of_column = np.repeat(np.arange(count), np.diff(lower.indptr))
    below = lower.indices > of_column
    entries = np.ones(int(below.sum()), np.int8), (lower.indices[below], of_column[below])
    return np.argsort(found.perm_c[shuffled]), coo_array(entries, shape=(count, count)).tocsr()


class Factor:
    """The Cholesky factors of M of a batch's meshes.

    Parameters
    ----------
    smoothness : (B,) float32
    """

    def __init__(self, batch: MeshBatch, smoothness: Float[Tensor, " b"]):
        self._count, self._width = batch.vertex_mask.shape
        by = self._by = Elimination.of(batch)
        entries, places = len(by.row_place), len(by.order)
        self._numbers: tuple[Float64[Tensor, " n"], ...] = tuple(
            torch.empty(length, dtype=torch.float64) for length in (entries, entries, places)
        )
        row, filled = torch.zeros(places, dtype=torch.float64), torch.zeros(places, dtype=torch.int32)
        self._between = torch.empty(4 * places, dtype=torch.float64)
        self._values, self._solution = torch.empty(3 * places), torch.empty(3 * places)
        tables = (by.order, by.place, by.neighbour_first, by.neighbour, *self._entries())
        launch(factor_kernel, self._count, [self._width, smoothness.double(), *tables, row, filled, *self._numbers])
        moving = (self._values, self._between, self._solution)
        asked = [self._width, by.order, *self._entries(), *self._numbers, *moving]
        self._solving = recorded(solve_kernel, self._count, asked)

    def _entries(self) -> tuple[Int32[Tensor, " n"], ...]:
        return self._by.row_first, self._by.row_place, self._by.column_first, self._by.column_place

    def solve(self, values: Float[Tensor, "b v 3"]) -> Float[Tensor, "b v 3"]:
        """M⁻¹·x."""
        self._values.copy_(values.reshape(-1))
        self._solving.launch()
        return self._solution.clone().view(values.shape)
