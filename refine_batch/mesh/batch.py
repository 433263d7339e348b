"""A ragged batch of meshes on a device: padded tensors, their counts, and the topology that the losses need.

Padding is the layout because it keeps every instance in rows of its own: sums run along an instance's row and never
across instances, so a result does not depend on the neighbours in the batch, NaNs included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from refine_batch.mesh.mesh import Mesh
from refine_batch.mesh.sparse import csr_matrix, multiply
from refine_batch.mesh.topology import face_pairs, unique_edges


@dataclass(frozen=True, eq=False)
class MeshBatch:
    """B meshes, padded to the largest of each count.

    Attributes
    ----------
    vertices : (B, V, 3) float32
        Zero where padded.
    vertex_count, face_count, pair_count : (B,) int32
    faces : (B, F, 3) int32
        Indices into the instance's own vertices; padded faces repeat vertex 0.
    pairs : (B, P, 2) int32
        Pairs of faces that share an edge; padding repeats face 0.
    pair_sign : (B, P) float32
        −1 where the two are wound against each other; 0 where padded.
    vertex_mask : (B, V) bool
        False where padded.
    adjacency : (B·V, B·V) float32, sparse CSR
        1 between vertices joined by an edge: symmetric and block-diagonal, one block per instance.
    degree : (B, V) float32
        Number of neighbours.
    """

    vertices: Float[Tensor, "b v 3"]
    vertex_count: Int32[Tensor, " b"]
    face_count: Int32[Tensor, " b"]
    pair_count: Int32[Tensor, " b"]
    faces: Int32[Tensor, "b f 3"]
    pairs: Int32[Tensor, "b p 2"]
    pair_sign: Float[Tensor, "b p"]
    vertex_mask: Bool[Tensor, "b v"]
    adjacency: Tensor
    degree: Float[Tensor, "b v"]

    def __len__(self) -> int:
        return self.vertices.shape[0]

    @property
    def device(self) -> torch.device:
        return self.vertices.device

    @classmethod
    def of(cls, meshes: Sequence[Mesh], device: torch.device | str = "cpu") -> MeshBatch:
        """The batch of `meshes`, which must have been checked (`Mesh.check`)."""
        pairs, signs = zip(*(face_pairs(mesh.faces) for mesh in meshes), strict=True)
        vertex_count = [len(mesh.vertices) for mesh in meshes]
        width = max(vertex_count)
        edges = [unique_edges(mesh.faces) + i * width for i, mesh in enumerate(meshes)]
        adjacency = _adjacency(np.concatenate(edges), len(meshes) * width)
        vertices = _pad([mesh.vertices for mesh in meshes])
        counts = torch.tensor(vertex_count)
        return cls(
            vertices=vertices.to(device),
            vertex_count=counts.to(device, torch.int32),
            face_count=torch.tensor([len(mesh.faces) for mesh in meshes], dtype=torch.int32, device=device),
            pair_count=torch.tensor([len(p) for p in pairs], dtype=torch.int32, device=device),
            faces=_pad([mesh.faces for mesh in meshes]).to(device),
            pairs=_pad(pairs).to(device),
            pair_sign=_pad([sign[:, None] for sign in signs])[..., 0].to(device),
            vertex_mask=(torch.arange(width)[None] < counts[:, None]).to(device),
            adjacency=adjacency.to(device),
            degree=torch.diff(adjacency.crow_indices()).reshape(len(meshes), width).to(device, torch.float32),
        )

    def sum_neighbours(self, values: Float[Tensor, "b v c"]) -> Float[Tensor, "b v c"]:
        """Σ over each vertex's neighbours of `values`."""
        return multiply(self.adjacency, values.flatten(0, 1)).view(values.shape)

    def vertex_mean(self, values: Float[Tensor, "b v"]) -> Float[Tensor, " b"]:
        """The mean over each instance's own vertices; padding is ignored, whatever it holds."""
        return masked_sum(values, self.vertex_mask) / self.vertex_count

    def faces_of(self) -> Int64[Tensor, "b f3"]:
        """Corner indices of every face in one row per instance, for gathering."""
        return self.faces.reshape(len(self), -1).long()


def masked_sum(values: Float[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Row sums over the entries where `mask` holds, with no gradient (nor NaN) from the others."""
    return torch.where(mask, values, 0.0).sum(dim=1)


def row_mask(count: Int32[Tensor, " b"], width: int) -> Bool[Tensor, "b n"]:
    """True in the first `count` columns of each row."""
    return torch.arange(width, device=count.device)[None] < count[:, None]


def mean_edge_length(batch: MeshBatch) -> Float[Tensor, " b"]:
    """Mean length of each mesh's face sides, object units; one side counts as often as faces have it."""
    corners = torch.gather(batch.vertices, 1, batch.faces_of()[..., None].expand(-1, -1, 3)).unflatten(1, (-1, 3))
    sides = (corners - corners.roll(1, dims=2)).norm(dim=-1).sum(dim=2)
    width = batch.faces.shape[1]
    total = masked_sum(sides, row_mask(batch.face_count, width))
    return (total / (3.0 * batch.face_count)).clamp_min(1e-12)


def _adjacency(edges: np.ndarray, size: int) -> Tensor:
    both = np.concatenate([edges, edges[:, ::-1]]).astype(np.int64)
    rows, columns = torch.from_numpy(both).unbind(dim=1)
    return csr_matrix(rows, columns, torch.ones(len(both)), (size, size))


def _pad(arrays: Sequence[np.ndarray]) -> Tensor:
    """Arrays (n_i, k) stacked to (B, max n_i, k), zero where padded; at least one row, so that indices stay valid."""
    padded = np.zeros((len(arrays), max(1, *(len(a) for a in arrays)), arrays[0].shape[1]), arrays[0].dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(padded)
