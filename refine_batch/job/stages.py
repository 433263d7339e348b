"""The stages that a batch goes through in an actor: load → refine on the device → and then it is written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from refine_batch.errors import UsageError
from refine_batch.instance import Instance, RefinedInstance
from refine_batch.job.assignment import Assignment
from refine_batch.job.batch import Batch, Task
from refine_batch.job.outcomes import failed
from refine_batch.job.turns import Turns


@dataclass
class Concluded:
    """A batch that only has to be written: what became of its rows, in order, and what the stages took."""

    outcomes: list[RefinedInstance]
    seconds: dict[str, float] = field(default_factory=dict)


class Stages:
    """Everything that happens to a batch but its being written."""

    def __init__(self, assignment: Assignment, turns: Turns):
        self._assignment, self._turns = assignment, turns
        self._loaders = ThreadPoolExecutor(assignment.loaders, thread_name_prefix="load")

    def conclude(self, batch: Batch) -> Concluded:
        """Bring a batch through all of them.

        Raises
        ------
        Withdrawn
            It was taken back before its turn at the device.
        """
        begun = time.monotonic()
        loading = [self._loaders.submit(load, task, self._assignment) for task in batch.tasks]
        loaded = [_settled(task, future) for task, future in zip(batch.tasks, loading, strict=True)]
        seconds = {"load": time.monotonic() - begun}
        with self._turns.at_the_device(batch.name):
            begun = time.monotonic()
            refined = iter(refine_isolated([x for x in loaded if isinstance(x, Instance)], self._assignment))
            outcomes = [replace(next(refined), content=x.content) if isinstance(x, Instance) else x for x in loaded]
            seconds["optimise"] = time.monotonic() - begun
        return Concluded(outcomes, seconds)


def load(task: Task, assignment: Assignment) -> Instance:
    """The instance of one row. Raises InstanceError."""
    from refine_batch.dataset.load import Limits, load_instance

    problem = task.row.problem()
    if problem is not None:
        raise problem
    limits = Limits(image_pixels=assignment.max_pixels)
    return load_instance(task.row, assignment.config, s3_endpoint=assignment.s3_endpoint, limits=limits)


def _settled(task: Task, future: Future[Instance]) -> Instance | RefinedInstance:
    try:
        return future.result()
    except Exception as error:
        return failed(task.row.instance_id, error)


def refine_isolated(instances: Sequence[Instance], assignment: Assignment) -> list[RefinedInstance]:
    """Refine together; where that raises all the same, in halves, so that only the one to blame fails."""
    from refine_batch.refinement.pipeline import refine

    if not instances:
        return []
    try:
        refined = refine(instances, assignment.config, device=assignment.device)
        if len(refined) != len(instances):
            raise RuntimeError(f"{len(instances)} instances went in and {len(refined)} came out")
        return refined
    except UsageError:
        # The configuration is at fault, not an instance: the run ends.
        raise
    except (Exception, SystemExit) as error:
        if len(instances) == 1:
            return [failed(instances[0].instance_id, error)]
    half = len(instances) // 2
    return refine_isolated(instances[:half], assignment) + refine_isolated(instances[half:], assignment)
