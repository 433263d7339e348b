"""The library's entry point: instances in, refined instances out, whatever becomes of each."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from refine_batch.cameras.camera import Camera
from refine_batch.config import RefineConfig
from refine_batch.errors import ErrorKind, InstanceError, UsageError
from refine_batch.figures.iou_2d import mask_iou
from refine_batch.figures.measure import Evaluator
from refine_batch.figures.outlines import outline_distance
from refine_batch.instance import CameraSource, Figures, Instance, RefinedInstance
from refine_batch.mesh import Mesh
from refine_batch.methods import MethodOutput, PreparedInstance, load_method
from refine_batch.methods.memory import batch_that_fits
from refine_batch.refinement.guard import objection
from refine_batch.refinement.preparation import Preparation, make_ready
from refine_batch.refinement.prepare import check, prepare
from refine_batch.render import hard_silhouettes
from refine_batch.seeding import instance_seed

logger = logging.getLogger(__name__)

# Instances per device batch on a GPU, where that many fit.
GPU_BATCH = 64
# On a CPU, of methods whose steps are so short that a batch saves what each costs besides its arithmetic; of others one
# at a time is as fast and takes the least memory.
CPU_BATCH = {"large-steps": 4}


def refine(
    instances: Sequence[Instance],
    config: RefineConfig | None = None,
    *,
    device: str = "auto",
    batch_size: int | None = None,
) -> list[RefinedInstance]:
    """Refine instances at test time, each on its own.

    Parameters
    ----------
    instances
        Any number, of any sizes.
    config
        The method and its options; the default is the paper's method.
    device
        `auto` (CUDA where there is one), or a torch device.
    batch_size
        Instances optimised together, at most; by default what suits the device. On a GPU fewer are, where memory asks
        for it. It changes no result beyond rounding.

    Returns
    -------
    list of RefinedInstance
        One per instance, in order. One that cannot be refined has `status` `failed`, with `error_kind` and
        `error_message`; nothing is raised for it and its neighbours are refined.

    Raises
    ------
    UsageError
        The configuration names a method, a renderer or a device that cannot be had, or `batch_size` is below 1.
    """
    config = config or RefineConfig()
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}; it must be at least 1")
    where = choose_device(device)
    method = load_method(config.method)
    results: list[RefinedInstance | None] = [None] * len(instances)
    ready: dict[int, Preparation] = {}
    prepared: dict[int, PreparedInstance] = {}
    for i, instance in enumerate(instances):
        try:
            ready[i], prepared[i] = _ready(instance, config, where)
        except InstanceError as error:
            results[i] = failed(instance.instance_id, error, where)
        except Exception as error:
            logger.exception("instance %r could not be prepared", instance.instance_id)
            results[i] = failed(instance.instance_id, _unexpected(error), where)
    size = batch_size or (GPU_BATCH if where.type == "cuda" else CPU_BATCH.get(config.method, 1))
    for group in _groups(prepared, size, config, where):
        started = time.perf_counter()
        outcomes = _run(method, [prepared[i] for i in group], config, where)
        share = (time.perf_counter() - started) / len(group)
        for i, outcome in zip(group, outcomes, strict=True):
            begun = time.perf_counter()
            try:
                result = _finish(instances[i], ready[i], prepared[i], outcome, config)
            except Exception as error:
                logger.exception("the figures of instance %r could not be measured", instances[i].instance_id)
                result = failed(instances[i].instance_id, _unexpected(error), where)
            results[i] = replace(result, seconds=share + time.perf_counter() - begun, device=str(where))
    return [result for result in results if result is not None]


def choose_device(name: str) -> torch.device:
    """The torch device called `name`, `auto` being CUDA where there is one.

    Raises
    ------
    UsageError
        There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device {name!r} is unknown; choose auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not supported; choose auto, cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count() or "no"
        raise UsageError(f"device {name!r} was asked for, but torch finds {found} CUDA device(s) here")
    return device


def failed(instance_id: str, error: InstanceError, device: torch.device | str = "cpu") -> RefinedInstance:
    """The outcome of an instance that cannot be refined."""
    return RefinedInstance(
        instance_id, "failed", device=str(device), error_kind=error.kind.value, error_message=error.message
    )


def _ready(instance: Instance, config: RefineConfig, device: torch.device) -> tuple[Preparation, PreparedInstance]:
    """The instance checked, made ready as the configuration asks, and brought to the working resolution."""
    check(instance)
    ready = make_ready(instance, config.preparation)
    prepared = prepare(
        ready.working,
        config.image_size,
        refine_camera=config.refine_camera,
        symmetry_axis=config.symmetry_axis,
        device=device,
    )
    return ready, prepared


def _groups(
    prepared: dict[int, PreparedInstance], size: int, config: RefineConfig, device: torch.device
) -> Iterator[list[int]]:
    """Batches of meshes of like size, so that little is padded; each as large as then fits the device."""
    order = sorted(prepared, key=lambda i: (len(prepared[i].mesh.vertices), i))
    while order:
        count = batch_that_fits([prepared[i].mesh for i in order[:size]], config, device, size)
        yield order[:count]
        order = order[count:]


def _run(
    method, batch: list[PreparedInstance], config: RefineConfig, device: torch.device
) -> list[MethodOutput | InstanceError]:
    """The method's outcomes; where it fails as a whole, the batch is halved until the fault stands alone."""
    try:
        outcomes = list(method(batch, config, device))
        if len(outcomes) != len(batch):
            raise ValueError(f"the method gave {len(outcomes)} outcomes for {len(batch)} instances")
        return outcomes
    except UsageError:
        raise
    except InstanceError as error:
        # Without its traceback, whose frames hold the whole batch's tensors.
        fault = error.with_traceback(None)
    except Exception as error:
        if _out_of_memory(error):
            vertices = len(batch[0].mesh.vertices)
            text = f"a mesh of {vertices} vertices does not fit the memory of {device}: {error}"
            fault = InstanceError(ErrorKind.OUT_OF_MEMORY, text)
        else:
            if len(batch) == 1:
                logger.exception("instance %r could not be refined", batch[0].instance_id)
            fault = _unexpected(error)
    if len(batch) == 1:
        return [fault]
    # What failed is let go of before anything is tried again, what stands in cycles too.
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    middle = len(batch) // 2
    return _run(method, batch[:middle], config, device) + _run(method, batch[middle:], config, device)


def _finish(
    instance: Instance,
    ready: Preparation,
    prepared: PreparedInstance,
    outcome: MethodOutput | InstanceError,
    config: RefineConfig,
) -> RefinedInstance:
    """Check what the method found, bring it back to the input's coordinates and measure it."""
    if isinstance(outcome, InstanceError):
        return failed(instance.instance_id, outcome)
    coarse = prepared.mesh
    if outcome.vertices.shape != coarse.vertices.shape or not np.isfinite(outcome.vertices).all():
        return failed(
            instance.instance_id,
            InstanceError(ErrorKind.DIVERGED, "the refinement gave vertices that are NaN, infinite or not as many"),
        )
    working = Mesh(outcome.vertices, coarse.faces)
    mesh = Mesh(ready.restored(outcome.vertices), coarse.faces)
    camera = outcome.camera or prepared.camera
    source: CameraSource = "corrected" if outcome.camera else prepared.camera_source
    ruler = _Ruler(instance, ready, prepared, config)
    given = ready.as_working(instance.mesh)
    before = held = ruler.measure(instance.mesh, given, prepared.camera)
    after = ruler.measure(mesh, working, camera)
    reason = None
    if config.guard:
        apart = ruler.outlines_apart(given, prepared.camera)
        reason = objection(
            coarse,
            working,
            held.iou_2d,
            after.iou_2d,
            apart,
            symmetry_axis=prepared.symmetry_axis,
            largest_risk=config.guard_risk,
        )
    if reason is not None:
        mesh, camera, after = instance.mesh, prepared.camera, held
        source = prepared.camera_source
    if source == "corrected" and isinstance(ready.working.camera, Camera):
        # Of the coarse mesh as it came: seen by the camera that it came with.
        before = replace(held, iou_2d=ruler.iou_2d(given, ready.working.camera))
    return RefinedInstance(
        instance_id=instance.instance_id,
        status="refined" if reason is None else "kept",
        mesh=mesh,
        symmetry_confidence=outcome.symmetry_confidence if reason is None else None,
        camera=_as_given(instance, source) or ready.restored_camera(camera),
        camera_source=source,
        symmetry_axis=prepared.symmetry_axis,
        before=before,
        after=after,
        losses=outcome.losses if reason is None else {},
        loss_curve=outcome.loss_curve,
        preparation=ready.record() if reason is None else None,
        steps=outcome.steps,
        kept_reason=reason,
    )


def _as_given(instance: Instance, source: CameraSource) -> Camera | None:
    """The camera that came with the instance, to the last bit, where it is the one that was used."""
    return instance.camera if source == "given" and isinstance(instance.camera, Camera) else None


class _Ruler:
    """Figures of an instance's meshes: those that need a ground truth in the input's own coordinates, where no
    preparation changes them, and the 2D IoU in the picture that was fitted."""

    def __init__(self, instance: Instance, ready: Preparation, prepared: PreparedInstance, config: RefineConfig):
        seed = instance_seed(config.seed, instance.instance_id, "figures")
        self._moved = not ready.placement.is_identity
        self._mask = prepared.mask
        mask = None if self._moved else prepared.mask
        self._truth = Evaluator(
            mask, instance.ground_truth, samples=config.figure_samples, seed=seed, which=config.figures
        )

    def measure(self, mesh: Mesh, working: Mesh, camera: Camera) -> Figures:
        """Of a mesh in the input's and in the working coordinates; the camera is about the latter."""
        figures = self._truth.measure(mesh, camera)
        if not self._moved:
            return figures
        return replace(figures, iou_2d=self.iou_2d(working, camera))

    def iou_2d(self, working: Mesh, camera: Camera) -> float:
        """Of a mesh in working coordinates in the picture that was fitted."""
        return float(mask_iou(hard_silhouettes(working, [camera], len(self._mask))[0], self._mask))

    def outlines_apart(self, working: Mesh, camera: Camera) -> float:
        """Mean distance of the mesh's outline and the mask's in that picture, as a share of its side."""
        seen = hard_silhouettes(working, [camera], len(self._mask))[0]
        return outline_distance(seen, self._mask) / len(self._mask)


def _out_of_memory(error: Exception) -> bool:
    # Of the CPU's memory torch says so in a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _unexpected(error: Exception) -> InstanceError:
    return InstanceError(ErrorKind.INTERNAL, f"{type(error).__name__}: {error}")
