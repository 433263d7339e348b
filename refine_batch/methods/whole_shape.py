"""Changes of a shape as a whole: thicker or thinner, stretched, sheared, turned, moved, sharper or rounder, deeper."""

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
from refine_batch.method_options import LargeStepsWeights, LossWeights
from refine_batch.methods.scene import Scene

# By how much each kind of change is usually needed, in shares of the largest extent: an offset along the normals, a
# stretch along an axis, a shear or turn from one axis into another, a shift. Amounts are counted in these.
OFFSET, STRETCH, SHEAR, SHIFT = 0.02, 0.06, 0.04, 0.03
# The same of a stretch along the viewing rays and a shift along them: what no picture shows is wrong by more.
DEEPER, NEARER = 0.2, 0.05
# How far the smoothing reaches whose reverse sharpens, in extents: one amount adds what it would take away.
ROUNDNESS = 0.08
CHANGES = 1 + 9 + 3 + 1
# Which of them are shifts.
SHIFTS = slice(10, 13)
# By how much a shape grows or shrinks as a whole where that is usual, the size of its logarithm.
USUAL_GROWTH = 0.1


class WholeShape:
    """Fourteen displacement fields per instance: an offset along the vertex normals, nine for a linear map about the
    centroid, three for a shift, and one that makes edges and corners sharper or rounder. Where hints tell of them two
    more, which no silhouette shows: deeper or flatter along the first view's rays, nearer or farther along them.

    A silhouette shows how wide an object is, not where each vertex belongs; what is wrong with a coarse mesh is mostly
    of this kind, and far from the outline nothing else tells. How deep it is, it shows least: of what a change does
    along the viewing ray, `depth` is what is believed, and all where hints tell it.
    """

    def __init__(self, meshes: Sequence[Mesh], scene: Scene, depth: float = 1.0):
        fields = np.zeros((len(meshes), scene.batch.vertices.shape[1], 3, CHANGES - 1))
        for field, mesh in zip(fields, meshes, strict=True):
            field[: len(mesh.vertices)] = displacement_fields(mesh)
        ray, hidden = scene.ray[..., None].double(), scene.hidden[..., None, None].double()
        # What is told of the front goes for the whole: half of a change is not made behind it.
        hidden = hidden * (1.0 - scene.hinted.double()[:, 1, None, None, None])
        moved: Float64[Tensor, "b v 3 k"] = torch.cat(
            [torch.from_numpy(fields).to(ray.device), sharpening(scene.batch)[..., None].double()], dim=3
        )
        # In double precision: a sum over vertices must not depend on how far a batch pads them.
        moved = moved - (1.0 - depth) * hidden * (moved * ray).sum(dim=2, keepdim=True) * ray
        self._fields = moved if scene.hints is None else torch.cat([moved, along_rays(scene)], dim=3)
        self._batch, self._spread = scene.batch, spread(scene.batch.vertices, scene.batch)
        self._size_unknown = scene.size_unknown.double()

    def none(self) -> Float[Tensor, "b k"]:
        """The amounts that leave every shape as it is."""
        return torch.zeros(self._fields.shape[0], self._fields.shape[3], device=self._fields.device)

    def displacement(self, amounts: Float[Tensor, "b k"]) -> Float[Tensor, "b v 3"]:
        """What these amounts do to each vertex, in extents."""
        return torch.einsum("bvck,bk->bvc", self._fields, amounts.double()).float()

    def grown(self, vertices: Float[Tensor, "b v 3"]) -> Float64[Tensor, " b"]:
        """By how much the squared size has grown, however it came about; 1 where nothing has."""
        return spread(vertices, self._batch) / self._spread

    def cost(
        self, amounts: Float[Tensor, "b k"], grown: Float64[Tensor, " b"], weights: LossWeights | LargeStepsWeights
    ) -> Float[Tensor, " b"]:
        """What the amounts cost; where no silhouette tells how large an object is, so do its growth and its shift."""
        growth = weights.size * self._size_unknown * (0.5 * grown.log() / USUAL_GROWTH).square()
        aside = weights.shift * self._size_unknown * amounts[:, SHIFTS].square().sum(dim=1)
        return weights.whole * amounts.square().sum(dim=1) + (growth + aside).float()


def spread(vertices: Float[Tensor, "b v 3"], batch: MeshBatch) -> Float64[Tensor, " b"]:
    """The mean squared distance of the vertices from their centroid."""
    # In double precision: how far rows are padded must not show.
    inside = torch.where(batch.vertex_mask[..., None], vertices.double(), 0.0)
    mean = inside.sum(dim=1) / batch.vertex_count[:, None]
    return batch.vertex_mean((inside - mean[:, None]).square().sum(dim=-1))


def along_rays(scene: Scene) -> Float64[Tensor, "b v 3 2"]:
    """What one usual amount of a stretch along the first view's rays, and of a shift along them, does to each vertex,
    as far as hints tell of it; extents. It is depth along the viewing axis that is stretched, about its mean.
    """
    batch = scene.batch
    first = torch.searchsorted(scene.mesh_of_view.contiguous(), torch.arange(len(batch), device=batch.device).int())
    cameras = scene.cameras.now()[first]
    forward = cameras.rotation[:, :, 2].double()
    depth = torch.einsum("bvc,bc->bv", batch.vertices.double(), forward) + cameras.translation[:, 2:].double()
    ray = scene.ray.double()
    # A ray's vector whose depth is 1.
    unit = ray / torch.einsum("bvc,bc->bv", ray, forward).clamp_min(0.1)[..., None]
    middle = batch.vertex_mean(depth)[:, None]
    amounts = torch.stack([DEEPER * (depth - middle), torch.full_like(depth, NEARER)], dim=-1)
    own = batch.vertex_mask[..., None] * scene.hinted.double()[:, None]
    return unit[..., None] * (amounts * own)[:, :, None]


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
        fields[:, axis, SHIFTS.start + axis] = SHIFT
    return fields


def sharpening(batch: MeshBatch) -> Float[Tensor, "b v 3"]:
    """What the smoothing (I + λL)⁻¹ over `ROUNDNESS` takes away from each vertex, in extents (an unsharp mask).

    Single-view methods round edges and corners off; a rounded shape must be too large to reach its own outline.
    """
    smoothness = (ROUNDNESS / mean_edge_length(batch)).square()
    return batch.vertices - smoothed(batch, batch.vertices, smoothness)
