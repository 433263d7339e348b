"""The displacement loss: a refined mesh stays near the coarse one."""

import torch
from jaxtyping import Float
from torch import Tensor

from refine_batch.mesh.batch import MeshBatch, row_mask


def displacement_loss(
    displacement: Float[Tensor, "b v 3"], batch: MeshBatch, share: Float[Tensor, "b v"] | None = None
) -> Float[Tensor, " b"]:
    """Mean over all V·3 components of δ², in squared object units, each vertex counting by its `share` (default: 1)."""
    squared = displacement.square().sum(dim=-1)
    return batch.vertex_mean(squared if share is None else squared * share) / 3.0


def area_share(vertices: Float[Tensor, "b v 3"], batch: MeshBatch) -> Float[Tensor, "b v"]:
    """How much of the surface each vertex stands for: 1 for all where triangles are alike, half of it 1 in any case.

    Of an artist's mesh a few vertices hold most of the surface: counted by their number they could go anywhere at next
    to no cost.
    """
    corners = torch.gather(vertices, 1, batch.faces_of()[..., None].expand(-1, -1, 3)).unflatten(1, (-1, 3))
    across = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]).norm(dim=-1)
    own = row_mask(batch.face_count, across.shape[1])
    area = torch.where(own, across, 0.0).repeat_interleave(3, dim=1)
    held = torch.zeros(vertices.shape[:2], device=vertices.device).scatter_add(1, batch.faces_of(), area)
    mean = batch.vertex_mean(held).clamp_min(1e-30)
    return 0.5 + 0.5 * held / mean[:, None]


def depth_loss(
    displacement: Float[Tensor, "b v 3"],
    ray: Float[Tensor, "b v 3"],
    batch: MeshBatch,
    hidden: Float[Tensor, "b v"] | None = None,
) -> Float[Tensor, " b"]:
    """Mean over vertices of the squared displacement along the viewing ray, which no silhouette asks for.

    `ray` holds the unit vectors from the camera to the coarse vertices, `hidden` how little other views see of what
    happens along it (default: nothing, 1), by which each square counts.
    """
    squared = (displacement * ray).sum(dim=-1).square()
    return batch.vertex_mean(squared if hidden is None else squared * hidden)
