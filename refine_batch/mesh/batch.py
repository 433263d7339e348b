"""A ragged batch of meshes on a device: padded tensors, their counts, and the topology that the losses need.

Padding is the layout because it keeps every instance in rows of its own: sums run along an instance's row and never
across instances, so a result does not depend on the neighbours in the batch, NaNs included.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from refine_batch.mesh.mesh import Mesh
from refine_batch.mesh.padded import PaddedMeshes
from refine_batch.mesh.padding import padded, row_mask
from refine_batch.mesh.sparse import multiply
from refine_batch.mesh.topology import adjacency, face_pairs


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
        """The batch of `meshes`, which must have been checked (`Mesh.check`).

        What follows from the faces of the last one is kept as long as its first mesh is: what is judged is refined
        next.
        """
        key = torch.device(device), tuple(map(weakref.ref, meshes))
        if len(meshes) and (kept := _last.get(meshes[0])) is not None and kept[0] == key:
            return replace(kept[1], vertices=padded([mesh.vertices for mesh in meshes]).to(device))
        batch = cls._made(meshes, device)
        if len(meshes):
            _last.clear()
            _last[meshes[0]] = key, batch
        return batch

    @classmethod
    def _made(cls, meshes: Sequence[Mesh], device: torch.device | str) -> MeshBatch:
        bare = PaddedMeshes.of(meshes, device)
        pair_count, pairs, pair_sign = face_pairs(bare.edges)
        width = bare.vertices.shape[1]
        matrix, degree = adjacency(bare.edges, width)
        return cls(
            vertices=bare.vertices,
            vertex_count=bare.vertex_count,
            face_count=bare.face_count,
            pair_count=pair_count,
            faces=bare.faces,
            pairs=pairs,
            pair_sign=pair_sign,
            vertex_mask=row_mask(bare.vertex_count, width),
            adjacency=matrix,
            degree=degree,
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


_last: weakref.WeakKeyDictionary[Mesh, tuple[tuple, MeshBatch]] = weakref.WeakKeyDictionary()


def masked_sum(values: Float[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Row sums over the entries where `mask` holds, with no gradient (nor NaN) from the others."""
    return torch.where(mask, values, 0.0).sum(dim=1)


def mean_edge_length(batch: MeshBatch) -> Float[Tensor, " b"]:
    """Mean length of each mesh's face sides, object units; one side counts as often as faces have it."""
    corners = torch.gather(batch.vertices, 1, batch.faces_of()[..., None].expand(-1, -1, 3)).unflatten(1, (-1, 3))
    sides = (corners - corners.roll(1, dims=2)).norm(dim=-1).sum(dim=2)
    width = batch.faces.shape[1]
    total = masked_sum(sides, row_mask(batch.face_count, width))
    return (total / (3.0 * batch.face_count)).clamp_min(1e-12)
