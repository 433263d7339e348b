"""Who does the host's part of an actor's work, beside its device: threads, or processes where it has cores for them.

Reading meshes and images, preparing and measuring hold the interpreter's lock for most of their time, so that threads
would take turns with each other and with the loop that feeds the device (benchmarks/pipeline.py shows it). An actor
with one core has nobody to share with and uses threads; one with more has a process for each core, forked from a clean
server that has imported everything once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from typing import Any, TypeVar

from refine_batch.job.garbage import as_usual

T = TypeVar("T")
R = TypeVar("R")

PRELOAD = ["refine_batch.job.host_work"]


class CrewError(Exception):
    """A process of the crew died in the midst of its work."""


class Crew:
    """Does a function for each of some things.

    Parameters
    ----------
    cores
        Of the actor; with two or more there are as many processes.
    threads
        Where there are no processes.
    """

    def __init__(self, cores: int, threads: int = 2):
        self._cores, self._threads = cores, threads
        self._lock = threading.Lock()
        self._executor: Executor | None = None

    @property
    def hands(self) -> int:
        """How many things it does at a time."""
        return self._cores if self._cores > 1 else self._threads

    def start(self) -> None:
        """Begin now, lest the first batch pay for it."""
        self.map(_nothing, range(self.hands))

    def map(self, work: Callable[[T], R], things: Sequence[T]) -> list[R]:
        """`work` of each, in order.

        Raises
        ------
        CrewError
            A process died; the next call has new ones.
        """
        return list(self._begun(work, things))

    @property
    def pool(self) -> _Begins:
        """The same by way of `map`, which answers before they are done; what it gives waits for each."""
        return _Begins(self._begun)

    def _begun(self, work: Callable[..., R], *columns: Iterable[Any]) -> Iterator[R]:
        executor = self._running()
        with self._replacing(executor):
            futures: list[Future[R]] = [executor.submit(work, *things) for things in zip(*columns, strict=True)]

        def answers() -> Iterator[R]:
            with self._replacing(executor):
                for future in futures:
                    yield future.result()

        return answers()

    @contextmanager
    def _replacing(self, executor: Executor) -> Iterator[None]:
        """Let go of an executor of which a process died."""
        try:
            yield
        except BrokenProcessPool:
            with self._lock:
                if self._executor is executor:
                    self._executor = None
            executor.shutdown(wait=False, cancel_futures=True)
            raise CrewError("a process that reads, prepares or measures instances died") from None

    def _running(self) -> Executor:
        with self._lock:
            if self._executor is None:
                self._executor = (
                    _processes(self._cores)
                    if self._cores > 1
                    else ThreadPoolExecutor(self._threads, thread_name_prefix="host")
                )
            return self._executor

    def close(self) -> None:
        with self._lock:
            if self._executor is not None:
                self._executor.shutdown(wait=False, cancel_futures=True)
                self._executor = None


@dataclass(frozen=True)
class _Begins:
    map: Callable[..., Iterator[Any]]


def _processes(count: int) -> Executor:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    # The processes would run this one's main module, which is Ray's worker.
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        with _same_path():
            all_there = context.Barrier(count)
            executor = ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(all_there,))
            for future in [executor.submit(_nothing, number) for number in range(count)]:
                future.result()
        return executor
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _same_path() -> Iterator[None]:
    """Let the server import from where this process does, and nothing of the working directory."""
    path = os.pathsep.join(folder for folder in sys.path if folder)
    wanted = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _begin(all_there: Barrier) -> None:
    """In a new process: end with the actor, even one that was killed, use one core, and be ready for work."""
    import torch

    from refine_batch.job.code_folder import import_the_rest
    from refine_batch.job.host_work import rehearse

    actor = multiprocessing.parent_process()
    assert actor is not None

    def end_with_it() -> None:
        actor.join()
        os._exit(1)

    threading.Thread(target=end_with_it, name="end-with-the-actor", daemon=True).start()
    # Ctrl-C is the driver's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    import_the_rest()
    rehearse()
    # What has been imported stays: to look through it for cycles again and again took a tenth of all time.
    as_usual()
    # Nobody begins before all are there, lest one that is quick make the executor think that fewer will do.
    all_there.wait()


def _nothing(thing: Any) -> None:
    """So that a process is there."""
