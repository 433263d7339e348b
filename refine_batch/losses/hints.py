"""Losses against hints of depth and of normals: what the surface seen at each pixel is told by.

Which triangle a pixel sees is settled by the hard rasteriser; where the pixel's ray meets that triangle's plane, and
how the plane is turned, follow from its corners in closed form and are differentiable in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from refine_batch.cameras.camera import Cameras
from refine_batch.render.pixels import pixel_centres

# Residuals beyond this (depth: extents; normals: 1 − cosine) count by their size, no longer by their square.
DEPTH_SCALE, NORMAL_SCALE = 0.03, 0.1
# A ray that meets a plane at a smaller cosine tells nothing of its depth.
GRAZING = 0.1
# A step of depth between neighbouring pixels above this, in extents, is an edge: of which side the hint is, nobody
# knows.
EDGE = 0.05
_FIT_ROUNDS = 3


@dataclass(frozen=True)
class Seen:
    """The surface at every pixel of N views.

    Shapes: `depth` (N, P) along the viewing axis, `normal` (N, P, 3) of unit length towards the viewer in the camera's
    frame (x right, y up, z towards the viewer), `hit` (N, P): where there is a surface that the ray does not graze.
    """

    depth: Float[Tensor, "n p"]
    normal: Float[Tensor, "n p 3"]
    hit: Bool[Tensor, "n p"]


def seen_surface(
    vertices: Float[Tensor, "n v 3"],
    faces: Int32[Tensor, "n f 3"],
    cameras: Cameras,
    face: Int32[Tensor, "n h h"],
) -> Seen:
    """The surface that each pixel sees, differentiable in `vertices` (object space) and in the cameras.

    `face` is the number of the nearest triangle at each pixel, −1 where there is none.
    """
    count, size = face.shape[0], face.shape[-1]
    view = vertices @ cameras.rotation + cameras.translation[:, None]
    chosen = face.reshape(count, -1)
    hit = chosen >= 0
    corner = torch.gather(faces, 1, chosen.clamp_min(0).long()[..., None].expand(-1, -1, 3)).long()
    points = torch.gather(view, 1, corner.reshape(count, -1)[..., None].expand(-1, -1, 3)).unflatten(1, (-1, 3))
    across = torch.linalg.cross(points[:, :, 1] - points[:, :, 0], points[:, :, 2] - points[:, :, 0])
    normal = F.normalize(across, dim=-1, eps=1e-12)
    # A ray through NDC (x, y) is ((x, y) − offset) / focal at depth 1.
    flat = (pixel_centres(size, vertices.device)[None] - cameras.offset[:, None]) / cameras.focal[:, None, None]
    ray = torch.cat([flat, torch.ones_like(flat[..., :1])], dim=-1)
    slant = (normal * ray).sum(dim=-1)
    hit = hit & (slant.detach().abs() > GRAZING * ray.norm(dim=-1))
    depth = (normal * points[:, :, 0]).sum(dim=-1) / torch.where(hit, slant, 1.0)
    # Towards the viewer; from x left, y up, z forward.
    facing = torch.where(slant[..., None] > 0, -normal, normal)
    return Seen(depth, facing * facing.new_tensor([-1.0, 1.0, -1.0]), hit)


def depth_hint_loss(
    seen: Seen,
    hint: Float[Tensor, "n p"],
    known: Bool[Tensor, "n p"],
    relative: Bool[Tensor, " n"],
    inverse: Bool[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """Mean over the pixels that count of a robust (pseudo-Huber) square of the depth's disagreement, squared extents.

    Of a `relative` hint scale and shift are solved in closed form at each step, weighted against outliers; where
    `inverse`, it is of the reciprocal depth. Neither has a gradient. A scale that is not positive tells nothing.

    Parameters
    ----------
    hint
        NaN where it says nothing.
    known
        Which pixels may count: known and on the object.
    """
    counts = seen.hit & known & hint.isfinite()
    told = torch.where(counts, hint, 0.0)
    depth = seen.depth.clamp_min(1e-3)
    target = torch.where(inverse[:, None], 1.0 / depth, depth)
    scale, shift = _fitted(told, target.detach(), counts)
    fits = ~relative | (scale > 0)
    scale, shift = torch.where(relative, scale, 1.0), torch.where(relative, shift, 0.0)
    wanted = scale[:, None] * told + shift[:, None]
    # Disparity to depth: what is inverse and not positive is at no depth.
    counts = counts & (~inverse[:, None] | (wanted > 1e-3)) & fits[:, None]
    wanted = torch.where(inverse[:, None], 1.0 / wanted.clamp_min(1e-3), wanted)
    return _mean(_robust(depth - wanted, DEPTH_SCALE), counts)


def normal_hint_loss(seen: Seen, hint: Float[Tensor, "n p 3"], known: Bool[Tensor, "n p"]) -> Float[Tensor, " n"]:
    """Mean over the pixels that count of a robust 1 − cosine between normal and hint.

    `hint` holds unit vectors in the frame of `Seen.normal`, NaN where it says nothing.
    """
    counts = seen.hit & known & hint.isfinite().all(dim=-1)
    cosine = (seen.normal * torch.where(counts[..., None], hint, 0.0)).sum(dim=-1)
    apart = (1.0 - cosine).clamp_min(0.0)
    # Grows as the square of the angle, then as the angle.
    robust = NORMAL_SCALE * (torch.sqrt(1.0 + 2.0 * apart / NORMAL_SCALE) - 1.0)
    return _mean(robust, counts)


def away_from_edges(depth: Float[Tensor, "n h h"], step: float | Float[Tensor, " n"] = EDGE) -> Bool[Tensor, "n h h"]:
    """Pixels of a depth hint none of whose eight neighbours differs by more than `step`; NaN is no edge of its own."""
    padded = F.pad(depth[:, None], (1, 1, 1, 1), mode="replicate")
    far = padded.nan_to_num(-torch.inf)
    near = padded.nan_to_num(torch.inf)
    high = F.max_pool2d(far, 3, stride=1)[:, 0]
    low = -F.max_pool2d(-near, 3, stride=1)[:, 0]
    limit = torch.as_tensor(step, device=depth.device, dtype=depth.dtype).reshape(-1, 1, 1)
    return (high - low) <= limit


def _fitted(
    told: Float[Tensor, "n p"], target: Float[Tensor, "n p"], counts: Bool[Tensor, "n p"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Scale and shift that bring `told` to `target`, by least squares, outliers weighing less from round to round."""
    weight = counts.double()
    x, y = told.double(), target.double()
    scale, shift = torch.ones(len(x), device=x.device).double(), torch.zeros(len(x), device=x.device).double()
    for _ in range(_FIT_ROUNDS):
        total = weight.sum(dim=1).clamp_min(1e-12)
        mean_x, mean_y = (weight * x).sum(dim=1) / total, (weight * y).sum(dim=1) / total
        dx, dy = x - mean_x[:, None], y - mean_y[:, None]
        spread = (weight * dx.square()).sum(dim=1)
        scale = torch.where(spread > 1e-12 * total, (weight * dx * dy).sum(dim=1) / spread.clamp_min(1e-30), 0.0)
        shift = mean_y - scale * mean_x
        residual = (scale[:, None] * x + shift[:, None] - y).abs()
        typical = (weight * residual).sum(dim=1) / total
        weight = counts.double() / (1.0 + (residual / (2.0 * typical[:, None] + 1e-9)).square())
    return scale.to(told.dtype), shift.to(told.dtype)


def _robust(residual: Tensor, scale: float) -> Tensor:
    return scale**2 * (torch.sqrt(1.0 + (residual / scale).square()) - 1.0) * 2.0


def _mean(values: Float[Tensor, "n p"], counts: Bool[Tensor, "n p"]) -> Float[Tensor, " n"]:
    return torch.where(counts, values, 0.0).sum(dim=1) / counts.sum(dim=1).clamp_min(1)
