"""The symmetry planes of a batch, which follow the shapes as these change."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refine_batch.losses.vertex_symmetry import mirror_partners
from refine_batch.mesh.batch import MeshBatch
from refine_batch.mesh.plane import SymmetryPlane

# Share of the way that a plane goes to where its pairs have their best one, at each step.
_FOLLOW = 0.2


class Planes:
    """One plane per instance. What a coarse mesh has wrong is its place as well: a plane that was found in it goes
    where the shape, as it is refined, is most nearly its own mirror image. One that was given stays.

    Attributes
    ----------
    normal : (B, 3) float32, offset : (B,) float32
        Points p with p·normal = offset; zeros where an instance has none.
    trust : (B,) float32
    """

    def __init__(self, planes: Sequence[SymmetryPlane | None], device: torch.device):
        none = SymmetryPlane((0.0, 0.0, 0.0), trust=0.0)
        own = [plane or none for plane in planes]
        self.normal: Float[Tensor, "b 3"] = torch.tensor([p.normal for p in own], dtype=torch.float32, device=device)
        self.offset: Float[Tensor, " b"] = torch.tensor([p.offset for p in own], dtype=torch.float32, device=device)
        self.trust: Float[Tensor, " b"] = torch.tensor([p.trust for p in own], dtype=torch.float32, device=device)
        self._free: Bool[Tensor, " b"] = torch.tensor([p.free for p in own], device=device)
        self._any_free = any(p.free for p in own)

    def squared(self, vertices: Float[Tensor, "b v 3"], batch: MeshBatch) -> tuple[Tensor, Tensor]:
        """(B, V) d² of every reflected vertex to the nearest vertex of the same mesh, and (B, V, 3) that vertex."""
        # Of copies: the planes follow in place, before anyone asks for gradients.
        mirrored, partner = mirror_partners(vertices, self.normal.clone(), batch, self.offset.clone())
        return (mirrored - partner).square().sum(dim=-1), partner

    @torch.no_grad()
    def follow(
        self,
        vertices: Float[Tensor, "b v 3"],
        partner: Float[Tensor, "b v 3"],
        confidence: Float[Tensor, "b v"],
        batch: MeshBatch,
    ) -> None:
        """A step of the free planes towards the best one of the pairs, by confidence; upright planes stay upright.

        Of pairs p, q about their means the best normal n makes Σ c·(p·n)(q·n) least, for
        |p − 2(p·n)n − q|² = |p − q|² + 4(p·n)(q·n).
        """
        if not self._any_free:
            return
        weight = torch.where(batch.vertex_mask, confidence, 0.0)[..., None].double()
        total = weight.sum(dim=1, keepdim=True).clamp_min(1e-12)
        p, q = vertices.double(), partner.double()
        p_mean, q_mean = (weight * p).sum(dim=1, keepdim=True) / total, (weight * q).sum(dim=1, keepdim=True) / total
        p, q = (p - p_mean)[..., [0, 2]], (q - q_mean)[..., [0, 2]]
        products = torch.einsum("bvi,bvj->bij", weight * p, q)
        products = products + products.transpose(1, 2)
        # Across the axis of the larger eigenvalue; in closed form nothing waits for the device.
        angle = 0.5 * torch.atan2(2.0 * products[:, 0, 1], products[:, 0, 0] - products[:, 1, 1])
        found = torch.stack([-torch.sin(angle), torch.cos(angle)], dim=1)
        old = self.normal.double()
        across = torch.stack([found[:, 0], torch.zeros_like(found[:, 0]), found[:, 1]], dim=1)
        across = torch.where((across * old).sum(dim=1, keepdim=True) < 0, -across, across)
        normal = torch.nn.functional.normalize(old + _FOLLOW * (across - old), dim=1)
        middle = ((p_mean + q_mean) / 2.0)[:, 0]
        offset = (middle * normal).sum(dim=1)
        offset = self.offset + _FOLLOW * (offset - self.offset)
        fine = self._free & normal.isfinite().all(dim=1) & offset.isfinite()
        self.normal.copy_(torch.where(fine[:, None], normal.float(), self.normal))
        self.offset.copy_(torch.where(fine, offset.float(), self.offset))
