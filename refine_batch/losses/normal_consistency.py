"""The normal consistency loss: neighbouring faces bend little (PyTorch3D's mesh_normal_consistency)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refine_batch.mesh.batch import MeshBatch, masked_sum
from refine_batch.mesh.padding import row_mask

# A face whose doubled area is below this share of its longest edge squared, or of the mesh's mean doubled area.
SLIVER = 1e-3


def normal_consistency_loss(vertices: Float[Tensor, "b v 3"], batch: MeshBatch) -> Float[Tensor, " b"]:
    """Mean over all pairs of faces that share an edge of 1 − cos(angle between their normals); 0 without any pair."""
    return pair_mean(bends(vertices, batch), batch)


def excess_bend_loss(
    vertices: Float[Tensor, "b v 3"], coarse: Float[Tensor, "b p"], batch: MeshBatch
) -> Float[Tensor, " b"]:
    """Normal consistency relative to the coarse mesh: mean over pairs of what each bends more than it did.

    A box keeps its edges, where `normal_consistency_loss` flattens them. `coarse` are the coarse mesh's `bends`.
    """
    return pair_mean((bends(vertices, batch) - coarse).clamp_min(0.0), batch)


def pair_mean(values: Float[Tensor, "b p"], batch: MeshBatch) -> Float[Tensor, " b"]:
    """The mean over each instance's own pairs of faces; 0 without any."""
    return masked_sum(values, row_mask(batch.pair_count, values.shape[1])) / batch.pair_count.clamp_min(1)


def bends(vertices: Float[Tensor, "b v 3"], batch: MeshBatch) -> Float[Tensor, "b p"]:
    """1 − cos(angle between the normals) of every pair of faces that share an edge.

    The normals of a pair are taken as seen from the shared edge, so that inconsistent winding does not count as a fold.
    A sliver's normal is taken as it is: it turns about with the least move of a corner, so that the gradient through it
    (1/height; 10⁶ for a face without area) would outweigh that of all other faces together.
    """
    size, faces = len(batch), batch.faces.shape[1]
    corners = torch.gather(vertices, 1, batch.faces_of()[..., None].expand(-1, -1, 3)).reshape(size, faces, 3, 3)
    edges = corners.roll(-1, dims=2) - corners
    normals = torch.linalg.cross(edges[:, :, 0], edges[:, :, 1])
    normals = torch.where(_slivers(edges.detach(), normals.detach(), batch)[..., None], normals.detach(), normals)
    chosen = batch.pairs.reshape(size, -1).long()
    both = torch.gather(normals, 1, chosen[..., None].expand(-1, -1, 3)).reshape(size, -1, 2, 3)
    cosine = torch.nn.functional.cosine_similarity(both[:, :, 0], both[:, :, 1], dim=-1) * batch.pair_sign
    return 1.0 - cosine


def _slivers(edges: Float[Tensor, "b f 3 3"], normals: Float[Tensor, "b f 3"], batch: MeshBatch) -> Bool[Tensor, "b f"]:
    """Which faces have hardly any area for their length or for their mesh."""
    doubled_area = normals.norm(dim=-1)
    own = row_mask(batch.face_count, doubled_area.shape[1])
    mean = masked_sum(doubled_area, own) / batch.face_count
    longest = edges.square().sum(dim=-1).amax(dim=-1)
    return doubled_area <= SLIVER * torch.maximum(longest, mean[:, None])
