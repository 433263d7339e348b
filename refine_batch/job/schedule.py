"""Who does what next: batches cut as they are handed out, and taken back where they would be done sooner elsewhere.

Pure logic over the ledger and the rows that are left; benchmarks/fleet.py runs it with a made-up clock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from refine_batch.job.batch import Batch
from refine_batch.job.ledger import Ledger
from refine_batch.job.shelf import USUAL
from refine_batch.job.sizing import MEMORY, MUCH, Costs, Pace, end_of, next_of

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
        self._now = 0.0
        self._end: float | None = None

    def hand_out(self, free: Iterable[H], give: Callable[[H, Batch], None], *, at_most: int | None = None) -> None:
        """Give batches to actors: each its first before any its second, so that few batches reach many actors."""
        self._now, self._end = self._clock(), None
        levels: list[list[H]] = [[] for _ in range(self._depth)]
        for hand in sorted(free, key=lambda hand: hand.pace.speed, reverse=True):
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
                batch = self._next(hand, alone=level == 0)
                if batch is None:
                    continue
                give(hand, batch)
                given += 1
                if level + 1 < self._depth:
                    levels[level + 1].append(hand)

    def to_take_back(self, busy: Iterable[H], idle: Sequence[Hand]) -> list[tuple[H, Batch]]:
        """Batches that wait in busy hands and that `idle` ones would have done sooner; those that end last first."""
        if not idle or self.ledger.ready or not self._work.exhausted:
            return []
        self._now = self._clock()
        line = self.costs.line()
        laden = [(self._free_at(hand, line), hand) for hand in busy if len(hand.batches) > 1]
        laden.sort(key=lambda entry: entry[0], reverse=True)
        takers = sorted(idle, key=lambda hand: hand.pace.speed, reverse=True)
        return [
            (hand, hand.batches[-1])
            for (end, hand), taker in zip(laden, takers, strict=False)
            if self._now + self._takes(taker, hand.batches[-1], line) < end
        ]

    def took(self, hand: Hand, batch: Batch, seconds: float) -> None:
        """Learn from a batch that took an actor so long."""
        hand.pace.add(batch.weight, seconds, self.costs)
        # Costs are an average actor's, whose speed is 1: else both would drift together.
        self._usual += (1 - MEMORY) * (hand.pace.speed - self._usual)
        self.costs.add(batch.weight, seconds * hand.pace.speed / self._usual)

    def _next(self, hand: Hand, alone: bool) -> Batch | None:
        """What goes again, or fresh rows; None where neither is for this actor."""
        again = self.ledger.next(alone)
        if again is None or again.alone or not again.weight or self._exact or self._much_left(hand):
            return self.ledger.take(alone)
        weight = self._until_the_end(hand)
        if not weight:
            return None
        batch = self.ledger.take(alone)
        rows = math.ceil(len(again) * weight / again.weight - 1e-6)
        if batch is None or rows >= len(batch):
            return batch
        self.ledger.put_back(batch.chosen(range(rows, len(batch))))
        return batch.chosen(range(rows))

    def _fresh(self) -> Batch | None:
        if self._exact or self._for is None:
            return self._work.take(self._largest)
        hand = self._for
        if not self._work.left or (not hand.pace.known and len(hand.batches) >= FIRST_DEPTH):
            return None
        full = self._full()
        if sum(batch.weight for batch in hand.batches[1:]) > LEAD * full * hand.pace.speed:
            return None
        weight = full if self._much_left(hand) else self._until_the_end(hand)
        return self._work.take(self._largest, weight) if weight else None

    def _much_left(self, hand: Hand) -> bool:
        """Whether an actor's share of what is left is more than a few full batches: soon told, and often."""
        line, full = self.costs.line(), self._full()
        batches = hand.pace.speed / max(1, self._actors()) * self._work.left / full
        in_hand = (self._free_at(hand, line) - self._now) * hand.pace.speed
        return (batches - MUCH) * (line[0] + line[1] * full) > in_hand

    def _full(self) -> float:
        """The weight of a batch, at most."""
        return min(self._largest * self._work.each, max(HEAVIEST, self._work.each))

    def _until_the_end(self, hand: Hand) -> float:
        """The weight of an actor's next batch if all are to end together; 0 where it is to have none."""
        line, full = self.costs.line(), self._full()
        if self._end is None:
            self._end = self._all_done(line, full)
        weight = next_of((self._end - self._free_at(hand, line)) * hand.pace.speed, line, full)
        # So little is better done by one that has nothing.
        return 0.0 if hand.batches and weight < min(full, self.costs.floor) else weight

    def _all_done(self, line: tuple[float, float], full: float) -> float:
        """When all could be done, those at work that are expected yet."""
        hands = self._everyone()
        speeds = [hand.pace.speed for hand in hands]
        missing = max(0, self._actors() - len(hands))
        # Nothing is left to those who may never come that others could begin now.
        speeds += missing * [min([1.0, *speeds])]
        free = [self._free_at(hand, line) for hand in hands] + missing * [self._now]
        left = self._work.left + self.ledger.ready_weight
        return end_of(left, np.array(free), np.array(speeds), line, full)

    def _free_at(self, hand: Hand, line: tuple[float, float]) -> float:
        """When an actor is done with what it has in hand, as far as can be told."""
        if not hand.batches:
            return self._now
        first, *others = [self._takes(hand, batch, line) for batch in hand.batches]
        # Before the first answer nobody knows what a second is worth.
        begun = hand.since if self.costs.known else self._now
        return max(self._now, begun + first) + sum(others)

    @staticmethod
    def _takes(hand: Hand, batch: Batch, line: tuple[float, float]) -> float:
        """Seconds that a batch takes an actor."""
        return (line[0] + line[1] * batch.weight) / hand.pace.speed
