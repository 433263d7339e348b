"""The soft silhouette in plain torch, differentiated by autograd: what the kernels are tested against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from refine_batch.render.pixels import pixel_centres

MIN_DOUBLED_AREA = 1e-8
MIN_DEPTH = 1e-5
# Triangles taken at once; bounds the memory at chunk × H² floats per tensor.
CHUNK = 64


def optical_depth(points, faces, face_count, mesh_of_view, image_size, sigma, radius) -> Tensor:
    """S of every pixel; see `refine_batch.render.silhouette.SilhouetteRenderer`."""
    centres = pixel_centres(image_size, points.device, points.dtype)
    images = []
    for view, mesh in enumerate(mesh_of_view.tolist()):
        triangles = points[view][faces[mesh, : int(face_count[mesh])].long()]
        depth = torch.zeros(len(centres), device=points.device, dtype=points.dtype)
        for chunk in triangles.split(CHUNK):
            depth = depth + triangle_depth(chunk, centres, sigma, radius).sum(dim=0)
        images.append(depth.reshape(image_size, image_size))
    return torch.stack(images) if images else points.new_zeros((0, image_size, image_size))


def triangle_depth(triangles: Tensor, centres: Tensor, sigma: float | Tensor, radius: float | Tensor) -> Tensor:
    """(F, P) softplus(x) of F projected triangles (F, 3, 3) at P pixel centres (P, 2), 0 where left out."""
    corners, z = triangles[..., :2], triangles[..., 2]
    starts, ends = corners, corners.roll(-1, dims=1)
    along = (ends - starts)[:, None]  # (F, 1, 3, 2)
    offset = centres[None, :, None, :] - starts[:, None]  # (F, P, 3, 2)
    length = along.square().sum(-1)
    t = ((offset * along).sum(-1) / length.clamp_min(1e-16)).clamp(0, 1)
    squared = (offset - t[..., None] * along).square().sum(-1).amin(-1)
    turns = along[..., 0] * offset[..., 1] - along[..., 1] * offset[..., 0]
    inside = (turns > 0).all(-1) | (turns < 0).all(-1)
    doubled_area = along[:, 0, 0, 0] * along[:, 0, 1, 1] - along[:, 0, 0, 1] * along[:, 0, 1, 0]
    drawn = (z.amin(-1) > MIN_DEPTH) & (doubled_area.abs() > MIN_DOUBLED_AREA)
    x = torch.where(inside, squared, -squared) / sigma
    return torch.where(drawn[:, None] & (inside | (squared < radius)), F.softplus(x), 0.0)
