"""The actors of a run: started as needed, given work only once they are ready, replaced when they die.

Ray restarts nothing and retries nothing here; every decision is the driver's.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import ray

from refine_batch.errors import ErrorKind, RefineBatchError
from refine_batch.job.actor import Refiner
from refine_batch.job.assignment import Assignment
from refine_batch.job.batch import Batch, Fault, Report
from refine_batch.job.cluster import Request
from refine_batch.job.faults import UNREACHABLE, fault_of
from refine_batch.job.metrics import ActorMetrics
from refine_batch.job.schedule import DEPTH
from refine_batch.job.sizing import Pace

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
        # Ray ends the actors of a driver that is gone, and of a node that is taken down, by this signal. By default it
        # becomes a SystemExit in the midst of the method, and would be taken for the method's own.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
        super().__init__(assignment, ActorMetrics(assignment.run_id, assignment.config.method))

    def ready(self) -> dict[str, Any]:
        return super().ready() | {"node_id": ray.get_runtime_context().get_node_id()}

    def ping(self) -> None:
        """Answer."""


@dataclass(eq=False)
class Held:
    """A batch in an actor's hands, and its answer to come; None between a put that failed and the next attempt."""

    batch: Batch
    pending: ray.ObjectRef | None
    begun: float
    again_at: float = float("inf")
    withdrawn: bool = False


@dataclass(eq=False)
class Worker:
    """One actor and what it has in hand. Times are monotonic seconds.

    `unsure` is one that could not be reached while it was busy.
    """

    handle: Any
    pending: ray.ObjectRef | None
    started: float
    state: Literal["starting", "ready", "unsure", "dead"] = "starting"
    node_id: str | None = None
    device: str | None = None
    held: list[Held] = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)
    deadline: float = float("inf")
    ask_at: float = float("inf")

    @property
    def batches(self) -> list[Batch]:
        return [held.batch for held in self.held]

    @property
    def since(self) -> float:
        """When it began with the first."""
        return self.held[0].begun if self.held else time.monotonic()

    @property
    def idle(self) -> bool:
        return self.state == "ready" and not self.held


@dataclass(frozen=True)
class Event:
    """Something happened to `worker`: it got ready (no batch), answered with a report, gave a batch back that it had
    not begun (neither report nor fault), or met a fault. `others` were in its hands as well when it came to its end.
    """

    worker: Worker
    batch: Batch | None = None
    report: Report | None = None
    fault: Fault | None = None
    seconds: float = 0.0
    others: tuple[Batch, ...] = ()


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
        groups: Any = {"concurrency_groups": {"work": DEPTH, "control": 1}}
        actor: Any = ray.remote(**groups)(RefineActor)
        self._actor = actor.options(
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
    def idle(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.idle]

    @property
    def busy(self) -> list[Worker]:
        """Workers with something in hand, those that cannot be reached included."""
        return [worker for worker in self._workers if worker.held]

    @property
    def alive(self) -> int:
        """Workers that are ready for work or at it."""
        return len(self.of("ready"))

    def scale(self, target: int) -> None:
        """Start actors up to `target`; above it take back those that have not got ready yet."""
        for worker in self.of("starting")[: max(0, len(self) - target)]:
            self._end(worker)
        for _ in range(target - len(self)):
            handle: Any = self._actor.remote(self._assignment)
            self._workers.append(Worker(handle, _ask(handle, "ready"), time.monotonic()))

    def assign(self, worker: Worker, batch: Batch) -> None:
        """Give a worker a batch, behind those that it has."""
        now = time.monotonic()
        worker.held.append(Held(batch, _ask(worker.handle, "work", batch), now))
        if len(worker.held) == 1:
            worker.deadline = now + self.time_limit(len(batch))

    def again(self, worker: Worker, batch: Batch, wait: float) -> None:
        """Let a worker that could not put a batch's rows try that again after a while; it keeps them."""
        worker.held.insert(0, Held(batch, None, time.monotonic(), again_at=time.monotonic() + wait))
        self._restart_clock(worker)

    def withdraw(self, worker: Worker, batch: Batch) -> None:
        """Ask for a batch back, unless it is on the device by now."""
        for held in worker.held:
            if held.batch is batch and not held.withdrawn:
                held.withdrawn = True
                _ask(worker.handle, "withdraw", batch.name)

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
        self._put_again()
        pending: dict[Any, tuple[Worker, Held | None]] = {}
        for worker in self._workers:
            if worker.pending is not None:
                pending[worker.pending] = (worker, None)
            pending.update((held.pending, (worker, held)) for held in worker.held if held.pending is not None)
        if not pending:
            time.sleep(timeout)
        else:
            done, rest = ray.wait(list(pending), num_returns=1, timeout=timeout)
            if done and rest:
                done += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
            for reference in done:
                worker, held = pending[reference]
                if worker.state != "dead":
                    yield from self._event(worker, held, reference, living_nodes)
        now = time.monotonic()
        for worker in [worker for worker in self.of("ready", "unsure") if worker.deadline < now and worker.held]:
            if worker.state == "unsure":
                fault = Fault(ErrorKind.PROCESS_DIED, UNREACHABLE, blameless=True)
            else:
                seconds = self.time_limit(len(worker.held[0].batch))
                fault = Fault(ErrorKind.TIMEOUT, f"not done after {seconds:g} s (--instance-timeout)")
            yield self._lost(worker, fault)

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
        dropped = [batch for worker in self._workers for batch in worker.batches]
        for worker in list(self._workers):
            self._end(worker)
        return dropped

    def _event(
        self, worker: Worker, held: Held | None, reference: ray.ObjectRef, living_nodes: Collection[str]
    ) -> Iterator[Event]:
        if held is None:
            worker.pending = None
        try:
            answer = ray.get(reference)
        except Exception as error:
            yield from self._failed(worker, held, error, living_nodes)
            return
        if worker.state == "starting":
            worker.node_id, worker.device, worker.state = answer["node_id"], answer["device"], "ready"
            self._start_faults, self._ever_ready = 0, True
            yield Event(worker)
        elif worker.state == "unsure":
            # It lives, but the answers it owes may be lost.
            yield self._lost(worker, Fault(ErrorKind.PROCESS_DIED, UNREACHABLE, blameless=True))
        elif held is not None:
            yield Event(worker, held.batch, report=answer, seconds=self._put_down(worker, held))

    def _put_down(self, worker: Worker, held: Held) -> float:
        """Take an answered batch out of a worker's hands; seconds for which it was the first in them."""
        now = time.monotonic()
        first = worker.held[0] is held
        worker.held.remove(held)
        if first:
            self._restart_clock(worker)
        return now - held.begun

    def _restart_clock(self, worker: Worker) -> None:
        """The batch that is now first in a worker's hands has its time from now on."""
        if not worker.held:
            worker.deadline = float("inf")
            return
        now = time.monotonic()
        worker.held[0].begun = now
        worker.deadline = now + self.time_limit(len(worker.held[0].batch))

    def _failed(
        self, worker: Worker, held: Held | None, error: Exception, living_nodes: Collection[str]
    ) -> Iterator[Event]:
        if isinstance(error, ray.exceptions.ActorUnavailableError) and worker.held:
            self._doubt(worker, held)
            return
        gone = worker.node_id is not None and worker.node_id not in living_nodes
        fault = fault_of(error, node_gone=gone)
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
            yield Event(worker, fault=fault)
        elif held is not None and isinstance(error, ray.exceptions.RayTaskError):
            # The actor itself is well: it raised, and can go on.
            seconds = self._put_down(worker, held)
            yield Event(worker, held.batch, fault=fault, seconds=seconds)
        else:
            yield self._lost(worker, fault)

    def _lost(self, worker: Worker, fault: Fault) -> Event:
        """The end of a worker: its first batch has met the fault, as far as anybody can tell."""
        batches = worker.batches
        worker.held.clear()
        self._end(worker)
        return Event(worker, batches[0] if batches else None, fault=fault, others=tuple(batches[1:]))

    def _doubt(self, worker: Worker, held: Held | None) -> None:
        now = time.monotonic()
        if held is not None:
            held.pending = None
        if worker.state == "ready":
            worker.state, worker.deadline = "unsure", now + DOUBT
        worker.ask_at = now + ASK_EVERY

    def _ask_the_unsure(self) -> None:
        for worker in self.of("unsure"):
            if worker.pending is None and worker.ask_at < time.monotonic():
                worker.pending = _ask(worker.handle, "ping")

    def _put_again(self) -> None:
        for worker in self.of("ready"):
            for held in worker.held:
                if held.pending is None and held.again_at < time.monotonic():
                    held.pending, held.again_at = _ask(worker.handle, "work", held.batch), float("inf")

    def _end(self, worker: Worker) -> None:
        worker.state, worker.pending = "dead", None
        if worker in self._workers:
            self._workers.remove(worker)
        ray.kill(worker.handle, no_restart=True)


def _ask(handle: Any, what: str, *arguments: object) -> Any:
    """Call an actor: for work in as many threads as it may have batches, for all else beside them."""
    group = "work" if what == "work" else "control"
    return getattr(handle, what).options(concurrency_group=group).remote(*arguments)
