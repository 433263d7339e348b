"""The host's stages of single instances, as functions that a process of the crew can be given."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from refine_batch.config import RefineConfig
from refine_batch.dataset.load import Limits, load_instance
from refine_batch.errors import InstanceError
from refine_batch.instance import Instance, RefinedInstance
from refine_batch.job.assignment import Assignment
from refine_batch.job.batch import Task
from refine_batch.job.outcomes import failed
from refine_batch.refinement.pipeline import concluded, prepared_or_error
from refine_batch.refinement.prepare import Prepared


@dataclass(eq=False)
class Readied:
    """A row that was loaded and prepared, or the outcome where that came to nothing.

    Attributes
    ----------
    content, notes
        As of the instance; kept, because the instance is not.
    seconds
        By stage.
    """

    prepared: Prepared | None
    outcome: RefinedInstance | None = None
    content: Any = None
    notes: Any = None
    seconds: dict[str, float] = field(default_factory=dict)


def load(task: Task, assignment: Assignment) -> Instance:
    """The instance of one row. Raises InstanceError."""
    problem = task.row.problem()
    if problem is not None:
        raise problem
    limits = Limits(image_pixels=assignment.max_pixels)
    return load_instance(task.row, assignment.config, s3_endpoint=assignment.s3_endpoint, limits=limits)


def ready(some: tuple[Sequence[Task], Assignment]) -> list[Readied]:
    """Load rows, several at a time, and prepare each as it comes."""
    tasks, assignment = some
    with ThreadPoolExecutor(max(1, min(assignment.loaders, len(tasks))), thread_name_prefix="load") as threads:
        loading = [threads.submit(_timed_load, task, assignment) for task in tasks]
        return [_prepared(task, *future.result(), assignment) for task, future in zip(tasks, loading, strict=True)]


def conclude(some: tuple[str, Any, RefineConfig]) -> tuple[RefinedInstance, float]:
    """What a method made of one instance, measured and judged, and the seconds that took."""
    instance_id, outcome, config = some
    begun = time.perf_counter()
    return concluded(instance_id, outcome, config), time.perf_counter() - begun


def _timed_load(task: Task, assignment: Assignment) -> tuple[Instance | Exception, float]:
    begun = time.perf_counter()
    try:
        loaded: Instance | Exception = load(task, assignment)
    except Exception as error:
        loaded = error
    return loaded, time.perf_counter() - begun


def _prepared(task: Task, loaded: Instance | Exception, seconds: float, assignment: Assignment) -> Readied:
    if isinstance(loaded, Exception):
        return Readied(None, failed(task.row.instance_id, loaded), seconds={"load": seconds})
    begun = time.perf_counter()
    found = prepared_or_error(loaded, assignment.config)
    took = {"load": seconds, "prepare": time.perf_counter() - begun}
    if isinstance(found, InstanceError):
        outcome = replace(failed(task.row.instance_id, found), notes=loaded.notes)
        return Readied(None, outcome, loaded.content, loaded.notes, took)
    return Readied(found, None, loaded.content, loaded.notes, took)
