"""From what became of instances to rows in storage, and to what the driver is told of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import asdict

from refine_batch.errors import as_fault
from refine_batch.instance import Figures, RefinedInstance
from refine_batch.io.storage import redact
from refine_batch.job.assignment import Assignment
from refine_batch.job.batch import Batch, RowOutcome, Task
from refine_batch.results.parts import part_name, write_part
from refine_batch.results.rows import RowContext, row_of, table_of


def failed(instance_id: str, error: BaseException) -> RefinedInstance:
    """The outcome of an instance that raised."""
    fault = as_fault(error)
    return RefinedInstance(instance_id, "failed", error_kind=str(fault.kind), error_message=redact(fault.message))


def write_outcomes(
    assignment: Assignment, batch: Batch, outcomes: Sequence[RefinedInstance], name: str | None = None
) -> None:
    """Put a batch's rows into storage, as one part or, where that grew too large, several.

    Parameters
    ----------
    name
        Of the batch that they are a part of, by which they are found; by default its own.
    """
    name = name or batch.name
    part: list[tuple[Task, RefinedInstance]] = []
    size = 0
    for task, outcome in zip(batch.tasks, outcomes, strict=True):
        weight = _bytes(outcome)
        if part and size + weight > assignment.part_bytes:
            _write_part(assignment, batch, name, part)
            part, size = [], 0
        part.append((task, outcome))
        size += weight
    _write_part(assignment, batch, name, part)


def _write_part(assignment: Assignment, batch: Batch, name: str, part: Sequence[tuple[Task, RefinedInstance]]) -> None:
    begun = time.perf_counter()
    rows = [row_of(outcome, task.row, row_context(assignment, batch, name, task)) for task, outcome in part]
    share = (time.perf_counter() - begun) / max(1, len(rows))
    rows = [row | {"seconds_write": share} for row in rows]
    keys = [f"{task.row.instance_id}\x00{task.fingerprint}" for task, _ in part]
    write_part(assignment.output, table_of(rows), part_name(assignment.run_id, keys, name))


def row_context(assignment: Assignment, batch: Batch, name: str, task: Task) -> RowContext:
    """What the row of `task` says besides its outcome."""
    return RowContext(
        run_id=assignment.run_id,
        method=assignment.config.method,
        config_hash=assignment.config.config_hash(),
        code_version=assignment.code_version,
        fingerprint=task.fingerprint,
        attempts=batch.attempt,
        node=socket.gethostname(),
        batch=name,
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
        doubtful=outcome.doubtful,
    )


def _known(figures: Figures) -> dict[str, float]:
    return {name: float(value) for name, value in asdict(figures).items() if value is not None}


def _bytes(outcome: RefinedInstance) -> int:
    """Size of a row, nearly all of which is its arrays."""
    arrays = [outcome.symmetry_confidence, outcome.loss_curve]
    if outcome.mesh is not None:
        arrays += [outcome.mesh.vertices, outcome.mesh.faces]
    return 1000 + sum(array.nbytes for array in arrays if array is not None)
