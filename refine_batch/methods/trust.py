"""How far each of an instance's views is trusted: one of another object, or warped, must not spoil the rest."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refine_batch.methods.scene import Scene

# A view counts in full up to so many times the median disagreement of its instance's views, and less beyond that: by
# the square of what it is more (the weight of a Geman-McClure estimate, far out).
TOLERATED = 2.5
# No disagreement is large below this share of the mask's area: what is left of a good fit is pixels.
FLOOR = 0.01


class ViewTrust:
    """Weights of N views, from how far each disagrees with its mask beside the others of its instance.

    The first view is the row's own picture and always counts in full.

    Attributes
    ----------
    now : (N,) float32 in (0, 1]
    """

    def __init__(self, scene: Scene):
        device, owner = scene.batch.device, scene.mesh_of_view.long()
        count = torch.bincount(owner, minlength=len(scene.batch))
        start = torch.cumsum(count, 0) - count
        most = int(count.max())
        self.now = torch.ones(len(owner), device=device)
        self._several = most > 1
        place = torch.arange(most, device=device)
        self._own = place < count[:, None]
        self._view = (start[:, None] + place).clamp_max(len(owner) - 1)
        self._owner = owner
        self._first = torch.zeros(len(owner), dtype=torch.bool, device=device)
        self._first[start] = True
        mask = scene.mask if scene.known is None else scene.mask * scene.known
        self._area = mask.mean(dim=(1, 2)).clamp_min(1e-6)

    def update(self, error: Float[Tensor, " n"], judge: Bool[Tensor, ""] | None = None) -> None:
        """Judge the views anew by their silhouettes' mean squared errors; `judge` false: all stays as it is."""
        if not self._several:
            return
        share = error.detach() / self._area
        table = torch.where(self._own, share[self._view], torch.nan)
        usual = table.nanmedian(dim=1).values[self._owner].clamp_min(FLOOR)
        beyond = (share / (TOLERATED * usual)).clamp_min(1.0)
        now = torch.where(self._first, 1.0, beyond.square().reciprocal()).nan_to_num(0.0)
        self.now.copy_(now if judge is None else torch.where(judge, now, self.now))
