"""How well a plan spreads: the real ledger, planner and shelf with actors that are only simulated, and a made-up clock.

    python benchmarks/fleet.py                    # every scenario below, in a minute or two
    python benchmarks/fleet.py --rows 10_000_000 --actors 1000

An actor takes `overhead + Σ row seconds` for a batch, divided by its speed; row seconds follow the sizes of the meshes,
which are log-normal. What is printed is the makespan beside the bound: all the work at the efficiency of full batches,
over the actors that there are, and no less than the longest single row.
"""

from __future__ import annotations

import argparse
import heapq
import time
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from refine_batch.errors import ErrorKind
from refine_batch.job.batch import WORK_SCHEMA, Batch, Fault, Report
from refine_batch.job.schedule import Schedule
from refine_batch.job.shelf import Shelf
from refine_batch.job.sizing import Pace

CHUNK = 65_536


@dataclass(frozen=True)
class Scenario:
    """What is simulated.

    Attributes
    ----------
    overhead, row
        Seconds of a batch, and of a row of the usual size on top.
    largest
        Rows of a batch, at most.
    spread
        Of the logarithm of the meshes' sizes.
    slow
        Share of the actors that are three times slower than the others.
    losses
        How often, in expectation, each actor's node is lost during the run; another comes after `start` seconds.
    grows
        Whether actors come one after the other, `start` seconds apart, instead of being there.
    """

    name: str
    rows: int
    actors: int
    overhead: float = 2.0
    row: float = 0.05
    largest: int = 64
    spread: float = 0.5
    slow: float = 0.0
    losses: float = 0.0
    grows: bool = False
    start: float = 10.0


SCENARIOS = (
    Scenario("one actor", 5_000, 1),
    Scenario("a thousand changed rows on 100 GPUs", 1_000, 100),
    Scenario("a hundred thousand rows on 100 GPUs", 100_000, 100),
    Scenario("sizes that differ much", 100_000, 100, spread=1.5),
    Scenario("a tenth of the nodes three times slower", 100_000, 100, slow=0.1),
    Scenario("every node lost once", 100_000, 100, losses=1.0),
    Scenario("a cluster that scales from nothing", 100_000, 100, grows=True),
    Scenario("CPU actors, batches of four", 100_000, 200, overhead=0.1, row=3.0, largest=4),
    Scenario("a million rows on 1000 GPUs", 1_000_000, 1_000),
)


class Rows:
    """The plan's side: rows of made-up meshes on a real shelf."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator):
        self._shelf = Shelf()
        self.seconds = 0.0
        self.longest = 0.0
        for begin in range(0, scenario.rows, CHUNK):
            count = min(CHUNK, scenario.rows - begin)
            sizes = 100_000 * np.exp(rng.normal(0, scenario.spread, count))
            ids = pa.array(np.arange(begin, begin + count)).cast(pa.string())
            others = [field for field in WORK_SCHEMA if field.name not in ("instance_id", "mesh_uri")]
            columns = [ids, *(pa.nulls(count, field.type) for field in others)]
            # The simulation's own truth travels in a column that nobody else reads.
            seconds = scenario.row * (0.5 + 0.5 * sizes / 100_000)
            columns.insert(1, pa.array(seconds).cast(pa.string()))
            self._shelf.add(pa.RecordBatch.from_arrays(columns, schema=WORK_SCHEMA), sizes)
            self.seconds += float(seconds.sum())
            self.longest = max(self.longest, float(seconds.max()))

    @property
    def exhausted(self) -> bool:
        return not self._shelf.rows

    @property
    def left(self) -> float:
        return self._shelf.weight

    @property
    def each(self) -> float:
        return self._shelf.each

    def take(self, most: int, weight: float = np.inf) -> Batch | None:
        taken = self._shelf.take(most, weight)
        return None if taken is None else Batch(taken[0], weight=taken[1])


@dataclass(eq=False)
class Actor:
    """One that is simulated: it works its batches off one after the other."""

    speed_of_node: float
    batches: list[Batch] = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)
    since: float = 0.0
    number: int = 0


class Fleet:
    """A run of a scenario."""

    def __init__(self, scenario: Scenario, seed: int = 0):
        self._scenario = scenario
        self._rng = np.random.default_rng(seed)
        self._work = Rows(scenario, self._rng)
        self.now = 0.0
        self._schedule = Schedule(
            self._work,
            largest=scenario.largest,
            exact=False,
            actors=lambda: scenario.actors,
            everyone=lambda: self._actors,
            clock=lambda: self.now,
        )
        self._actors: list[Actor] = []
        self._idle: dict[Actor, None] = {}
        self._events: list[tuple[float, int, str, Actor, int]] = []
        self._count = 0
        self.batches = self.repeated = 0

    def run(self) -> tuple[float, float]:
        """(makespan, bound) in made-up seconds."""
        scenario = self._scenario
        batches = scenario.rows / scenario.largest
        work = self._work.seconds + scenario.overhead * max(batches, min(scenario.actors, scenario.rows))
        slow = np.arange(scenario.actors) < round(scenario.slow * scenario.actors)
        speeds = np.where(slow, 1 / 3, 1.0)
        # A loss costs the time until another node comes, and half of a batch that is done again.
        half = 0.5 * (scenario.overhead + scenario.row * scenario.largest)
        work += scenario.losses * scenario.actors * (scenario.start + half)
        bound = max(work / speeds.sum(), self._work.longest + scenario.overhead)
        if scenario.grows:
            # Half of the actors are missing, on average, while they come.
            bound += scenario.start * (scenario.actors - 1) / 2 / 10
        for k, speed in enumerate(self._rng.permutation(speeds)):
            self._push(scenario.start * k / 10 if scenario.grows else 0.0, "come", Actor(float(speed)))
            if scenario.losses and self._rng.random() < scenario.losses:
                self._push(float(self._rng.uniform(0, bound)), "lose", None)
        last = 0.0
        while self._events:
            self.now, _, what, actor, number = heapq.heappop(self._events)
            if what == "come":
                self._actors.append(actor)
                self._give([actor])
            elif what == "lose":
                self._lose()
            elif number == actor.number:
                last = self.now
                self._finish(actor)
        assert self._schedule.ledger.counts["refined"] == scenario.rows
        return last, bound

    def _push(self, at: float, what: str, actor: Actor | None, number: int = 0) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, what, actor, number))  # type: ignore[misc]

    def _give(self, actors: list[Actor]) -> None:
        # As the driver does: whoever has nothing is asked again.
        self._idle = {actor: None for actor in (*actors, *self._idle) if not actor.batches and actor.number >= 0}
        self._schedule.hand_out(dict.fromkeys((*actors, *self._idle)), self._assign)
        idle = [actor for actor in self._idle if not actor.batches]
        if idle and self._work.exhausted:
            for victim, batch in self._schedule.to_take_back(self._actors, idle):
                victim.batches.remove(batch)
                self._schedule.ledger.put_back(batch)
            self._schedule.hand_out(idle, self._assign)

    def _assign(self, actor: Actor, batch: Batch) -> None:
        actor.batches.append(batch)
        if len(actor.batches) == 1:
            self._begin(actor)

    def _begin(self, actor: Actor) -> None:
        batch = actor.batches[0]
        seconds = sum(map(float, batch.rows.column("mesh_uri").to_pylist())) + self._scenario.overhead
        actor.number += 1
        actor.since = self.now
        self._push(self.now + seconds / actor.speed_of_node, "done", actor, actor.number)

    def _finish(self, actor: Actor) -> None:
        batch = actor.batches.pop(0)
        self.batches += 1
        self._schedule.ledger.answered(Report(counts={"refined": len(batch)}))
        self._schedule.took(actor, batch, self.now - actor.since)
        if actor.batches:
            self._begin(actor)
        self._give([actor])

    def _lose(self) -> None:
        if not self._actors:
            return
        actor = self._actors.pop(int(self._rng.integers(len(self._actors))))
        for batch in actor.batches:
            self.repeated += len(batch)
            self._schedule.ledger.faulted(batch, Fault(ErrorKind.PROCESS_DIED, "the node went away", blameless=True))
        actor.number = -1
        self._push(self.now + self._scenario.start, "come", Actor(actor.speed_of_node))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--actors", type=int, default=100)
    arguments = parser.parse_args()
    scenarios = [Scenario("as asked", arguments.rows, arguments.actors)] if arguments.rows else SCENARIOS
    names = f"{'rows':>10} {'actors':>6} {'makespan':>9} {'bound':>9} {'over':>6} {'batches':>8} {'µs/row':>7}"
    print(f"{'scenario':42} {names}")
    for scenario in scenarios:
        fleet = Fleet(scenario)
        begun = time.process_time()
        makespan, bound = fleet.run()
        each = (time.process_time() - begun) / scenario.rows * 1e6
        print(
            f"{scenario.name:42} {scenario.rows:10} {scenario.actors:6} {makespan:9.1f} {bound:9.1f} "
            f"{makespan / bound - 1:6.1%} {fleet.batches:8} {each:7.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
