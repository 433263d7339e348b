"""The one optimisation loop: a course is started, taken step by step, and settles; the best settled iterate returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from refine_batch.errors import InstanceError
from refine_batch.losses import LOSSES
from refine_batch.methods.base import MethodOutput, PreparedInstance
from refine_batch.methods.outcome import outcomes
from refine_batch.methods.patience import Patience
from refine_batch.methods.scene import Scene


@dataclass(frozen=True, eq=False)
class Iterate:
    """Where a batch stands at one step; of no use once the next step is taken, whose tensors may lie in its place.

    Shapes: `terms` (losses, B) weighted, in the order of `LOSSES`; `vertices` (B, V, 3); `confidence` (B, V) of the
    symmetry; `change` (N, 3) of the views' cameras.
    """

    terms: Float[Tensor, "losses b"]
    vertices: Float[Tensor, "b v 3"]
    confidence: Float[Tensor, "b v"]
    change: Float[Tensor, "n 3"]


def with_more(terms: Float[Tensor, "losses b"], loss: str, more: Float[Tensor, " b"]) -> Float[Tensor, "losses b"]:
    """The weighted terms, with something more counted as a part of one of `LOSSES`."""
    beside = torch.zeros_like(terms)
    beside[LOSSES.index(loss)] = 1.0
    return terms + beside * more


class Course(Protocol):
    """A method, for one batch: its variables, its objective and its schedule."""

    @property
    def scene(self) -> Scene: ...

    def iterate(self, step: int) -> Iterate:
        """Where the variables stand, by what the schedule says of this step (from 0)."""

    def advance(self, step: int) -> None:
        """One step of the variables down the sum of the last iterate's terms."""

    def settled(self, step: int) -> bool:
        """Whether losses compare with each other at this step and at all that follow it. The last step always is."""


def take(
    course: Course, instances: Sequence[PreparedInstance], steps: int, patience: int | None
) -> list[MethodOutput | InstanceError]:
    """The outcome of each instance: the settled iterate of its lowest total loss.

    Nothing in the loop waits for the device. With `patience`, an instance stops once its loss has not fallen by 0.1 %
    for so many settled steps; the batch ends when all have.
    """
    scene = course.scene
    device = scene.batch.device
    best = Best(scene)
    watch = Patience(patience, len(instances), steps, device)
    curve = torch.empty((steps, len(instances)), device=device)
    for step in range(steps):
        now = course.iterate(step)
        total = now.terms.sum(dim=0)
        curve[step] = total
        if course.settled(step):
            best.update(now, watch.running)
            watch.watch(step, total)
            if watch.over(step):
                break
        if step + 1 < steps:
            course.advance(step)
    scene.cameras.change = best.change
    return outcomes(instances, LOSSES, best, curve, watch.taken, scene.cameras.ends())


class Best:
    """The iterate of lowest total loss of every instance so far, kept on the device.

    Attributes
    ----------
    total : (B,) float32
    terms : (losses, B) float32
    vertices : (B, V, 3) float32
    confidence : (B, V) float32
    change : (N, 3) float64
    """

    def __init__(self, scene: Scene):
        batch = scene.batch
        size, device = len(batch), batch.device
        self._of_view: Int32[Tensor, " n"] = scene.mesh_of_view.long()
        self.total = torch.full((size,), torch.inf, device=device)
        self.terms = torch.full((len(LOSSES), size), torch.nan, device=device)
        self.vertices = batch.vertices.clone()
        self.confidence = torch.full(batch.vertex_mask.shape, torch.nan, device=device)
        self.change = torch.zeros_like(scene.cameras.change)

    def update(self, iterate: Iterate, running: Tensor | None = None) -> None:
        """Take the iterate where it is lower, of the instances still `running` (None: all); NaN never is."""
        terms = iterate.terms
        total = terms.sum(dim=0)
        lower = total < self.total
        if running is not None:
            lower = lower & running
        self.total = torch.where(lower, total, self.total)
        self.terms = torch.where(lower, terms, self.terms)
        self.vertices = torch.where(lower[:, None, None], iterate.vertices, self.vertices)
        self.confidence = torch.where(lower[:, None], iterate.confidence, self.confidence)
        self.change = torch.where(lower[self._of_view, None], iterate.change, self.change)
