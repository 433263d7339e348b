"""Losses against hints of depth and of normals: what the surface seen at chosen pixels is told by.

Which triangle a pixel sees is settled by the hard rasteriser; where the pixel's ray meets that triangle's plane, and
how the plane is turned, follow from its corners in closed form and are differentiable in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from refine_batch.cameras.camera import Cameras
from refine_batch.render.pixels import pixel_centres

# Residuals beyond this (depth: extents; normals: 1 − cosine) count by their size, no longer by their square.
DEPTH_SCALE, NORMAL_SCALE = 0.03, 0.1
# A ray that meets a plane at a smaller cosine tells nothing of its depth.
GRAZING = 0.1
_FIT_ROUNDS = 3


@dataclass(frozen=True)
class Seen:
    """The surface at P pixels of each of N views.

    Shapes: `depth` (N, P) along the viewing axis, `normal` (N, P, 3) of unit length towards the viewer in the camera's
    frame (x right, y up, z towards the viewer), `hit` (N, P): where there is a surface that the ray does not graze.
    """

    depth: Float[Tensor, "n p"]
    normal: Float[Tensor, "n p 3"]
    hit: Bool[Tensor, "n p"]


@dataclass(frozen=True)
class Scaling:
    """What is not known of each of N views' depths.

    `scale`, `shift` (N,): whether these are to be found; `inverse` (N,): whether they are of the reciprocal depth.
    """

    scale: Bool[Tensor, " n"]
    shift: Bool[Tensor, " n"]
    inverse: Bool[Tensor, " n"]


def seen_surface(
    vertices: Float[Tensor, "n v 3"],
    faces: Int32[Tensor, "n f 3"],
    cameras: Cameras,
    face: Int32[Tensor, "n h h"],
    pixel: Int64[Tensor, "n p"] | None = None,
    place: Float[Tensor, "n p 2"] | None = None,
) -> Seen:
    """The surface that pixels see, differentiable in `vertices` (object space) and in the cameras.

    Parameters
    ----------
    face
        The number of the nearest triangle at each pixel, −1 where there is none.
    pixel
        The numbers, row by row, of those that are asked for; None: all.
    place
        Where within these pixels the rays go, NDC; None: through their centres.
    """
    count, size = face.shape[0], face.shape[-1]
    view = vertices @ cameras.rotation + cameras.translation[:, None]
    chosen, centre = face.reshape(count, -1), pixel_centres(size, vertices.device).expand(count, -1, -1)
    if pixel is not None:
        chosen = torch.gather(chosen, 1, pixel)
        centre = torch.gather(centre, 1, pixel[..., None].expand(-1, -1, 2)) if place is None else place
    hit = chosen >= 0
    corner = torch.gather(faces, 1, chosen.clamp_min(0).long()[..., None].expand(-1, -1, 3)).long()
    points = torch.gather(view, 1, corner.reshape(count, -1)[..., None].expand(-1, -1, 3)).unflatten(1, (-1, 3))
    across = torch.linalg.cross(points[:, :, 1] - points[:, :, 0], points[:, :, 2] - points[:, :, 0])
    normal = F.normalize(across, dim=-1, eps=1e-12)
    # A ray through NDC (x, y) is ((x, y) − offset) / focal at depth 1; an orthographic camera's begins beside its axis.
    flat = (centre - cameras.offset[:, None]) / cameras.focal[:, None, None]
    parallel = cameras.parallel[:, None, None]
    ray = torch.cat([torch.where(parallel > 0, 0.0, flat), torch.ones_like(flat[..., :1])], dim=-1)
    begin = torch.cat([flat * parallel, torch.zeros_like(flat[..., :1])], dim=-1)
    slant = (normal * ray).sum(dim=-1)
    hit = hit & (slant.detach().abs() > GRAZING * ray.norm(dim=-1))
    depth = (normal * (points[:, :, 0] - begin)).sum(dim=-1) / torch.where(hit, slant, 1.0)
    # Towards the viewer; from x left, y up, z forward.
    facing = torch.where(slant[..., None] > 0, -normal, normal)
    x, y, z = facing.unbind(dim=-1)
    return Seen(depth, torch.stack([-x, y, -z], dim=-1), hit)


def depth_hint_loss(seen: Seen, hint: Float[Tensor, "n p"], scaling: Scaling) -> Float[Tensor, " n"]:
    """A robust (pseudo-Huber) square of the depth's disagreement with a hint, squared extents: its sum over the pixels
    that count over the number of those of which the hint says anything.

    What is not known of the hint's scale is solved in closed form at each step, weighted against outliers; it has no
    gradient. A scale that is not positive tells nothing.

    Parameters
    ----------
    hint
        NaN where it says nothing.
    """
    told = hint.isfinite()
    counts = seen.hit & told
    values = torch.where(counts, hint, 0.0)
    depth = seen.depth.clamp_min(1e-3)
    inverse = scaling.inverse[:, None]
    target = torch.where(inverse, 1.0 / depth, depth)
    scale, shift = fitted(values, target.detach(), counts, scaling)
    wanted = scale[:, None] * values + shift[:, None]
    # Disparity to depth: what is inverse and not positive is at no depth.
    counts = counts & (~inverse | (wanted > 1e-3)) & (scale > 0)[:, None]
    wanted = torch.where(inverse, 1.0 / wanted.clamp_min(1e-3), wanted)
    return _share(_robust(depth - wanted, DEPTH_SCALE), counts, told)


def normal_hint_loss(seen: Seen, hint: Float[Tensor, "n p 3"]) -> Float[Tensor, " n"]:
    """A robust 1 − cosine between normals and a hint, summed over the pixels that count and divided by the number of
    those of which the hint says anything.

    `hint` holds unit vectors in the frame of `Seen.normal`, NaN where it says nothing.
    """
    told = hint.isfinite().all(dim=-1)
    counts = seen.hit & told
    cosine = (seen.normal * torch.where(counts[..., None], hint, 0.0)).sum(dim=-1)
    apart = (1.0 - cosine).clamp_min(0.0)
    # Grows as the square of the angle, then as the angle.
    robust = NORMAL_SCALE * (torch.sqrt(1.0 + 2.0 * apart / NORMAL_SCALE) - 1.0)
    return _share(robust, counts, told)


def fitted(
    told: Float[Tensor, "n p"], target: Float[Tensor, "n p"], counts: Bool[Tensor, "n p"], scaling: Scaling
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Scale and shift that bring `told` to `target`, by least squares, outliers weighing less from round to round.

    A scale that is known is 1 and a shift that is known 0.
    """
    x, y = told.double(), target.double()
    weight = counts.double()
    one, none = torch.ones(len(x), device=x.device).double(), torch.zeros(len(x), device=x.device).double()
    scale, shift = one, none
    for _ in range(_FIT_ROUNDS):
        total = weight.sum(dim=1).clamp_min(1e-12)
        # About the mean where there is a shift, about zero where there is none.
        middle = scaling.shift.double()
        mean_x, mean_y = middle * (weight * x).sum(dim=1) / total, middle * (weight * y).sum(dim=1) / total
        dx, dy = x - mean_x[:, None], y - mean_y[:, None]
        spread = (weight * dx.square()).sum(dim=1)
        slope = torch.where(spread > 1e-12 * total, (weight * dx * dy).sum(dim=1) / spread.clamp_min(1e-30), 0.0)
        scale = torch.where(scaling.scale, slope, one)
        shift = torch.where(scaling.shift, mean_y - scale * mean_x, none)
        residual = (scale[:, None] * x + shift[:, None] - y).abs()
        typical = (weight * residual).sum(dim=1) / total
        weight = counts.double() / (1.0 + (residual / (2.0 * typical[:, None] + 1e-9)).square())
    return scale.to(told.dtype), shift.to(told.dtype)


def _robust(residual: Tensor, scale: float) -> Tensor:
    return scale**2 * (torch.sqrt(1.0 + (residual / scale).square()) - 1.0) * 2.0


def _share(values: Float[Tensor, "n p"], counts: Bool[Tensor, "n p"], told: Bool[Tensor, "n p"]) -> Float[Tensor, " n"]:
    return torch.where(counts, values, 0.0).sum(dim=1) / told.sum(dim=1).clamp_min(1)
