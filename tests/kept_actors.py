"""Actors that one run lets go begin the next in the process they have: a new one takes seconds to import torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import ray

from refine_batch.job import pool
from refine_batch.job.actor import Refiner
from refine_batch.job.assignment import Assignment
from refine_batch.job.cluster import Request
from refine_batch.job.metrics import ActorMetrics


class LastingActor(pool.RefineActor):
    """A run's actor that can become another run's."""

    def begin_anew(self, assignment: Assignment) -> None:
        self.close()
        Refiner.__init__(self, assignment, ActorMetrics(assignment.run_id, assignment.config.method))


class _Kept:
    """Stands where a pool has its actor class: gives one that was kept for the same request, if there is one."""

    def __init__(self, plain, request: Request, kept: list):
        self._plain, self._request, self._kept = plain, request, kept

    def remote(self, assignment):
        for number, (handle, request) in enumerate(self._kept):
            if request == self._request:
                del self._kept[number]
                # In the order of calls, as `ready` is one of the same group.
                handle.begin_anew.options(concurrency_group="control").remote(assignment)
                return handle
        end(self._kept)  # lest they have the cores that this one asks for
        return self._plain.remote(assignment)


def end(kept: list) -> None:
    for handle, _ in kept:
        ray.kill(handle, no_restart=True)
    kept.clear()


@contextmanager
def kept_actors() -> Iterator[None]:
    """Keep actors that have nothing to do when their run lets them go; all others end as they always do."""
    kept: list = []
    begin, close = pool.ActorPool.__init__, pool.ActorPool.close

    def begun(self, assignment, request, **options):
        begin(self, assignment, request, **options)
        self._actor = _Kept(self._actor, request, kept)

    def released(self, worker):
        worker.state, worker.pending = "dead", None
        self._workers.remove(worker)
        kept.append((worker.handle, self._request))

    def closed(self):
        for worker in self.idle:
            released(self, worker)
        return close(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "RefineActor", LastingActor)
        patch.setattr(pool.ActorPool, "__init__", begun)
        patch.setattr(pool.ActorPool, "release", released)
        patch.setattr(pool.ActorPool, "close", closed)
        yield
        end(kept)
