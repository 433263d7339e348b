"""The interface between a refinement method and everything around it. A batch is its unit."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import numpy as np
import torch

from refine_batch.cameras.camera import Camera
from refine_batch.config import RefineConfig
from refine_batch.errors import InstanceError, UsageError
from refine_batch.instance import Depth
from refine_batch.mesh import Mesh
from refine_batch.mesh.plane import SymmetryPlane


@dataclass(frozen=True, eq=False)
class View:
    """One picture of an instance at the working size.

    Parameters
    ----------
    mask : (H, H) float32 in [0, 1]
        The share of each pixel that the object covers.
    camera
        About the working mesh.
    known : (H, H) bool, or None
        Which pixels say anything; None: all.
    spread
        One standard deviation of what the camera may be off: azimuth and elevation (radians), logarithm of the
        distance. 0 is exact; infinite: nothing is known.
    pivot
        What the camera moves about where it may be off: the working mesh's centre, unless its distance is known from
        elsewhere.
    weight
        How much the view counts.
    depth, normals
        Hints at the working size, as `refine_batch.instance` has them; metric depth in working units.
    """

    mask: np.ndarray
    camera: Camera
    known: np.ndarray | None = None
    spread: tuple[float, float, float] = (0.0, 0.0, 0.0)
    weight: float = 1.0
    depth: Depth | None = None
    normals: np.ndarray | None = None
    pivot: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def covered(self) -> np.ndarray:
        """(H, H) bool: the pixels of which the object covers at least half."""
        return self.mask >= 0.5

    @property
    def silhouette_known(self) -> np.ndarray:
        """(H, H) bool: which pixels say anything."""
        return np.ones(self.mask.shape, bool) if self.known is None else self.known


@dataclass(frozen=True, eq=False)
class PreparedInstance:
    """An instance as methods see it: a working mesh, and pictures at the working size.

    Parameters
    ----------
    mesh
        One surface of vertices that are all used, its largest extent 1, about the origin.
    image : (H, H, 3) float32 in [0, 1]
        The first view's; H is the configuration's `image_size`.
    views
        The row's own first.
    plane
        In which the object should be its own mirror image, in working units; None: in none.
    """

    instance_id: str
    mesh: Mesh
    image: np.ndarray
    views: tuple[View, ...]
    plane: SymmetryPlane | None = None

    @property
    def mask(self) -> np.ndarray:
        """(H, H) bool: the first view's silhouette."""
        return self.views[0].covered

    @property
    def camera(self) -> Camera:
        """The first view's, about the working mesh."""
        return self.views[0].camera

    @property
    def hinted(self) -> bool:
        """Whether any view has a hint of depth or of normals."""
        return any(view.depth is not None or view.normals is not None for view in self.views)

    def seen_by(self, cameras: Sequence[Camera], spread: tuple[float, float, float] | None = None) -> PreparedInstance:
        """The same instance with other cameras, one for each view; with another spread where one is given."""
        views = [
            replace(view, camera=camera, spread=view.spread if spread is None else spread)
            for view, camera in zip(self.views, cameras, strict=True)
        ]
        return replace(self, views=tuple(views))


@dataclass(frozen=True, eq=False)
class MethodOutput:
    """What a method found for one instance.

    Parameters
    ----------
    vertices : (V, 3) float32
        The refined positions of the working mesh.
    symmetry_confidence : (V,) float32 or None
    losses
        Weighted, by name, at the returned iterate.
    loss_curve : (steps,) float32 or None
        The total loss at each step.
    cameras
        Where each view's camera ended; None: where it was.
    """

    vertices: np.ndarray
    symmetry_confidence: np.ndarray | None = None
    losses: dict[str, float] = field(default_factory=dict)
    loss_curve: np.ndarray | None = None
    steps: int = 0
    cameras: tuple[Camera, ...] | None = None


class Method(Protocol):
    """A refinement method: one outcome per instance, in order.

    An instance that cannot be refined gives an `InstanceError` in its place and leaves its neighbours alone; an outcome
    must not depend on which instances share the batch.
    """

    def __call__(
        self, batch: Sequence[PreparedInstance], config: RefineConfig, device: torch.device
    ) -> list[MethodOutput | InstanceError]: ...


MEGABYTE = 1e6


@dataclass(frozen=True)
class Costs:
    """What a method takes, for batches to be made to suit it.

    Parameters
    ----------
    instance_bytes
        About what one instance with this coarse mesh takes of a device's memory.
    cpu_batch
        Instances that a CPU refines together: more than one where steps are so short that a batch saves what each costs
        besides its arithmetic; else one at a time is as fast and takes the least memory.
    """

    instance_bytes: Callable[[Mesh, RefineConfig], float]
    cpu_batch: int = 1


M = TypeVar("M", bound=Callable)


def costing(costs: Costs) -> Callable[[M], M]:
    """Let a method say what it takes."""

    def told(method: M) -> M:
        setattr(method, _COSTS, costs)
        return method

    return told


def costs_of(name: str) -> Costs | None:
    """What a method says that it takes; None where it does not.

    Raises
    ------
    UsageError
        There is no such method.
    """
    return getattr(load_method(name), _COSTS, None)


def usual_vertices(mesh: Mesh) -> float:
    """The vertices that a mesh counts as: of a usual one there are two faces to each; where there are more, what is
    kept per face outweighs."""
    return max(len(mesh.vertices), len(mesh.faces) / 2)


_COSTS = "costs"

# Loaded by name on first use, so that a method's requirements are only needed by those who choose it.
BUILT_IN = {
    "refine": "refine_batch.methods.refine:refine",
    "large-steps": "refine_batch.methods.large_steps:large_steps",
}


def load_method(name: str) -> Method:
    """The method called `name`: a built-in one, or `module:function` for one of the user's own.

    Raises
    ------
    UsageError
        There is no such method.
    """
    target = BUILT_IN.get(name, name)
    module_name, _, attribute = target.partition(":")
    if not attribute:
        raise UsageError(f"method {name!r} is unknown; choose {', '.join(BUILT_IN)} or give module:function")
    try:
        method = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # A module of the user's own may raise anything.
        raise UsageError(f"method {name!r} cannot be loaded: {error}") from error
    if not callable(method):
        raise UsageError(f"method {name!r} is not a function but {type(method).__name__}")
    return method
