"""The actors of a run: started as needed, given work only once they are ready, replaced when they die.

Ray restarts nothing and retries nothing here; every decision is the driver's.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ray

from refine_batch.errors import ErrorKind, RefineBatchError
from refine_batch.instance import RefinedInstance
from refine_batch.job.actor import Assignment, Refiner
from refine_batch.job.batch import Batch, Fault, RowOutcome
from refine_batch.job.cluster import Request
from refine_batch.job.faults import UNREACHABLE, fault_of
from refine_batch.job.metrics import ActorMetrics

# Actors that die one after the other before a single one got ready.
MAX_START_FAULTS = 3
# The same where others did get ready before: nodes come and go, so more patience.
MAX_LATE_START_FAULTS = 20
# Ray first calls an actor unavailable when the connection to it breaks, and takes up to half a minute to find out if
# its process died or its node is gone, which decides who is to blame.
DOUBT = 60.0
ASK_EVERY = 1.0
# On a GPU a batch is refined together: its time is that of its slowest instance more than the sum of all.
TOGETHER_ON_A_GPU = 16


class PoolError(RefineBatchError):
    """No actor can be started; the message says what each asks for or what they died of."""


class RefineActor(Refiner):
    """`Refiner` as a Ray actor."""

    def __init__(self, assignment: Assignment):
        super().__init__(assignment)
        # Ray ends the actors of a driver that is gone, and of a node that is taken down, by this signal. By default it
        # becomes a SystemExit in the midst of the method, and would be taken for the method's own.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
        self._metrics = ActorMetrics(assignment.run_id, assignment.config.method)

    def ready(self) -> dict[str, Any]:
        return super().ready() | {"node_id": ray.get_runtime_context().get_node_id()}

    def ping(self) -> None:
        """Answer."""

    def _observe(self, outcomes: Sequence[RefinedInstance], waited: float, refined: float, written: float) -> None:
        self._metrics.finished(outcomes, waited=waited, refined=refined, written=written)


@dataclass(eq=False)
class Worker:
    """One actor and what it has in hand. Times are monotonic seconds.

    `unsure` is one that could not be reached while it was busy.
    """

    handle: Any
    pending: ray.ObjectRef | None
    started: float
    state: Literal["starting", "idle", "busy", "unsure", "dead"] = "starting"
    node_id: str | None = None
    device: str | None = None
    batch: Batch | None = None
    upcoming: Batch | None = None
    deadline: float = float("inf")
    ask_at: float = float("inf")


@dataclass(frozen=True)
class Event:
    """Something happened to `worker`: it got ready (no batch), answered with `outcomes`, or met a `fault`."""

    worker: Worker
    batch: Batch | None = None
    outcomes: list[RowOutcome] | None = None
    fault: Fault | None = None


class ActorPool:
    """Actors of one kind.

    Parameters
    ----------
    instance_timeout
        Seconds per instance, on a GPU per TOGETHER_ON_A_GPU of them, after which a batch's actor is killed.
    """

    def __init__(self, assignment: Assignment, request: Request, *, instance_timeout: float, start_timeout: float):
        self._assignment = ray.put(assignment)
        self._request = request
        self._instance_timeout, self._start_timeout = instance_timeout, start_timeout
        self._actor = ray.remote(RefineActor).options(
            **request.ray_options(), max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        self._workers: list[Worker] = []
        self._start_faults = 0
        self._ever_ready = False
        self._without_actor_since = time.monotonic()

    def __len__(self) -> int:
        return len(self._workers)

    def of(self, *states: str) -> list[Worker]:
        """The workers in one of these states."""
        return [worker for worker in self._workers if worker.state in states]

    @property
    def alive(self) -> int:
        """Workers that are ready for work or at it."""
        return len(self.of("idle", "busy"))

    def scale(self, target: int) -> None:
        """Start actors up to `target`; above it take back those that have not got ready yet."""
        for worker in self.of("starting")[: max(0, len(self) - target)]:
            self._end(worker)
        for _ in range(target - len(self)):
            handle: Any = self._actor.remote(self._assignment)
            self._workers.append(Worker(handle, handle.ready.remote(), time.monotonic()))

    def assign(self, worker: Worker, batch: Batch, upcoming: Batch | None = None) -> None:
        """Give an idle worker a batch, and name the one it may load meanwhile."""
        worker.batch, worker.upcoming, worker.state = batch, upcoming, "busy"
        worker.deadline = time.monotonic() + self.time_limit(len(batch))
        worker.pending = worker.handle.work.remote(batch, upcoming)

    def time_limit(self, instances: int) -> float:
        """Seconds that a batch may take."""
        together = TOGETHER_ON_A_GPU if self._request.gpus else 1
        return self._instance_timeout * math.ceil(instances / together)

    def release(self, worker: Worker) -> None:
        """Let an idle actor's resources go."""
        self._end(worker)

    def events(self, timeout: float, living_nodes: Collection[str]) -> Iterator[Event]:
        """Wait up to `timeout` seconds for something to happen, and say what did."""
        self._ask_the_unsure()
        pending = {worker.pending: worker for worker in self._workers if worker.pending is not None}
        if not pending:
            time.sleep(timeout)
        else:
            done, rest = ray.wait(list(pending), num_returns=1, timeout=timeout)
            if done and rest:
                done += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
            for reference in done:
                event = self._event(pending[reference], reference, living_nodes)
                if event is not None:
                    yield event
        now = time.monotonic()
        for worker in [worker for worker in self.of("busy", "unsure") if worker.deadline < now]:
            if worker.state == "unsure":
                fault = Fault(ErrorKind.PROCESS_DIED, UNREACHABLE, blameless=True)
            else:
                seconds = self.time_limit(len(worker.batch or ()))
                fault = Fault(ErrorKind.TIMEOUT, f"not done after {seconds:g} s (--instance-timeout)")
            self._end(worker)
            yield Event(worker, batch=worker.batch, fault=fault)

    def check(self) -> None:
        """Raise PoolError where waiting for an actor has become pointless."""
        if self.alive or not self._workers:
            self._without_actor_since = time.monotonic()
        elif time.monotonic() - self._without_actor_since > self._start_timeout:
            raise PoolError(
                f"no actor started within {self._start_timeout:g} s (--start-timeout): each asks for {self._request}"
            )

    def waited(self) -> float:
        """Seconds for which there has been no living actor though one is wanted."""
        return 0.0 if self.alive or not self._workers else time.monotonic() - self._without_actor_since

    def close(self) -> list[Batch]:
        """End every actor; the batches they had in hand."""
        dropped = [b for worker in self._workers for b in (worker.batch, worker.upcoming) if b is not None]
        for worker in list(self._workers):
            self._end(worker)
        return dropped

    def _event(self, worker: Worker, reference: ray.ObjectRef, living_nodes: Collection[str]) -> Event | None:
        worker.pending = None
        try:
            answer = ray.get(reference)
        except Exception as error:
            return self._failed(worker, error, living_nodes)
        if worker.state == "starting":
            worker.node_id, worker.device, worker.state = answer["node_id"], answer["device"], "idle"
            self._start_faults, self._ever_ready = 0, True
            return Event(worker)
        if worker.state == "unsure":
            # It lives, but the answer it owes may be lost.
            self._end(worker)
            return Event(worker, worker.batch, fault=Fault(ErrorKind.PROCESS_DIED, UNREACHABLE, blameless=True))
        batch, worker.batch, worker.state = worker.batch, None, "idle"
        worker.deadline = float("inf")
        return Event(worker, batch=batch, outcomes=answer)

    def _failed(self, worker: Worker, error: Exception, living_nodes: Collection[str]) -> Event | None:
        if isinstance(error, ray.exceptions.ActorUnavailableError) and worker.state in ("busy", "unsure"):
            self._doubt(worker)
            return None
        gone = worker.node_id is not None and worker.node_id not in living_nodes
        fault = fault_of(error, node_gone=gone)
        batch = worker.batch
        if worker.state == "starting":
            self._end(worker)
            if fault.fatal:
                raise PoolError(fault.message)
            if not fault.blameless:
                self._start_faults += 1
            if self._start_faults >= (MAX_LATE_START_FAULTS if self._ever_ready else MAX_START_FAULTS):
                raise PoolError(
                    f"{self._start_faults} actors in a row ended before they were ready; the last: {fault.message}"
                )
        elif isinstance(error, ray.exceptions.RayTaskError):
            # The actor itself is well: it raised, and can go on.
            worker.batch, worker.state, worker.deadline = None, "idle", float("inf")
        else:
            self._end(worker)
        return Event(worker, batch=batch, fault=fault)

    def _doubt(self, worker: Worker) -> None:
        now = time.monotonic()
        if worker.state == "busy":
            worker.state, worker.deadline = "unsure", now + DOUBT
        worker.ask_at = now + ASK_EVERY

    def _ask_the_unsure(self) -> None:
        for worker in self.of("unsure"):
            if worker.pending is None and worker.ask_at < time.monotonic():
                worker.pending = worker.handle.ping.remote()

    def _end(self, worker: Worker) -> None:
        worker.state, worker.pending = "dead", None
        if worker in self._workers:
            self._workers.remove(worker)
        ray.kill(worker.handle, no_restart=True)
