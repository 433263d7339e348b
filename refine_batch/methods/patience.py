"""Stopping when converged: which instances of a batch have, and since which step."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor

# What counts as an improvement, as a share of the loss.
TOLERANCE = 1e-3
# Steps between looks at the flags. On a GPU each look waits for the device.
LOOK_EVERY, LOOK_EVERY_ON_CPU = 10, 1


class Patience:
    """Stops each instance after `patience` steps in which its loss has not fallen by 0.1 % in all.

    Flags are raised on the device at the very step, whatever the neighbours do; the loop only looks at them from time
    to time, so an instance may be taken further than its stop, which nothing of its outcome may show.

    Parameters
    ----------
    patience
        Steps without improvement; None stops nobody.
    batch_size, steps
        Of the run; an instance that is never stopped takes all its steps.

    Attributes
    ----------
    running : (B,) bool or None
        False from the step after an instance's last one on; None where nobody is ever stopped.
    taken : (B,) int32
        The steps that each instance has taken.
    """

    def __init__(self, patience: int | None, batch_size: int, steps: int, device: torch.device):
        self._patience = patience
        self._lowest = torch.full((batch_size,), torch.inf, device=device)
        self._waited = torch.zeros(batch_size, dtype=torch.int32, device=device)
        self._look_every = LOOK_EVERY_ON_CPU if device.type == "cpu" else LOOK_EVERY
        self.running: Bool[Tensor, " b"] | None = None
        if patience is not None:
            self.running = torch.ones(batch_size, dtype=torch.bool, device=device)
        self.taken: Int32[Tensor, " b"] = torch.full((batch_size,), steps, dtype=torch.int32, device=device)

    def watch(self, step: int, total: Float[Tensor, " b"]) -> None:
        """Take in the losses at a step (from 0) at which they compare with those before; NaN is no improvement."""
        if self._patience is None or self.running is None:
            return
        improved = total < self._lowest * (1.0 - TOLERANCE)
        self._lowest = torch.where(improved, total, self._lowest)
        self._waited = torch.where(improved, 0, self._waited + 1)
        stops = self.running & (self._waited >= self._patience)
        self.taken = torch.where(stops, step + 1, self.taken)
        self.running = self.running & ~stops

    def over(self, step: int) -> bool:
        """Whether all have stopped, as far as is known after this step."""
        if self.running is None or (step + 1) % self._look_every:
            return False
        return not bool(self.running.any())
