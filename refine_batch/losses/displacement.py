"""The displacement loss: a refined mesh stays near the coarse one."""

from jaxtyping import Float
from torch import Tensor

from refine_batch.mesh.batch import MeshBatch


def displacement_loss(displacement: Float[Tensor, "b v 3"], batch: MeshBatch) -> Float[Tensor, " b"]:
    """Mean over all V·3 components of δ², in squared object units."""
    return batch.vertex_mean(displacement.square().sum(dim=-1)) / 3.0


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
