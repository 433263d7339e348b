"""The work of one actor: several batches at a time, each at another stage.

A plain class that knows nothing of Ray; `pool` makes it an actor.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from refine_batch.devices.choice import choose_device
from refine_batch.errors import ErrorKind, UsageError
from refine_batch.instance import RefinedInstance
from refine_batch.io.storage import StorageError
from refine_batch.job.assignment import Assignment
from refine_batch.job.awaited import be_awaited
from refine_batch.job.batch import Batch, Report
from refine_batch.job.code_folder import PACKAGE, code_digest, extend_path, import_the_rest
from refine_batch.job.encoder import provide_encoder
from refine_batch.job.garbage import as_usual
from refine_batch.job.outcomes import row_outcome, write_outcomes
from refine_batch.job.stages import Passing, Stages
from refine_batch.job.turns import Turns, Withdrawn
from refine_batch.methods.base import load_method
from refine_batch.results.lock import held_by
from refine_batch.results.versions import code_version

# Seconds that a shared file system may take to show one machine what another wrote.
SEEN_WITHIN = 15.0


class Observer(Protocol):
    """Is told how an actor's time was spent."""

    def finished(self, outcomes: Sequence[RefinedInstance], stages: Mapping[str, float], turns: Turns) -> None:
        """Told of each batch that is in storage, with the seconds its stages took."""


class Refiner:
    """Refines batches: several at a time, each at another stage, one of them on the device."""

    def __init__(self, assignment: Assignment, observer: Observer | None = None):
        self._assignment, self._observer = assignment, observer
        self.turns = Turns()
        self._stages: Stages | None = None
        self._unwritten: dict[str, Passing] = {}

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
        self._look_for_the_output()

        torch.set_num_threads(self._assignment.threads)
        import_the_rest()
        load_method(self._assignment.config.method)
        provide_encoder(self._assignment.config.encoder_weights, self._assignment.s3_endpoint)
        stages = self.begin()
        return {"host": socket.gethostname(), "pid": os.getpid(), "device": str(stages.device)}

    def begin(self) -> Stages:
        """Have the stages, and who does them."""
        self._stages = Stages(self._assignment, self.turns, choose_device(self._assignment.device))
        self._stages.crew.start()
        as_usual()
        return self._stages

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

    def work(self, batch: Batch) -> Report | None:
        """Bring a batch through every stage and its rows into storage; None where it was withdrawn before its turn.

        Raises
        ------
        StorageError
            The rows could not be written; they are kept for the next call with the same batch. Or nobody waits for
            them any more.
        """
        passed = self._unwritten.pop(batch.name, None)
        if passed is None:
            stages = self._stages or self.begin()
            self.turns.enter(batch.name)
            try:
                passed = stages.pass_through(batch)
            except Withdrawn:
                return None
            finally:
                self.turns.leave(batch.name)
        put_off = {} if batch.last else {i: o for i, o in enumerate(passed.outcomes) if may_pass(o)}
        written = [i for i in range(len(batch)) if i not in put_off]
        begun = time.monotonic()
        try:
            some = batch if not put_off else batch.chosen(written)
            if any(passed.outcomes[i].status == "failed" for i in written):
                be_awaited(self._assignment)
            if written:
                write_outcomes(self._assignment, some, [passed.outcomes[i] for i in written], batch.name)
        except StorageError:
            self._unwritten[batch.name] = passed
            raise
        seconds = dict(passed.seconds) | {"write": time.monotonic() - begun}
        outcomes = [passed.outcomes[i] for i in written]
        if self._observer is not None:
            self._observer.finished(outcomes, seconds, self.turns)
        return Report.of(map(row_outcome, outcomes), seconds, map(row_outcome, put_off.values()), self.turns.news())

    def close(self) -> None:
        """End what was begun."""
        if self._stages is not None:
            self._stages.crew.close()

    def withdraw(self, name: str) -> None:
        """Give a batch back whose turn at the device has not come."""
        self.turns.withdraw(name)


def may_pass(outcome: RefinedInstance) -> bool:
    """Whether an instance failed of what may be over in a while."""
    return outcome.error_kind == ErrorKind.STORAGE
