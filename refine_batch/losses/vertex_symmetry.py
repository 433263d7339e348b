"""The vertex symmetry loss (Leung et al., CVPRW 2022): the mesh is near its own reflection, where trusted."""

import torch
from jaxtyping import Float
from torch import Tensor

from refine_batch.mesh.batch import MeshBatch
from refine_batch.mesh.nearest import nearest_vertices

# Confidence is kept above this in the logarithm.
MIN_CONFIDENCE = 1e-8


def reflect(
    vertices: Float[Tensor, "b v 3"], normal: Float[Tensor, "b 3"], offset: Float[Tensor, " b"] | None = None
) -> Float[Tensor, "b v 3"]:
    """Vertices mirrored in the plane p·normal = offset (default: through the origin), one plane per instance."""
    along = (vertices * normal[:, None]).sum(dim=-1, keepdim=True)
    if offset is not None:
        along = along - offset[:, None, None]
    return vertices - 2.0 * along * normal[:, None]


def vertex_symmetry_loss(
    vertices: Float[Tensor, "b v 3"],
    confidence: Float[Tensor, "b v"],
    normal: Float[Tensor, "b 3"],
    batch: MeshBatch,
    bias: float,
    offset: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, " b"]:
    """Mean over vertices of b·ln(1/s) + s·d², d the distance of the reflected vertex to the nearest refined vertex.

    0 for an instance whose normal is zero: it has no symmetry plane. Gradients reach both ends of d.
    """
    squared = symmetric_distance(vertices, normal, batch, offset)
    loss = -bias * torch.log(confidence.clamp_min(MIN_CONFIDENCE)) + confidence * squared
    return batch.vertex_mean(loss) * (normal != 0).any(dim=1)


def symmetric_distance(
    vertices: Float[Tensor, "b v 3"],
    normal: Float[Tensor, "b 3"],
    batch: MeshBatch,
    offset: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, "b v"]:
    """d²: squared distance of every reflected vertex to the nearest vertex of the same mesh."""
    mirrored, partner = mirror_partners(vertices, normal, batch, offset)
    return (mirrored - partner).square().sum(dim=-1)


def mirror_partners(
    vertices: Float[Tensor, "b v 3"],
    normal: Float[Tensor, "b 3"],
    batch: MeshBatch,
    offset: Float[Tensor, " b"] | None = None,
) -> tuple[Float[Tensor, "b v 3"], Float[Tensor, "b v 3"]]:
    """Every reflected vertex, and the vertex of the same mesh that is nearest to it."""
    mirrored = reflect(vertices, normal, offset)
    nearest = nearest_vertices(vertices, batch.vertex_mask, mirrored)
    return mirrored, torch.gather(vertices, 1, nearest[..., None].expand(-1, -1, 3))
