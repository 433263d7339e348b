"""The host's stages of single instances, as functions that a process of the crew can be given."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from refine_batch.cameras.camera import Camera
from refine_batch.config import RefineConfig
from refine_batch.dataset.load import Limits, load_instance
from refine_batch.errors import InstanceError
from refine_batch.instance import Instance, RefinedInstance
from refine_batch.io.resample import Frame, sharpened
from refine_batch.job.assignment import Assignment
from refine_batch.job.batch import Task
from refine_batch.job.outcomes import failed
from refine_batch.mesh import Mesh
from refine_batch.methods.base import MethodOutput
from refine_batch.refinement.optimise import Optimised
from refine_batch.refinement.pipeline import concluded_all, prepared_or_error, returned_or_failed
from refine_batch.refinement.prepare import Prepared

# Bytes of instances that an actor has loaded and not prepared yet. What one takes while it is parsed comes on top.
LOADED_AHEAD = 1 << 28


@dataclass(eq=False)
class Readied:
    """A row that was loaded and prepared, packed, or the outcome where that came to nothing.

    Attributes
    ----------
    content, notes
        As of the instance; kept, because the instance is not.
    seconds
        By stage.
    """

    prepared: Prepared | None
    outcome: RefinedInstance | None = None
    content: Any = None
    notes: Any = None
    seconds: dict[str, float] = field(default_factory=dict)


def load(task: Task, assignment: Assignment) -> Instance:
    """The instance of one row. Raises InstanceError."""
    problem = task.row.problem()
    if problem is not None:
        raise problem
    limits = Limits(image_pixels=assignment.max_pixels)
    return load_instance(task.row, assignment.config, s3_endpoint=assignment.s3_endpoint, limits=limits)


@dataclass(frozen=True)
class Some:
    """Rows for one hand of the crew to load and prepare.

    Attributes
    ----------
    hands
        How many share the actor's loaders and memory.
    each
        Bytes that one row's mesh is expected to have.
    """

    tasks: Sequence[Task]
    assignment: Assignment
    hands: int = 1
    each: float = 0.0


def ready(some: Some) -> list[Readied]:
    """Load rows, several at a time and no more than `LOADED_AHEAD` bytes, and prepare each as it comes."""
    tasks, assignment = some.tasks, some.assignment
    threads = max(1, min(assignment.loaders // some.hands, len(tasks)))
    ahead = Ahead(LOADED_AHEAD / some.hands, some.each)
    readied: list[Readied] = []
    loading: deque[Future[tuple[Instance | Exception, float]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="load") as pool:
        for number, task in enumerate(tasks):
            begun = number + len(loading)
            while begun < len(tasks) and len(loading) < threads and (not loading or ahead.has_room(loading)):
                loading.append(pool.submit(_timed_load, tasks[begun], assignment))
                begun += 1
            loaded, seconds = loading.popleft().result()
            if isinstance(loaded, Instance):
                ahead.learn(loaded)
            readied.append(_prepared(task, loaded, seconds, assignment))
    return readied


class Ahead:
    """How many instances may be loaded before they are prepared: by the bytes of the largest so far."""

    def __init__(self, most: float, expected: float):
        self._most, self._largest = most, expected

    def has_room(self, loading: Sequence[Any]) -> bool:
        """Whether one more may be loaded beside those."""
        return (len(loading) + 1) * self._largest <= self._most

    def learn(self, loaded: Instance) -> None:
        self._largest = max(self._largest, size_of(loaded))


def size_of(thing: Any) -> int:
    """Bytes of the arrays in an instance, its meshes and its views."""
    if isinstance(thing, np.ndarray):
        return thing.nbytes
    if isinstance(thing, tuple):
        return sum(map(size_of, thing))
    if is_dataclass(thing):
        return sum(size_of(getattr(thing, entry.name)) for entry in fields(thing))
    return 0


@dataclass(eq=False)
class Found:
    """What a method made of some rows, and all that it takes to conclude them.

    Attributes
    ----------
    measure
        Whether figures that need a ground truth are measured here as well: they are the CPU's.
    """

    ids: Sequence[str]
    outcomes: Sequence[Any]
    config: RefineConfig
    measure: bool


def conclude(some: Found) -> tuple[list[RefinedInstance], float]:
    """What comes back of each row, and the seconds that took."""
    begun = time.perf_counter()
    if some.measure:
        results = concluded_all(some.ids, some.outcomes, some.config)
    else:
        each = zip(some.ids, some.outcomes, strict=True)
        results = [returned_or_failed(name, outcome, some.config) for name, outcome in each]
    return results, time.perf_counter() - begun


def rehearse() -> None:
    """Prepare and conclude a small instance, so that what is imported and compiled on first use is there when the
    first batch comes."""
    config = RefineConfig(method="large-steps")
    corners = np.array([[0.0, 0.0, 0.0], [1.0, 0.1, 0.0], [0.0, 1.0, 0.2], [0.1, 0.3, 1.0]])
    mesh = Mesh(corners, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]))
    blank = np.zeros((32, 32, 3), np.uint8)
    inside = sharpened(gaussian_filter(np.pad(np.ones((16, 16), np.float32), 8), 1.0), Frame(32, 32, 32), 0.5)
    found = prepared_or_error(Instance("rehearsal", mesh, blank, inside, Camera(30.0, 20.0, 2.0)), config)
    if isinstance(found, Prepared):
        moved = MethodOutput(1.01 * found.subject.mesh.vertices, losses={"silhouette": 0.0}, steps=1)
        concluded_all([found.instance_id], [Optimised(found, moved)], config)


def _timed_load(task: Task, assignment: Assignment) -> tuple[Instance | Exception, float]:
    begun = time.perf_counter()
    try:
        loaded: Instance | Exception = load(task, assignment)
    except Exception as error:
        loaded = error
    return loaded, time.perf_counter() - begun


def _prepared(task: Task, loaded: Instance | Exception, seconds: float, assignment: Assignment) -> Readied:
    if isinstance(loaded, Exception):
        return Readied(None, failed(task.row.instance_id, loaded), seconds={"load": seconds})
    begun = time.perf_counter()
    found = prepared_or_error(loaded, assignment.config)
    took = {"load": seconds, "prepare": time.perf_counter() - begun}
    if isinstance(found, InstanceError):
        outcome = replace(failed(task.row.instance_id, found), notes=loaded.notes)
        return Readied(None, outcome, loaded.content, loaded.notes, took)
    return Readied(_packed(found), None, loaded.content, loaded.notes, took)


def _packed(prepared: Prepared) -> Prepared:
    """With its picture in bytes, where that loses nothing: of what goes from one process to another it is the most."""
    picture = prepared.subject.image
    small = (picture * 255.0).round().astype(np.uint8)
    return _pictured(prepared, small) if np.array_equal(_unpacked(small), picture) else prepared


def unpacked(prepared: Prepared) -> Prepared:
    """As it was before it was packed."""
    picture = prepared.subject.image
    return _pictured(prepared, _unpacked(picture)) if picture.dtype == np.uint8 else prepared


def without_picture(prepared: Prepared) -> Prepared:
    """All that it takes to conclude."""
    return _pictured(prepared, prepared.subject.image[:0])


def _unpacked(picture: np.ndarray) -> np.ndarray:
    return picture.astype(np.float32) / 255.0


def _pictured(prepared: Prepared, picture: np.ndarray) -> Prepared:
    return replace(prepared, subject=replace(prepared.subject, image=picture))
