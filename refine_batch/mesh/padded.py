"""Several meshes on a device as figures and renderers take them: padded, and nothing else known of them yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Float64, Int32
from torch import Tensor

from refine_batch.mesh.edges import Edges
from refine_batch.mesh.mesh import Mesh
from refine_batch.mesh.padding import padded, row_mask


@dataclass(frozen=True, eq=False)
class PaddedMeshes:
    """B meshes, padded to the largest of each count.

    Attributes
    ----------
    vertices : (B, V, 3) float32
        Zero where padded.
    vertex_count, face_count : (B,) int32
    faces : (B, F, 3) int32
        Indices into the mesh's own vertices; padded faces repeat vertex 0, and have no area.
    alike
        Whether all have the same faces: one mesh, moved.
    """

    vertices: Float[Tensor, "b v 3"]
    vertex_count: Int32[Tensor, " b"]
    faces: Int32[Tensor, "b f 3"]
    face_count: Int32[Tensor, " b"]
    alike: bool = False

    def __len__(self) -> int:
        return self.vertices.shape[0]

    @property
    def device(self) -> torch.device:
        return self.vertices.device

    @classmethod
    def of(cls, meshes: Sequence[Mesh], device: torch.device | str = "cpu") -> PaddedMeshes:
        return cls(
            vertices=padded([mesh.vertices for mesh in meshes]).to(device),
            vertex_count=torch.tensor([len(mesh.vertices) for mesh in meshes], dtype=torch.int32, device=device),
            faces=padded([mesh.faces for mesh in meshes]).to(device),
            face_count=torch.tensor([len(mesh.faces) for mesh in meshes], dtype=torch.int32, device=device),
            alike=len(meshes) > 1 and all(mesh.faces is meshes[0].faces for mesh in meshes),
        )

    def moved(self, vertices: Float[Tensor, "b v 3"]) -> PaddedMeshes:
        """The same meshes with their vertices elsewhere; what follows from the faces is worked out once for both."""
        other = replace(self, vertices=vertices)
        other.__dict__["edges"] = self.edges
        return other

    @cached_property
    def edges(self) -> Edges:
        if self.alike:
            one = Edges.of(self.faces[:1], self.face_count[:1])
            return Edges(**{name: tensor.repeat_interleave(len(self), dim=0) for name, tensor in vars(one).items()})
        return Edges.of(self.faces, self.face_count)

    @property
    def knows_edges(self) -> bool:
        """Whether the edges have been worked out already."""
        return "edges" in self.__dict__

    @cached_property
    def corners(self) -> Float64[Tensor, "b f 3 3"]:
        """The corners of each face in double precision: [b, face, corner, axis]."""
        index = self.faces.flatten(1).long()[..., None].expand(-1, -1, 3)
        return self.vertices.gather(1, index).double().unflatten(1, (-1, 3))

    @cached_property
    def area_normals(self) -> Float64[Tensor, "b f 3"]:
        """Normal of each face, as long as twice its area."""
        a, b, c = self.corners.unbind(dim=2)
        return torch.linalg.cross(b - a, c - a)

    @cached_property
    def doubled_areas(self) -> Float64[Tensor, "b f"]:
        return self.area_normals.norm(dim=-1)

    def bounds(self) -> tuple[Float[Tensor, "b 3"], Float[Tensor, "b 3"]]:
        """The lowest and the highest of each mesh's coordinates, unused vertices included."""
        own = row_mask(self.vertex_count, self.vertices.shape[1])[..., None]
        low = torch.where(own, self.vertices, torch.inf).amin(dim=1)
        return low, torch.where(own, self.vertices, -torch.inf).amax(dim=1)

    def signed_volumes(self) -> Float64[Tensor, " b"]:
        """What the faces enclose, object units cubed; negative where they face inwards."""
        a, b, c = self.corners.unbind(dim=2)
        return (a * torch.linalg.cross(b, c)).sum(dim=(1, 2)) / 6.0

    def watertight(self) -> Bool[Tensor, " b"]:
        """Whether every edge has exactly two faces that pass it in opposite directions.

        Faces that name a vertex twice have no inside to bound and are left out.
        """
        a, b, c = self.faces.unbind(dim=2)
        own = row_mask(self.face_count, self.faces.shape[1])
        bounding = (a != b) & (b != c) & (c != a)
        if bool((bounding == own).all()):
            return self.edges.closed()
        # Faces in front of those that are left out; padding is left out already.
        order = torch.argsort(~bounding, dim=1, stable=True)
        faces = self.faces.gather(1, order[..., None].expand(-1, -1, 3))
        return Edges.of(faces, bounding.sum(dim=1, dtype=torch.int32)).closed()
