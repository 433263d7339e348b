"""The work of one actor: load a batch, refine it, write its part, and load the next one meanwhile.

A plain class that knows nothing of Ray; `pool` makes it an actor.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

from refine_batch.config import RefineConfig
from refine_batch.errors import ErrorKind, InstanceError, UsageError
from refine_batch.instance import Figures, Instance, RefinedInstance
from refine_batch.io.storage import Storage, redact
from refine_batch.job.batch import Batch, RowOutcome, Task
from refine_batch.job.code_folder import PACKAGE, code_digest, extend_path
from refine_batch.job.encoder import provide_encoder
from refine_batch.job.versions import code_version
from refine_batch.results.lock import held_by
from refine_batch.results.parts import part_name, write_part
from refine_batch.results.rows import RowContext, row_of, table_of

# Seconds that a shared file system may take to show one machine what another wrote.
SEEN_WITHIN = 15.0


@dataclass(frozen=True)
class Assignment:
    """What every actor of a run is told at its start.

    Parameters
    ----------
    part_bytes
        Largest part; a batch with more than that is written as several.
    device
        `auto`, `cpu` or `cuda`.
    threads
        Of torch on a CPU.
    code_digest
        Of the driver's code; an actor that would run another refuses. Empty: it is not asked.
    search_path
        Folders in which the driver finds a method that is not this package's.
    """

    run_id: str
    output: Storage
    config: RefineConfig
    code_version: str
    s3_endpoint: str | None = None
    part_bytes: int = 32_000_000
    loaders: int = 8
    max_pixels: int = 1 << 26
    threads: int = 1
    device: str = "auto"
    not_before: datetime | None = None
    code_digest: str = ""
    search_path: tuple[str, ...] = ()


class Refiner:
    """Refines batches one after the other."""

    def __init__(self, assignment: Assignment):
        self._assignment = assignment
        self._loading: dict[str, list[Future[Instance]]] = {}
        self._pool = ThreadPoolExecutor(assignment.loaders, thread_name_prefix="load")

    def ready(self) -> dict[str, Any]:
        """Import and set up all that a first batch needs; where this actor runs, and on what device.

        Raises
        ------
        UsageError
            The method or its weights cannot be loaded on this node, or it has other code than the driver, or another
            folder in the output's place.
        """
        self._compare_code()
        extend_path(self._assignment.search_path)
        import torch

        self._look_for_the_output()

        # Now, lest a batch's deadline pay for the import.
        from refine_batch.devices.choice import choose_device
        from refine_batch.methods.base import load_method

        torch.set_num_threads(self._assignment.threads)
        load_method(self._assignment.config.method)
        provide_encoder(self._assignment.config.encoder_weights, self._assignment.s3_endpoint)
        device = choose_device(self._assignment.device)
        return {"host": socket.gethostname(), "pid": os.getpid(), "device": str(device)}

    def _compare_code(self) -> None:
        """Other code gives other results, which would count as this code's."""
        expected = self._assignment.code_digest
        if expected and code_digest() != expected:
            raise UsageError(
                f"{socket.gethostname()} has another refine-batch than the driver: {code_version()} in {PACKAGE} with "
                f"the digest {code_digest()} instead of {expected}; install the same on every node, or submit the run "
                "with `ray job submit --working-dir`, which takes the code along"
            )

    def _look_for_the_output(self) -> None:
        """A path may mean another folder on another machine: rows written there would be lost, and count as done."""
        output = self._assignment.output
        deadline = time.monotonic() + SEEN_WITHIN
        while output.local and held_by(output) != self._assignment.run_id:
            if time.monotonic() > deadline:
                raise UsageError(
                    f"the output {output} is not the same folder on every node: {socket.gethostname()} does not find "
                    "this run's lock in it; give a folder that all nodes share, or a URI such as s3://bucket/refined"
                )
            time.sleep(0.5)

    def work(self, batch: Batch, upcoming: Batch | None = None) -> list[RowOutcome]:
        """Refine a batch and put its rows into storage, loading `upcoming` meanwhile; one outcome per row, in order.

        Raises
        ------
        StorageError
            The rows could not be written.
        """
        loading = self._loading.pop(batch.name, None) or self._load(batch)
        self._drop_all()
        if upcoming is not None:
            self._loading[upcoming.name] = self._load(upcoming)
        times = [time.monotonic()]
        loaded = [_settled(task, future) for task, future in zip(batch.tasks, loading, strict=True)]
        times.append(time.monotonic())
        refined = iter(refine_isolated([x for x in loaded if isinstance(x, Instance)], self._assignment))
        outcomes = [replace(next(refined), content=x.content) if isinstance(x, Instance) else x for x in loaded]
        times.append(time.monotonic())
        write_outcomes(self._assignment, batch, outcomes)
        times.append(time.monotonic())
        self._observe(outcomes, *(end - start for start, end in pairwise(times)))
        return [row_outcome(outcome) for outcome in outcomes]

    def _observe(self, outcomes: Sequence[RefinedInstance], waited: float, refined: float, written: float) -> None:
        """Told of each batch that is in storage, with the seconds its parts took; here nobody wants to know."""

    def _load(self, batch: Batch) -> list[Future[Instance]]:
        return [self._pool.submit(load, task, self._assignment) for task in batch.tasks]

    def _drop_all(self) -> None:
        """Forget what was loaded for batches that went elsewhere."""
        for futures in self._loading.values():
            for future in futures:
                future.cancel()
        self._loading.clear()


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


def failed(instance_id: str, error: BaseException) -> RefinedInstance:
    """The outcome of an instance that raised."""
    if isinstance(error, InstanceError):
        kind, message = error.kind, error.message
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        kind, message = ErrorKind.OUT_OF_MEMORY, f"out of memory: {error}".rstrip(": ")
    else:
        kind, message = ErrorKind.INTERNAL, f"{type(error).__name__}: {error}"
    return RefinedInstance(instance_id, "failed", error_kind=str(kind), error_message=redact(message))


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


def write_outcomes(assignment: Assignment, batch: Batch, outcomes: Sequence[RefinedInstance]) -> None:
    """Put a batch's rows into storage, as one part or, where that grew too large, several."""
    part: list[tuple[Task, RefinedInstance]] = []
    size = 0
    for task, outcome in zip(batch.tasks, outcomes, strict=True):
        weight = _bytes(outcome)
        if part and size + weight > assignment.part_bytes:
            _write_part(assignment, batch, part)
            part, size = [], 0
        part.append((task, outcome))
        size += weight
    _write_part(assignment, batch, part)


def _write_part(assignment: Assignment, batch: Batch, part: Sequence[tuple[Task, RefinedInstance]]) -> None:
    rows = [row_of(outcome, task.row, row_context(assignment, batch, task)) for task, outcome in part]
    keys = [f"{task.row.instance_id}\x00{task.fingerprint}" for task, _ in part]
    write_part(assignment.output, table_of(rows), part_name(assignment.run_id, keys, batch.name))


def row_context(assignment: Assignment, batch: Batch, task: Task) -> RowContext:
    """What the row of `task` says besides its outcome."""
    return RowContext(
        run_id=assignment.run_id,
        method=assignment.config.method,
        config_hash=assignment.config.config_hash(),
        code_version=assignment.code_version,
        fingerprint=task.fingerprint,
        attempts=batch.attempt,
        node=socket.gethostname(),
        batch=batch.name,
        transient_runs=task.transient_runs,
        not_before=assignment.not_before,
    )


def row_outcome(outcome: RefinedInstance) -> RowOutcome:
    """What the driver is told of an outcome."""
    return RowOutcome(
        instance_id=outcome.instance_id,
        status=outcome.status,
        error_kind=outcome.error_kind,
        error_message=redact(outcome.error_message)[:500] if outcome.error_message else None,
        before=_known(outcome.before),
        after=_known(outcome.after),
        seconds=outcome.seconds,
    )


def _known(figures: Figures) -> dict[str, float]:
    return {name: float(value) for name, value in asdict(figures).items() if value is not None}


def _bytes(outcome: RefinedInstance) -> int:
    """Size of a row, nearly all of which is its arrays."""
    arrays = [outcome.symmetry_confidence, outcome.loss_curve]
    if outcome.mesh is not None:
        arrays += [outcome.mesh.vertices, outcome.mesh.faces]
    return 1000 + sum(array.nbytes for array in arrays if array is not None)
