"""The Laplacian loss with uniform weights (Nealen et al., GRAPHITE 2006), PyTorch3D's `mesh_laplacian_smoothing`."""

import torch
from jaxtyping import Float
from torch import Tensor

from refine_batch.mesh.batch import MeshBatch


def laplacian(vertices: Float[Tensor, "b v 3"], batch: MeshBatch) -> Float[Tensor, "b v 3"]:
    """Mean of the neighbours minus the vertex, object units; −v where there are none, as PyTorch3D has it."""
    return batch.sum_neighbours(vertices) / batch.degree.clamp_min(1.0)[..., None] - vertices


def laplacian_loss(vertices: Float[Tensor, "b v 3"], batch: MeshBatch) -> Float[Tensor, " b"]:
    """Mean over vertices of ‖mean of neighbours − v‖, in object units."""
    return batch.vertex_mean(safe_norm(laplacian(vertices, batch)))


def laplacian_change_loss(
    vertices: Float[Tensor, "b v 3"], coarse: Float[Tensor, "b v 3"], batch: MeshBatch
) -> Float[Tensor, " b"]:
    """Mean over vertices of how far the Laplacian moved from the coarse mesh's (`coarse`), in object units."""
    return batch.vertex_mean(safe_norm(laplacian(vertices, batch) - coarse))


def safe_norm(vectors: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
    """‖v‖ whose gradient is 0, not NaN, at v = 0."""
    squared = vectors.square().sum(dim=-1)
    positive = squared > 0
    return torch.where(positive, torch.sqrt(torch.where(positive, squared, 1.0)), 0.0)
