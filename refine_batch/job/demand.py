"""How many actors a run asks for, on a cluster as it is and on one that may grow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

# Actors that `auto` asks for beyond the room there is; how far a cluster grows is for its autoscaler to limit.
ASKED_BEYOND = 64


class Demand:
    """The number of actors that are wanted.

    What Ray's autoscaler goes by is actors that wait for a node, and Ray tells nobody how far it would go. So `auto`
    lets some wait. Where no room comes of that in the time a node takes to start, the cluster counts as grown; nodes
    that come or go start the waiting again.

    Parameters
    ----------
    actors
        A number, which is asked for whatever the cluster has, or `auto`.
    grows
        Whether the cluster may have an autoscaler.
    node_start
        Seconds that a node may take to start.
    """

    def __init__(
        self,
        actors: int | Literal["auto"],
        *,
        grows: bool,
        node_start: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._actors, self._grows, self._node_start, self._clock = actors, grows, node_start, clock
        self._slots = -1
        self._until = 0.0

    def room(self, slots: int) -> int:
        """Actors wanted of the cluster as it is, with room for `slots`."""
        return max(1, slots) if self._actors == "auto" else self._actors

    def target(self, slots: int) -> int:
        """Actors to ask for now."""
        if self._actors != "auto":
            return self._actors
        if slots != self._slots:
            self._slots, self._until = slots, self._clock() + self._node_start
        waiting = ASKED_BEYOND if self._grows and self._clock() < self._until else 0
        return max(1, slots + waiting)
