"""The interface between a refinement method and everything around it. A batch is its unit."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from refine_batch.cameras.camera import Camera
from refine_batch.config import RefineConfig
from refine_batch.errors import InstanceError, UsageError
from refine_batch.instance import CameraSource
from refine_batch.mesh import Mesh
from refine_batch.mesh.plane import SymmetryAxis


@dataclass(frozen=True, eq=False)
class PreparedInstance:
    """An instance at the working resolution, with everything checked and a camera.

    Parameters
    ----------
    mesh
        Checked, in object units.
    image : (H, H, 3) float32 in [0, 1]
        H is the configuration's `image_size`.
    mask : (H, H) bool
    """

    instance_id: str
    mesh: Mesh
    image: np.ndarray
    mask: np.ndarray
    camera: Camera
    symmetry_axis: SymmetryAxis = "z"
    camera_source: CameraSource = "given"


@dataclass(frozen=True, eq=False)
class MethodOutput:
    """What a method found for one instance.

    Parameters
    ----------
    vertices : (V, 3) float32
        The refined positions; the topology is the coarse mesh's.
    symmetry_confidence : (V,) float32 or None
    losses
        Weighted, by name, at the returned iterate.
    loss_curve : (steps,) float32 or None
        The total loss at each step.
    camera
        Where the method corrected it, else None.
    """

    vertices: np.ndarray
    symmetry_confidence: np.ndarray | None = None
    losses: dict[str, float] = field(default_factory=dict)
    loss_curve: np.ndarray | None = None
    steps: int = 0
    camera: Camera | None = None


class Method(Protocol):
    """A refinement method: one outcome per instance, in order.

    An instance that cannot be refined gives an `InstanceError` in its place and leaves its neighbours alone; an outcome
    must not depend on which instances share the batch.
    """

    def __call__(
        self, batch: Sequence[PreparedInstance], config: RefineConfig, device: torch.device
    ) -> list[MethodOutput | InstanceError]: ...


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
