"""The driver's loop: hands batches to actors, takes their answers, and decides what follows from each fault."""

from __future__ import annotations

import math
import time

from refine_batch.errors import RefineBatchError
from refine_batch.job.actor import Assignment
from refine_batch.job.aftermath import Aftermath
from refine_batch.job.batch import Batch, RowOutcome
from refine_batch.job.cluster import Cluster, Request, describe
from refine_batch.job.demand import Demand
from refine_batch.job.ledger import PATIENCE, Ledger
from refine_batch.job.metrics import DriverMetrics
from refine_batch.job.options import RunOptions
from refine_batch.job.plan import Plan
from refine_batch.job.pool import ActorPool, Event
from refine_batch.job.progress import Reporter, Snapshot, duration
from refine_batch.job.stop import StopRequest
from refine_batch.job.tally import Tally
from refine_batch.results.lock import OutputLock

GPU_BATCH, CPU_BATCH = 64, 4
# Batches per actor that a small manifest is cut into, so that none waits long for the last one.
BATCHES_PER_ACTOR = 4
# Failures told one by one; the rest are in the output.
FAILURES_TOLD = 20
NODES_EVERY = 5.0
# Seconds after which a run that waits for a first actor says so again.
WAITING_TOLD_EVERY = 30.0
POLL = 0.2


class HopelessError(RefineBatchError):
    """Going on makes no sense; the message says why."""


class Dispatch:
    """One run's work, from the first batch to the last.

    Parameters
    ----------
    rows
        How many rows of the manifest the run goes over.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        cluster: Cluster,
        request: Request,
        assignment: Assignment,
        options: RunOptions,
        rows: int,
        lock: OutputLock,
        stop: StopRequest,
        reporter: Reporter,
    ):
        self._plan, self._cluster, self._request = plan, cluster, request
        self._assignment, self._options, self._rows = assignment, options, rows
        self._lock, self._stop, self._reporter = lock, stop, reporter
        self._pool = ActorPool(
            assignment, request, instance_timeout=options.instance_timeout, start_timeout=options.start_timeout
        )
        self._nodes = cluster.nodes()
        self._draining: frozenset[str] = frozenset()
        self._nodes_at = time.monotonic()
        self._demand = Demand(options.actors, grows=not cluster.own, node_start=options.start_timeout)
        self._batch_size = self._choose_batch_size()
        self.ledger = Ledger(self._fresh, stop_on_failures_alike=options.max_failed_fraction < 1)
        self.tally = Tally()
        self.dropped = 0
        self._aftermath = Aftermath(assignment)
        self._metrics = DriverMetrics(assignment.run_id)
        self._progress_at = time.monotonic()
        self._seen = -1
        self._told = 0
        self._waiting_told = 0.0
        self._without_cuda_told = False

    def run(self) -> None:
        """Work until every row has been brought to an end, or a stop was asked for.

        Raises
        ------
        RefineBatchError
            The run cannot go on: no actor starts, everything fails alike, nothing moves, the lock was lost.
        """
        try:
            while not self._finished():
                self._lock.check()
                self._plan.check()
                self._look_at_nodes()
                if not self._stop:
                    self._scale()
                    self._hand_out()
                for event in self._pool.events(POLL, self._nodes):
                    self._handle(event)
                self._settle()
                self._watch()
                self._reporter.show(self.snapshot())
                self._measure()
            self._lock.check()
        finally:
            self._measure(at_once=True)
            self.dropped = sum(len(batch) for batch in self._pool.close())
            self._aftermath.close()

    def snapshot(self) -> Snapshot:
        counts = self.ledger.counts
        alive, starting, _ = self._actors()
        return Snapshot(
            rows=self._rows,
            skipped=self._plan.skipped,
            refined=counts["refined"],
            kept=counts["kept"],
            failed=counts["failed"],
            iou=self.tally.mean("iou_2d"),
            actors=alive,
            starting=starting,
            stopping=bool(self._stop),
        )

    def _measure(self, at_once: bool = False) -> None:
        waiting = self._plan.ready + self.ledger.waiting * self._batch_size
        tell = self._metrics.tell if at_once else self._metrics.show
        alive, starting, unplaced = self._actors()
        counts, faults = self.ledger.counts, self.ledger.faults
        tell(counts, faults, queued=waiting, alive=alive, starting=starting, unplaced=unplaced)

    def _actors(self) -> tuple[int, int, int]:
        """How many are alive, how many are starting, and how many more are asked for without a node to start on."""
        alive, pending = self._pool.alive, len(self._pool.of("starting"))
        starting = min(pending, max(0, self._slots() - alive))
        return alive, starting, pending - starting

    def _finished(self) -> bool:
        busy = bool(self._pool.of("busy", "unsure")) or bool(self._aftermath)
        if self._stop:
            return not busy or self._stop.overdue
        reserved = any(worker.upcoming for worker in self._pool.of("idle"))
        return self._plan.exhausted and not self.ledger.waiting and not busy and not reserved

    def _choose_batch_size(self) -> int:
        if self._options.batch_size != "auto":
            return self._options.batch_size
        largest = GPU_BATCH if self._request.gpus else CPU_BATCH
        share = math.ceil((self._rows - self._plan.skipped) / (self._demand.room(self._slots()) * BATCHES_PER_ACTOR))
        return max(1, min(largest, share))

    def _fresh(self) -> Batch | None:
        return self._plan.take(self._batch_size)

    def _look_at_nodes(self) -> None:
        if time.monotonic() - self._nodes_at > NODES_EVERY:
            self._nodes, self._nodes_at = self._cluster.nodes(), time.monotonic()
            self._draining = self._cluster.draining()
            if self._cluster.own and not self._nodes:
                raise HopelessError("this machine's own Ray has ended; the same command goes on from here")

    def _slots(self) -> int:
        """How many actors the cluster has room for now; of this machine's cores, a fair share of them."""
        staying = [resources for node, resources in self._nodes.items() if node not in self._draining]
        slots = self._request.slots(staying)
        return slots if slots < 2 else max(1, slots // self._cluster.sharing)

    def _scale(self) -> None:
        upcoming = sum(worker.upcoming is not None for worker in self._pool.of("idle", "busy", "unsure"))
        waiting = self.ledger.waiting + math.ceil(self._plan.ready / self._batch_size) + upcoming
        slots = self._slots()
        self._pool.scale(min(self._demand.target(slots), len(self._pool.of("busy", "unsure")) + waiting))
        self.ledger.patience = PATIENCE + 3 * self._demand.room(slots)

    def _hand_out(self) -> None:
        surplus = self._pool.alive - self._demand.target(self._slots()) if self._cluster.own else 0
        for worker in self._pool.of("idle"):
            batch, worker.upcoming = worker.upcoming, None
            if worker.node_id in self._draining or surplus > 0:
                # What is begun there may be lost, or the cores are another run's too; another actor takes its place.
                surplus -= 1
                if batch is not None:
                    self.ledger.put_back(batch)
                self._pool.release(worker)
                continue
            batch = batch or self.ledger.take() or self._taken_over()
            if batch is not None:
                self._pool.assign(worker, batch, self.ledger.take())
            elif self._plan.exhausted:
                self._pool.release(worker)

    def _taken_over(self) -> Batch | None:
        """A batch that a busy actor was to do next; better done now by an idle one."""
        for worker in self._pool.of("busy", "unsure"):
            if worker.upcoming is not None:
                batch, worker.upcoming = worker.upcoming, None
                return batch
        return None

    def _handle(self, event: Event) -> None:
        self._progress_at = time.monotonic()
        if event.fault is None:
            if event.batch is None:
                self._look_at_device(event.worker.device)
            if event.batch is not None and event.outcomes is not None:
                self.ledger.answered(event.outcomes)
                self._count(event.outcomes)
        elif event.batch is not None:
            self._aftermath.look(event.batch, event.fault)
        if event.worker.state == "dead" and event.worker.upcoming is not None:
            self.ledger.put_back(event.worker.upcoming)
            event.worker.upcoming = None
        self._give_up_hope()

    def _look_at_device(self, device: str | None) -> None:
        if self._request.gpus and device == "cpu" and not self._without_cuda_told:
            self._without_cuda_told = True
            self._reporter.say(
                f"actors ask for {self._request.gpus:g} GPU, but torch finds no CUDA device where one of them runs: it "
                "refines on the CPU (its rows say so in `device`)"
            )

    def _settle(self) -> None:
        """Go on with what is known by now of batches that met a fault."""
        for settled in self._aftermath.settled():
            self._progress_at = time.monotonic()
            self._count(settled.outcomes)
            if settled.error is not None:
                self.ledger.unwritten += 1
                self._reporter.say(f"a failed row could not be written: {settled.error}")
            if settled.fault is None:
                self.ledger.finished(settled.outcomes)
                continue
            given_up = self.ledger.recovered(settled.outcomes, settled.rest, settled.fault)
            if given_up is not None:
                self._aftermath.give_up(given_up)
        self._give_up_hope()

    def _give_up_hope(self) -> None:
        hopeless = self.ledger.hopeless()
        if hopeless:
            raise HopelessError(hopeless)

    def _count(self, outcomes: list[RowOutcome]) -> None:
        self.tally.add(outcomes)
        for outcome in outcomes:
            if outcome.status == "failed":
                self._told += 1
                if self._told <= FAILURES_TOLD:
                    self._reporter.say(f"failed: {outcome.instance_id}: {outcome.error_kind}: {outcome.error_message}")
                elif self._told == FAILURES_TOLD + 1:
                    self._reporter.say("further failures are not listed here; the output has each with its reason")

    def _watch(self) -> None:
        """End a run that waits for nothing: every wait in it has a limit of its own, so none may outlast them all."""
        self._pool.check()
        waited = self._pool.waited()
        if waited - self._waiting_told > WAITING_TOLD_EVERY:
            self._waiting_told = waited
            have = describe(self._nodes)
            gpus = (
                "" if self._request.gpus or self._options.gpus_per_actor == 0 else " (--gpus-per-actor asks for GPUs)"
            )
            self._reporter.say(
                f"no actor for {duration(waited)} yet: each asks for {self._request}{gpus}; the cluster has {have}"
            )
        elif waited == 0:
            self._waiting_told = 0.0
        if self._plan.seen != self._seen:
            self._seen, self._progress_at = self._plan.seen, time.monotonic()
        limit = self._pool.time_limit(self._batch_size) + self._options.start_timeout + 60
        if time.monotonic() - self._progress_at > limit:
            raise HopelessError(
                f"nothing has moved for {duration(limit)}: neither storage, nor the cluster, nor an actor"
            )
