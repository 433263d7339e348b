"""What a run tells Ray's metrics endpoint, from its driver and from its actors.

Prometheus reads the names below with `ray_` in front, and counters with `_total` behind; cluster/grafana draws them.
Every series carries the run's id.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram, Metric

from refine_batch.instance import RefinedInstance
from refine_batch.io.retry import retries
from refine_batch.job.turns import Turns

# Seconds of one step of one instance: from a GPU's share of a batch to a large mesh on a slow core.
STEP_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
EVERY = 1.0


@dataclass(frozen=True)
class Described:
    """A metric: its kind, its name without prefix, and what it means."""

    kind: type[Metric]
    name: str
    description: str
    tags: tuple[str, ...] = ()
    boundaries: Sequence[float] | None = None

    def make(self, run_id: str) -> Any:
        options: dict[str, Any] = {"boundaries": list(self.boundaries)} if self.boundaries else {}
        metric: Any = self.kind(self.name, self.description, tag_keys=("run", *self.tags), **options)
        metric.set_default_tags({"run": run_id})
        return metric

    @property
    def exported(self) -> str:
        """The name that Prometheus sees; of a histogram, what `_bucket`, `_sum` and `_count` are appended to."""
        return f"ray_{self.name}" + ("_total" if self.kind is Counter else "")


ROWS = Described(Counter, "refine_batch_rows", "Rows brought to an end", ("status",))
FAULTS = Described(Counter, "refine_batch_faults", "Batches that came to nothing, by kind of fault", ("kind",))
QUEUE = Described(Gauge, "refine_batch_queue_rows", "Rows known to be left to do and not handed out yet")
ACTORS = Described(Gauge, "refine_batch_actors", "Actors alive, starting, and without a node to start on", ("state",))
RETRIES = Described(Counter, "refine_batch_storage_retries", "Storage requests that were repeated")
STEP = Described(
    Histogram,
    "refine_batch_step_seconds",
    "Seconds per step of one instance, its share of its batch",
    ("method",),
    STEP_SECONDS,
)
BATCH = Described(Histogram, "refine_batch_batch_rows", "Rows of a batch", (), BATCH_ROWS)
STAGE = Described(Counter, "refine_batch_stage_seconds", "Seconds that batches spent in each stage", ("stage",))
DEVICE = Described(Counter, "refine_batch_device_seconds", "Seconds that devices were busy, and idle", ("state",))
ALL = (ROWS, FAULTS, QUEUE, ACTORS, RETRIES, STEP, BATCH, STAGE, DEVICE)


class _Growth:
    """Increments of counts that are only known as totals."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def of(self, name: str, total: float) -> float:
        grown = total - self._told.get(name, 0.0)
        self._told[name] = total
        return grown


class DriverMetrics:
    """What the driver knows: rows, faults, the queue and its actors."""

    def __init__(self, run_id: str):
        self._rows, self._faults, self._retries = (m.make(run_id) for m in (ROWS, FAULTS, RETRIES))
        self._queue, self._actors = QUEUE.make(run_id), ACTORS.make(run_id)
        self._growth = _Growth()
        self._growth.of("retries", retries())  # those of before the run are not its own
        self._next = 0.0

    def show(
        self,
        counts: Mapping[str, int],
        faults: Mapping[str, int],
        *,
        queued: int,
        alive: int,
        starting: int,
        unplaced: int,
    ) -> None:
        """Called often; tells Ray once a second. `counts` and `faults` are the run's totals so far."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY
        self.tell(counts, faults, queued=queued, alive=alive, starting=starting, unplaced=unplaced)

    def tell(
        self,
        counts: Mapping[str, int],
        faults: Mapping[str, int],
        *,
        queued: int,
        alive: int,
        starting: int,
        unplaced: int,
    ) -> None:
        """The same, at once."""
        for status in ("refined", "kept", "failed"):
            _grow(self._rows, self._growth.of(f"rows {status}", counts.get(status, 0)), {"status": status})
        for kind, total in faults.items():
            _grow(self._faults, self._growth.of(f"faults {kind}", total), {"kind": str(kind)})
        _grow(self._retries, self._growth.of("retries", retries()))
        self._queue.set(queued)
        for state, number in (("alive", alive), ("starting", starting), ("unplaced", unplaced)):
            self._actors.set(number, {"state": state})


class ActorMetrics:
    """What an actor knows: how its time was spent."""

    def __init__(self, run_id: str, method: str):
        self._step, self._batch, self._retries = (m.make(run_id) for m in (STEP, BATCH, RETRIES))
        self._stage, self._device = STAGE.make(run_id), DEVICE.make(run_id)
        self._method = method
        self._growth = _Growth()

    def finished(self, outcomes: Sequence[RefinedInstance], stages: Mapping[str, float], turns: Turns) -> None:
        """A batch came to its end; `stages` in seconds."""
        self._batch.observe(len(outcomes))
        for outcome in outcomes:
            if outcome.steps:
                self._step.observe(outcome.seconds / outcome.steps, {"method": self._method})
        for name, seconds in stages.items():
            _grow(self._stage, seconds, {"stage": name})
        for state, total in (("busy", turns.busy), ("idle", turns.idle)):
            _grow(self._device, self._growth.of(state, total), {"state": state})
        _grow(self._retries, self._growth.of("retries", retries()))


def _grow(counter: Any, by: float, tags: dict[str, str] | None = None) -> None:
    if by > 0:  # Ray refuses to count nothing
        counter.inc(by, tags)
