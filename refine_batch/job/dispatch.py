"""The driver's loop: hands batches to actors, takes their answers, and decides what follows from each fault."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from refine_batch.errors import ErrorKind, RefineBatchError
from refine_batch.job.aftermath import Aftermath
from refine_batch.job.assignment import Assignment
from refine_batch.job.batch import Batch, Fault, Report
from refine_batch.job.cluster import Cluster, Request, describe
from refine_batch.job.demand import Demand
from refine_batch.job.ledger import MAX_FAILURES_ALIKE, PATIENCE
from refine_batch.job.metrics import DriverMetrics
from refine_batch.job.options import RunOptions
from refine_batch.job.outage import LOOK_EVERY, Outage
from refine_batch.job.plan import Plan
from refine_batch.job.pool import ActorPool, Event, Worker
from refine_batch.job.progress import Reporter, Snapshot
from refine_batch.job.schedule import Schedule
from refine_batch.job.stop import StopRequest
from refine_batch.job.tally import Tally
from refine_batch.results.durations import duration
from refine_batch.results.lock import OutputLock

GPU_BATCH, CPU_BATCH = 64, 4
# Seconds after which rows that the store refused are put there once more.
WRITE_AGAIN = 2.0
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
        exact = options.batch_size != "auto"
        suits = GPU_BATCH if request.gpus else CPU_BATCH
        self._batch_size = suits if options.batch_size == "auto" else options.batch_size
        self._schedule = Schedule(
            plan,
            largest=self._batch_size,
            exact=exact,
            actors=lambda: max(self._pool.alive, self._demand.target(self._slots())),
            everyone=self._staying,
            stop_on_failures_alike=options.max_failed_fraction < 1,
        )
        self.ledger = self._schedule.ledger
        self._outage = Outage(options.storage_patience)
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
                else:
                    for worker in self._pool.busy:
                        self._withdraw_what_waits(worker)
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
        waiting = self._plan.ready + self.ledger.waiting_rows
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
        busy = bool(self._pool.busy) or bool(self._aftermath)
        if self._stop:
            return not busy or self._stop.overdue
        return self._plan.exhausted and not self.ledger.waiting and not busy

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
        rows = self._plan.ready + self.ledger.waiting_rows
        rows += sum(len(batch) for worker in self._pool.busy for batch in worker.batches[1:])
        waiting = rows if self._options.batch_size == "auto" else math.ceil(rows / self._batch_size)
        slots = self._slots()
        self._pool.scale(min(self._demand.target(slots), len(self._pool.busy) + waiting))
        self.ledger.patience = PATIENCE + 3 * self._demand.room(slots)

    def _hand_out(self) -> None:
        self._let_go()
        free = self._staying()
        if self._outage.waiting:
            # One batch looks whether the store is there again; nothing else is begun.
            if self._outage.look():
                self._schedule.hand_out([w for w in free if w.idle], self._pool.assign, at_most=1)
            return
        self._schedule.hand_out(free, self._pool.assign)
        idle = [worker for worker in free if worker.idle]
        if not idle:
            return
        for worker, batch in self._schedule.to_take_back(self._pool.busy, idle):
            self._pool.withdraw(worker, batch)
        if self._plan.exhausted and not self.ledger.waiting and not any(len(w.held) > 1 for w in self._pool.busy):
            for worker in idle:
                self._pool.release(worker)

    def _staying(self) -> list[Worker]:
        """Actors that are ready, on nodes that are not about to go."""
        return [worker for worker in self._pool.of("ready") if worker.node_id not in self._draining]

    def _let_go(self) -> None:
        """Take work from nodes that are about to go, and actors from cores that are another run's too."""
        surplus = self._pool.alive - self._demand.target(self._slots()) if self._cluster.own else 0
        for worker in self._pool.of("ready"):
            if worker.node_id in self._draining:
                self._withdraw_what_waits(worker)
            elif surplus <= 0:
                continue
            if worker.idle:
                surplus -= 1
                self._pool.release(worker)

    def _withdraw_what_waits(self, worker: Worker) -> None:
        for batch in worker.batches[1:]:
            self._pool.withdraw(worker, batch)

    def _handle(self, event: Event) -> None:
        self._progress_at = time.monotonic()
        batch, fault, report = event.batch, event.fault, event.report
        if fault is None and batch is None:
            self._look_at_device(event.worker.device)
        elif batch is not None and report is not None:
            self._answered(event.worker, batch, report, event.seconds)
        elif batch is not None and fault is None:
            self.ledger.put_back(batch)
        elif batch is not None and fault is not None:
            if not self._written_later(event.worker, batch, fault):
                self._aftermath.look(batch, fault)
            blameless = fault.blameless or fault.kind == ErrorKind.TIMEOUT
            for other in event.others:
                self._aftermath.look(other, replace(fault, blameless=blameless, collateral=True))
        self._give_up_hope()

    def _answered(self, worker: Worker, batch: Batch, report: Report, seconds: float) -> None:
        self.ledger.answered(report)
        self._count(report)
        if not report.put_off:
            self._schedule.took(worker, batch, seconds)
            if self._outage.over():
                self._reporter.say("the store answers again")
                self.ledger.hurry()
            return
        ids = batch.ids
        off = {outcome.instance_id for outcome in report.put_off}
        rest = batch.chosen([number for number, name in enumerate(ids) if name in off])
        self._meet_outage(report, report.put_off[-1].error_message or "a store is away")
        if self._outage.too_long:
            self.ledger.put_back(replace(rest, last=True))
        else:
            self.ledger.put_off(rest, counts=not self._outage.waiting)

    def _written_later(self, worker: Worker, batch: Batch, fault: Fault) -> bool:
        """Whether the actor keeps the rows that it could not write, and tries that again."""
        if worker.state != "ready" or fault.kind != ErrorKind.STORAGE or self._stop:
            return False
        if fault.passing:
            self._meet_outage(None, fault.message)
            again = not self._outage.too_long
        else:
            again = self.ledger.write_again(batch)
        if again:
            wait = min(LOOK_EVERY, max(1.0, self._options.storage_patience)) if fault.passing else WRITE_AGAIN
            self._pool.again(worker, batch, wait)
        return again

    def _meet_outage(self, report: Report | None, reason: str) -> None:
        if report is not None and report.rows:
            if self._outage.over():
                self.ledger.hurry()
            return
        waited = self._outage.waiting
        self._outage.met(reason)
        if self._outage.waiting and not waited:
            patience = duration(self._options.storage_patience)
            self._reporter.say(f"a store does not answer; the run waits for it up to {patience}: {reason}")

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
            self._count(settled.report)
            if settled.error is not None:
                self.ledger.unwritten += 1
                self._reporter.say(f"a failed row could not be written: {settled.error}")
            if settled.fault is None:
                self.ledger.finished(settled.report)
                continue
            given_up = self.ledger.recovered(settled.report, settled.rest, settled.fault)
            if given_up is not None:
                self._aftermath.give_up(given_up)
        self._give_up_hope()

    def _give_up_hope(self) -> None:
        hopeless = self.ledger.hopeless()
        if hopeless:
            raise HopelessError(hopeless)
        if self._outage.too_long and self.ledger.failures_alike(ErrorKind.STORAGE) >= MAX_FAILURES_ALIKE:
            waited = duration(self._options.storage_patience)
            raise HopelessError(
                f"a store has been away for {waited} (--storage-patience), the same command goes on from here: "
                f"{self._outage.reason}"
            )

    def _count(self, report: Report) -> None:
        self.tally.add(report)
        for failure in report.failures:
            self._told += 1
            if self._told <= FAILURES_TOLD:
                self._reporter.say(f"failed: {failure.instance_id}: {failure.error_kind}: {failure.error_message}")
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
