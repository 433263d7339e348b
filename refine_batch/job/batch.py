"""What travels between the driver and its actors: rows to refine, and what became of them.

Rows travel as columns, and what became of a batch as sums: the driver of a thousand actors has no time for objects.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from refine_batch.dataset.columns import MANIFEST_SCHEMA
from refine_batch.dataset.row import ManifestRow
from refine_batch.errors import ErrorKind
from refine_batch.instance import Status

# Beside the manifest's columns.
MARK, RUNS = "_fingerprint", "_transient_runs"
WORK_SCHEMA = pa.schema([*MANIFEST_SCHEMA, pa.field(MARK, pa.string()), pa.field(RUNS, pa.int32())])


@dataclass(frozen=True)
class Task:
    """One manifest row to be refined, with the fingerprint of everything its result depends on.

    Parameters
    ----------
    transient_runs
        Runs before this one in which it failed for a reason that may pass.
    """

    row: ManifestRow
    fingerprint: str
    transient_runs: int = 0


@dataclass(frozen=True)
class Batch:
    """Rows that one actor refines together.

    Parameters
    ----------
    rows
        Of WORK_SCHEMA.
    tries
        How often it was begun and came to nothing through a fault that it may have caused.
    losses
        How often it was begun on a node that then went away, which is nobody's fault.
    waits
        How often its rows were put off because what failed may pass.
    alone
        Whether it may have ended an actor that had other batches in hand as well: it is given to one that has none.
    last
        Whether its rows are not put off any more.
    weight
        What it is expected to cost, in the planner's units.
    """

    rows: pa.RecordBatch
    tries: int = 0
    losses: int = 0
    waits: int = 0
    alone: bool = False
    last: bool = False
    weight: float = 0.0

    @classmethod
    def of(cls, tasks: Sequence[Task], **settings: int) -> Batch:
        """A batch of single tasks."""
        rows = [asdict(t.row) | {MARK: t.fingerprint, RUNS: t.transient_runs} for t in tasks]
        return cls(pa.RecordBatch.from_pylist(rows, schema=WORK_SCHEMA), **settings)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.rows.num_rows

    def __reduce__(self) -> tuple:
        # On its way to an actor its rows are one buffer: a buffer of each column's takes the driver ten times as long.
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "rows"}
        return _arrived, (self.rows.serialize().to_pybytes(), settings)

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """Its rows as objects, for whoever refines them."""
        manifest = self.rows.select(MANIFEST_SCHEMA.names)
        marks, runs = self.rows.column(MARK).to_pylist(), self.rows.column(RUNS).to_pylist()
        return tuple(
            Task(ManifestRow.from_batch(manifest, i), mark, count)
            for i, (mark, count) in enumerate(zip(marks, runs, strict=True))
        )

    @property
    def ids(self) -> list[str]:
        return self.rows.column("instance_id").to_pylist()

    @cached_property
    def name(self) -> str:
        """16 hex digits of its rows: the same for the same rows, whoever refines them and how often."""
        digest = hashlib.blake2b(digest_size=8)
        for instance_id, mark in zip(self.ids, self.rows.column(MARK).to_pylist(), strict=True):
            digest.update(f"{instance_id}\x00{mark}\x00".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    @property
    def attempt(self) -> int:
        """Number of the attempt that is about to be made, from 1."""
        return self.tries + 1

    def chosen(self, indices: Sequence[int], **changes: int | float | bool) -> Batch:
        """Only these of its rows."""
        share = self.weight * len(indices) / max(1, len(self))
        rows = self.rows.take(pa.array(np.asarray(indices, np.int64)))
        return replace(self, rows=rows, **{"weight": share} | changes)  # type: ignore[arg-type]

    def halves(self, **changes: int | float | bool) -> tuple[Batch, Batch]:
        """Its rows in two batches; of two or more rows only."""
        middle = len(self) // 2
        return self.chosen(range(middle), **changes), self.chosen(range(middle, len(self)), **changes)


def _arrived(rows: bytes, settings: dict[str, Any]) -> Batch:
    return Batch(pa.ipc.read_record_batch(pa.py_buffer(rows), WORK_SCHEMA), **settings)


@dataclass(frozen=True)
class RowOutcome:
    """What became of one row: no meshes, so that the driver stays small."""

    instance_id: str
    status: Status
    error_kind: str | None = None
    error_message: str | None = None
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    doubtful: bool = False


@dataclass(frozen=True)
class Report:
    """What became of a batch, once its rows are in storage.

    Parameters
    ----------
    counts
        Rows by status.
    failures
        Those that failed.
    figures
        By name: over how many rows a figure is known both before and after, and its sums.
    seconds
        Sum of the rows' own.
    doubtful
        Rows whose mesh and mask hardly met.
    stages
        Seconds that each stage took for its rows, all together.
    device
        Seconds for which the actor's device was busy, and idle, since its last report.
    put_off
        Rows that are not in storage because what they failed of may pass.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[RowOutcome, ...] = ()
    figures: Mapping[str, tuple[int, float, float]] = field(default_factory=dict)
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)
    put_off: tuple[RowOutcome, ...] = ()
    device: tuple[float, float] = (0.0, 0.0)
    doubtful: int = 0

    @classmethod
    def of(
        cls,
        outcomes: Iterable[RowOutcome],
        stages: Mapping[str, float] | None = None,
        put_off: Iterable[RowOutcome] = (),
        device: tuple[float, float] = (0.0, 0.0),
    ) -> Report:
        outcomes = list(outcomes)
        sums: dict[str, list[float]] = {}
        for outcome in outcomes:
            for name in outcome.before.keys() & outcome.after.keys():
                known = sums.setdefault(name, [0, 0.0, 0.0])
                known[0] += 1
                known[1] += outcome.before[name]
                known[2] += outcome.after[name]
        return cls(
            counts=dict(Counter(outcome.status for outcome in outcomes)),
            failures=tuple(outcome for outcome in outcomes if outcome.status == "failed"),
            figures={name: (int(count), before, after) for name, (count, before, after) in sums.items()},
            seconds=sum(outcome.seconds for outcome in outcomes),
            stages=stages or {},
            put_off=tuple(put_off),
            device=device,
            doubtful=sum(outcome.doubtful for outcome in outcomes),
        )

    @property
    def rows(self) -> int:
        """Rows that are in storage."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Fault:
    """Why a batch came to nothing.

    Parameters
    ----------
    blameless
        Nothing in the batch can have caused it (a node was taken away).
    fatal
        Every batch would meet it (a configuration that cannot be used).
    passing
        It is the store's, and may be over in a while.
    collateral
        It is another batch's, probably, that the same actor had in hand.
    """

    kind: ErrorKind
    message: str
    blameless: bool = False
    fatal: bool = False
    passing: bool = False
    collateral: bool = False
