"""Changes of a shape as a whole: thicker or thinner, stretched, sheared, turned, moved and sharper or rounder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch, mean_edge_length
from refine_batch.mesh.normals import vertex_normals
from refine_batch.mesh.preconditioner import smoothed
from refine_batch.methods.scene import Scene

# By how much each kind of change is usually needed, in shares of the largest extent: an offset along the normals, a
# stretch along an axis, a shear or turn from one axis into another, a shift. Amounts are counted in these.
OFFSET, STRETCH, SHEAR, SHIFT = 0.02, 0.06, 0.04, 0.03
# How far the smoothing reaches whose reverse sharpens, in extents: one amount adds what it would take away.
ROUNDNESS = 0.08
CHANGES = 1 + 9 + 3 + 1


class WholeShape:
    """Fourteen displacement fields per instance: an offset along the vertex normals, nine for a linear map about the
    centroid, three for a shift, and one that makes edges and corners sharper or rounder.

    A silhouette shows how wide an object is, not where each vertex belongs; what is wrong with a coarse mesh is mostly
    of this kind, and far from the outline nothing else tells. How deep it is, it shows least: of what a change does
    along the viewing ray, `depth` is what is believed.
    """

    def __init__(self, meshes: Sequence[Mesh], scene: Scene, depth: float = 1.0):
        fields = np.zeros((len(meshes), scene.batch.vertices.shape[1], 3, CHANGES - 1))
        for field, mesh in zip(fields, meshes, strict=True):
            field[: len(mesh.vertices)] = displacement_fields(mesh)
        ray, hidden = scene.ray[..., None].double(), scene.hidden[..., None, None].double()
        moved: Float64[Tensor, "b v 3 k"] = torch.cat(
            [torch.from_numpy(fields).to(ray.device), sharpening(scene.batch)[..., None].double()], dim=3
        )
        # In double precision: a sum over vertices must not depend on how far a batch pads them.
        self._fields = moved - (1.0 - depth) * hidden * (moved * ray).sum(dim=2, keepdim=True) * ray

    def none(self) -> Float[Tensor, "b k"]:
        """The amounts that leave every shape as it is."""
        return torch.zeros(self._fields.shape[0], CHANGES, device=self._fields.device)

    def displacement(self, amounts: Float[Tensor, "b k"]) -> Float[Tensor, "b v 3"]:
        """What these amounts do to each vertex, in extents."""
        return torch.einsum("bvck,bk->bvc", self._fields, amounts.double()).float()


def displacement_fields(mesh: Mesh) -> np.ndarray:
    """(V, 3, 13) float64: what one usual amount of each change but the sharpening does to each vertex, in extents."""
    vertices = mesh.vertices.astype(np.float64)
    with np.errstate(invalid="ignore"):
        placed = vertices - vertices.mean(axis=0)
    fields = np.zeros((len(vertices), 3, CHANGES - 1))
    fields[:, :, 0] = OFFSET * vertex_normals(mesh)
    for source in range(3):
        for target in range(3):
            usual = STRETCH if source == target else SHEAR
            fields[:, target, 1 + 3 * source + target] = usual * placed[:, source]
    for axis in range(3):
        fields[:, axis, 10 + axis] = SHIFT
    return fields


def sharpening(batch: MeshBatch) -> Float[Tensor, "b v 3"]:
    """What the smoothing (I + λL)⁻¹ over `ROUNDNESS` takes away from each vertex, in extents (an unsharp mask).

    Single-view methods round edges and corners off; a rounded shape must be too large to reach its own outline.
    """
    smoothness = (ROUNDNESS / mean_edge_length(batch)).square()
    return batch.vertices - smoothed(batch, batch.vertices, smoothness)
