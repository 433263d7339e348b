"""The stages that a batch goes through in an actor: load → prepare → optimise → conclude; then it is written.

Each stage is an object with a name and what it does to a batch. Several batches are under way at a time, each at
another stage; of optimising, which has the device, there is one at a time.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from refine_batch.errors import ErrorKind, UsageError
from refine_batch.instance import RefinedInstance
from refine_batch.job.assignment import Assignment
from refine_batch.job.awaited import be_awaited_after
from refine_batch.job.batch import Batch, Task
from refine_batch.job.crew import Crew
from refine_batch.job.host_work import Found, Readied, Some, conclude, ready, unpacked, without_picture
from refine_batch.job.outcomes import failed
from refine_batch.job.shelf import bytes_of
from refine_batch.job.turns import Turns
from refine_batch.refinement.optimise import Optimised, groups, optimise
from refine_batch.refinement.pipeline import measured_all
from refine_batch.refinement.prepare import Prepared

Seconds = defaultdict[str, float]


@dataclass(eq=False)
class Passing:
    """A batch on its way through the stages.

    Attributes
    ----------
    rows
        What was made of each row before the device.
    made
        By row: what the method made of it.
    outcomes
        What became of each row, in order, at the end.
    own
        By row and stage: the seconds it took. Of the device's a row has an equal share of its group's.
    seconds
        By stage: of all rows together. Waiting is nobody's work and not counted.
    came
        When, by `time.monotonic`.
    """

    batch: Batch
    rows: list[Readied] = field(default_factory=list)
    made: dict[int, Any] = field(default_factory=dict)
    outcomes: list[RefinedInstance] = field(default_factory=list)
    seconds: Seconds = field(default_factory=lambda: Seconds(float))
    own: list[Seconds] = field(default_factory=list)
    came: float = field(default_factory=time.monotonic)


class Stage(Protocol):
    """One stage: its name, and what it does to a batch."""

    name: str

    def __call__(self, passing: Passing) -> None: ...


class Prepare:
    """Load and prepare, by the crew: what is read is prepared where it was read."""

    name = "prepare"

    def __init__(self, assignment: Assignment, turns: Turns, crew: Crew):
        self._assignment, self._turns, self._crew = assignment, turns, crew

    def __call__(self, passing: Passing) -> None:
        self._turns.check(passing.batch.name)
        tasks, hands = passing.batch.tasks, min(self._crew.hands, len(passing.batch))
        # Dealt out in turn: each hand has rows of all sizes.
        made = self._crew.map(ready, [self._some(passing.batch, tasks[k::hands]) for k in range(hands)])
        passing.rows = [made[k % hands][k // hands] for k in range(len(tasks))]
        for k, row in enumerate(passing.rows):
            if row.outcome is not None and row.outcome.error_kind == ErrorKind.OUT_OF_MEMORY:
                # Once more, with nothing of its own batch beside it.
                [[passing.rows[k]]] = self._crew.map(ready, [self._some(passing.batch, [tasks[k]])])
        passing.own = [Seconds(float, row.seconds) for row in passing.rows]

    def _some(self, batch: Batch, tasks: Sequence[Task]) -> Some:
        return Some(tasks, self._assignment, self._crew.hands, bytes_of(batch.weight / len(batch)))


class Optimise:
    """The method, on the device."""

    name = "optimise"

    def __init__(self, assignment: Assignment, turns: Turns, device: torch.device):
        self._assignment, self._turns, self._device = assignment, turns, device

    def __call__(self, passing: Passing) -> None:
        places = [k for k, row in enumerate(passing.rows) if row.prepared is not None]
        prepared = [unpacked(row.prepared) for row in passing.rows if row.prepared is not None]
        with self._turns.at_the_device(passing.batch.name):
            be_awaited_after(passing.came, self._assignment)
            for group in groups(prepared, self._assignment.config, self._device, self._assignment.batch_size):
                begun = time.perf_counter()
                made = self._isolated([prepared[n] for n in group])
                share = (time.perf_counter() - begun) / len(group)
                for n, outcome in zip(group, made, strict=True):
                    passing.made[places[n]] = outcome
                    passing.own[places[n]]["optimise"] += share

    def _isolated(self, batch: Sequence[Prepared]) -> list[Any]:
        """All together; where that ends by SystemExit all the same, in halves, so that only the one to blame fails."""
        try:
            return optimise(batch, self._assignment.config, self._device)
        except UsageError:
            # The configuration is at fault, not an instance: the run ends.
            raise
        except (Exception, SystemExit) as error:
            if len(batch) == 1:
                return [failed(batch[0].instance_id, error)]
        middle = len(batch) // 2
        return self._isolated(batch[:middle]) + self._isolated(batch[middle:])


class Conclude:
    """The guard by the crew, and the figures: by the crew where the device is a CPU, else on the device."""

    name = "conclude"

    def __init__(self, assignment: Assignment, crew: Crew, device: torch.device):
        self._config, self._crew, self._device = assignment.config, crew, device

    def __call__(self, passing: Passing) -> None:
        found = {k: row.outcome for k, row in enumerate(passing.rows) if row.outcome is not None}
        found |= {k: made for k, made in passing.made.items() if isinstance(made, RefinedInstance)}
        open_ = [k for k in passing.made if k not in found]
        found |= self._concluded(passing, open_)
        for k in open_:
            if found[k].error_kind == ErrorKind.OUT_OF_MEMORY and isinstance(passing.made[k], Optimised):
                # Once more, with nothing of its own batch beside it.
                found |= self._concluded(passing, [k])
        places = range(len(passing.batch))
        passing.outcomes = [self._whole(found[k], passing.rows[k], passing.own[k]) for k in places]
        passing.rows, passing.made = [], {}

    def _concluded(self, passing: Passing, places: Sequence[int]) -> dict[int, RefinedInstance]:
        """By place; each row has an equal share of its hand's seconds, and of the device's."""
        on_host = self._device.type == "cpu"
        ids, made = passing.batch.ids, passing.made
        hands = min(self._crew.hands, len(places))
        # Dealt out in turn: each hand has rows of all sizes.
        dealt = [places[hand::hands] for hand in range(hands)]
        work = [
            Found([ids[k] for k in some], [_without_picture(made[k]) for k in some], self._config, on_host)
            for some in dealt
        ]
        found: dict[int, RefinedInstance] = {}
        for some, (results, seconds) in zip(dealt, self._crew.map(conclude, work), strict=True):
            found |= zip(some, results, strict=True)
            for k in some:
                passing.own[k]["conclude"] += seconds / len(some)
        if not on_host and places:
            begun = time.perf_counter()
            rows, of = [found[k] for k in places], [made[k] for k in places]
            done = measured_all(rows, of, self._config, self._device, self._crew.pool)
            found |= zip(places, done, strict=True)
            for k in places:
                passing.own[k]["conclude"] += (time.perf_counter() - begun) / len(places)
        return found

    def _whole(self, outcome: RefinedInstance, row: Readied, own: Seconds) -> RefinedInstance:
        return replace(
            outcome,
            content=row.content,
            notes=row.notes or outcome.notes,
            seconds=sum(own.values()) - own["load"],
            stages=dict(own),
            device=str(self._device),
        )


def _without_picture(made: Any) -> Any:
    """What the method made of a row, less what nobody asks any more and is most of its bytes."""
    if not isinstance(made, Optimised):
        return made
    return replace(made, prepared=without_picture(made.prepared))


class Stages:
    """The stages in their order."""

    def __init__(self, assignment: Assignment, turns: Turns, device: torch.device):
        self.device = device
        self.crew = Crew(assignment.cores)
        self._stages: tuple[Stage, ...] = (
            Prepare(assignment, turns, self.crew),
            Optimise(assignment, turns, device),
            Conclude(assignment, self.crew, device),
        )

    def pass_through(self, batch: Batch) -> Passing:
        """Bring a batch through all of them.

        Raises
        ------
        Withdrawn
            It was taken back before its turn at the device.
        StorageError
            Its turn came late, and the run is over.
        CrewError
            A process died that did the host's part.
        """
        passing = Passing(batch)
        for stage in self._stages:
            stage(passing)
        for own in passing.own:
            for name, seconds in own.items():
                passing.seconds[name] += seconds
        return passing
