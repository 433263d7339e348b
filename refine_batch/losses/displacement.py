"""The displacement loss: a refined mesh stays near the coarse one."""

from jaxtyping import Float
from torch import Tensor

from refine_batch.mesh.batch import MeshBatch


def displacement_loss(displacement: Float[Tensor, "b v 3"], batch: MeshBatch) -> Float[Tensor, " b"]:
    """Mean over all V·3 components of δ², in squared object units."""
    return batch.vertex_mean(displacement.square().sum(dim=-1)) / 3.0
