"""Who does what next: batches cut as they are handed out, and taken back where they would be done sooner elsewhere.

Pure logic over the ledger and the rows that are left; benchmarks/fleet.py runs it with a made-up clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from refine_batch.job.batch import Batch
from refine_batch.job.ledger import Ledger
from refine_batch.job.shelf import USUAL
from refine_batch.job.sizing import MEMORY, MUCH, Costs, Pace, share

# Batches in an actor's hands: one on the device, one that is made ready or waits for it, one that is concluded.
DEPTH = 3
# As many, at most, in those of one that has not answered yet: it may be slow.
FIRST_DEPTH = 2
# What may wait in an actor's hands when it gets one more, in full batches that an average actor would begin meanwhile.
LEAD = 1.5
# The weight of a batch, at most, so that an actor can hold three: of meshes whose files take 256 MB together.
HEAVIEST = 0.5 * 256e6 / USUAL


class Work(Protocol):
    """The rows that nobody has yet."""

    @property
    def exhausted(self) -> bool:
        """Whether there are none, and none will come."""

    @property
    def left(self) -> float:
        """The weight of those that are there and, by what was seen so far, will come."""

    @property
    def each(self) -> float:
        """The mean weight of a row."""

    def take(self, most: int, weight: float = np.inf) -> Batch | None:
        """The next of them; None where there are too few at the moment."""


class Hand(Protocol):
    """An actor, as far as this matters.

    Parameters
    ----------
    batches
        What it was given and has not answered for, in order.
    pace
        How much faster it is than the others.
    since
        When it began with the first of them, by the schedule's clock.
    """

    @property
    def batches(self) -> Sequence[Batch]: ...

    @property
    def pace(self) -> Pace: ...

    @property
    def since(self) -> float: ...


H = TypeVar("H", bound=Hand)


class Schedule:
    """Hands out what is left.

    Parameters
    ----------
    largest
        Rows of a batch, at most.
    exact
        Whether each batch has as many, as somebody asked for.
    actors
        How many share the work: those there are, and those that may be expected.
    everyone
        Those there are.
    depth
        Batches in one actor's hands, at most.
    """

    def __init__(
        self,
        work: Work,
        *,
        largest: int,
        exact: bool,
        actors: Callable[[], int],
        everyone: Callable[[], Sequence[Hand]],
        depth: int = DEPTH,
        clock: Callable[[], float] = time.monotonic,
        stop_on_failures_alike: bool = True,
    ):
        self._work, self._largest, self._exact = work, largest, exact
        self._actors, self._everyone, self._depth, self._clock = actors, everyone, depth, clock
        self.costs = Costs()
        self.ledger = Ledger(self._fresh, stop_on_failures_alike=stop_on_failures_alike, clock=clock)
        self._for: Hand | None = None
        self._usual = 1.0

    def hand_out(self, free: Iterable[H], give: Callable[[H, Batch], None], *, at_most: int | None = None) -> None:
        """Give batches to actors: each its first before any its second, so that few batches reach many actors."""
        levels: list[list[H]] = [[] for _ in range(self._depth)]
        for hand in free:
            if len(hand.batches) < self._depth:
                levels[len(hand.batches)].append(hand)
        given = 0
        for level, hands in enumerate(levels):
            for hand in hands:
                if given == at_most:
                    return
                if hand.batches and hand.batches[0].alone:
                    continue
                self._for = hand
                batch = self.ledger.take(alone=level == 0)
                if batch is None:
                    continue
                give(hand, batch)
                given += 1
                if level + 1 < self._depth:
                    levels[level + 1].append(hand)

    def to_take_back(self, busy: Iterable[H], idle: int) -> list[tuple[H, Batch]]:
        """Batches that wait in busy hands while `idle` actors have nothing to do; the hands most laden first."""
        if not idle or self.ledger.ready or not self._work.exhausted:
            return []
        laden = [hand for hand in busy if len(hand.batches) > 1]
        laden.sort(key=lambda hand: sum(batch.weight for batch in hand.batches) / hand.pace.speed, reverse=True)
        return [(hand, hand.batches[-1]) for hand in laden[:idle]]

    def taken_back(self, batch: Batch, idle: int) -> None:
        """Put a batch back that its actor had not begun; in halves where more than one is idle."""
        parts = batch.halves() if idle > 1 and len(batch) > 1 and not self._exact else (batch,)
        for part in reversed(parts):
            self.ledger.put_back(part)

    def took(self, hand: Hand, batch: Batch, seconds: float) -> None:
        """Learn from a batch that took an actor so long."""
        hand.pace.add(batch.weight, seconds, self.costs)
        # Costs are an average actor's, whose speed is 1: else both would drift together.
        self._usual += (1 - MEMORY) * (hand.pace.speed - self._usual)
        self.costs.add(batch.weight, seconds * hand.pace.speed / self._usual)

    def _fresh(self) -> Batch | None:
        if self._exact or self._for is None:
            return self._work.take(self._largest)
        left, full, actors = self._work.left, self._largest * self._work.each, max(1, self._actors())
        full = min(full, max(HEAVIEST, self._work.each))
        hand, speed = self._for, self._for.pace.speed
        if not left or (not hand.pace.known and len(hand.batches) >= FIRST_DEPTH):
            return None
        if sum(batch.weight for batch in hand.batches[1:]) > LEAD * full * speed:
            return None
        # Without what others have in hand it is no more than the share, and soon told.
        if speed / actors * left - self._load(hand) > MUCH * full:
            return self._work.take(self._largest, full)
        hands = self._everyone()
        loads = {id(other): self._load(other) for other in hands}
        speeds = sum(other.pace.speed for other in hands) + max(0, actors - len(hands))
        mine = loads.get(id(hand), 0.0)
        weight = share(left, sum(loads.values()), mine, speed, speeds, full)
        if hand.batches and weight < min(full, self.costs.floor):
            return None  # so little is better done by one that has nothing
        return self._work.take(self._largest, max(weight, 1e-9)) if weight or not hand.batches else None

    def _load(self, hand: Hand) -> float:
        """The weight in an actor's hands that is not done yet, as far as can be told."""
        weights = [batch.weight for batch in hand.batches]
        if not weights:
            return 0.0
        passed = (self._clock() - hand.since) * hand.pace.speed / max(self.costs.seconds(weights[0]), 1e-9)
        return sum(weights) - weights[0] * min(1.0, max(0.0, passed))
