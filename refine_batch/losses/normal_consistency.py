"""The normal consistency loss: neighbouring faces bend little (PyTorch3D's mesh_normal_consistency)."""

import torch
from jaxtyping import Float
from torch import Tensor

from refine_batch.mesh.batch import MeshBatch, masked_sum, row_mask


def normal_consistency_loss(vertices: Float[Tensor, "b v 3"], batch: MeshBatch) -> Float[Tensor, " b"]:
    """Mean over all pairs of faces that share an edge of 1 − cos(angle between their normals); 0 without any pair.

    The normals of a pair are taken as seen from the shared edge, so that inconsistent winding does not count as a fold.
    """
    size, faces = len(batch), batch.faces.shape[1]
    corners = torch.gather(vertices, 1, batch.faces_of()[..., None].expand(-1, -1, 3)).reshape(size, faces, 3, 3)
    normals = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    chosen = batch.pairs.reshape(size, -1).long()
    both = torch.gather(normals, 1, chosen[..., None].expand(-1, -1, 3)).reshape(size, -1, 2, 3)
    cosine = torch.nn.functional.cosine_similarity(both[:, :, 0], both[:, :, 1], dim=-1) * batch.pair_sign
    mask = row_mask(batch.pair_count, cosine.shape[1])
    return masked_sum(1.0 - cosine, mask) / batch.pair_count.clamp_min(1)
