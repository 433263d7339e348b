"""The library's entry point: instances in, refined instances out, whatever becomes of each."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from refine_batch.config import RefineConfig
from refine_batch.errors import ErrorKind, InstanceError, UsageError
from refine_batch.figures.measure import Evaluator
from refine_batch.guard import objection
from refine_batch.instance import Instance, RefinedInstance
from refine_batch.mesh import Mesh
from refine_batch.methods import MethodOutput, PreparedInstance, load_method
from refine_batch.prepare import prepare
from refine_batch.seeding import instance_seed

logger = logging.getLogger(__name__)

# Instances per device batch on a GPU. On a CPU one at a time is as fast as any batch and takes the least memory.
GPU_BATCH = 32


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
        Instances optimised together; by default what suits the device. It changes no result beyond rounding.

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
    prepared: dict[int, PreparedInstance] = {}
    for i, instance in enumerate(instances):
        try:
            prepared[i] = prepare(instance, config.image_size)
        except InstanceError as error:
            results[i] = failed(instance.instance_id, error, where)
        except Exception as error:
            logger.exception("instance %r could not be prepared", instance.instance_id)
            results[i] = failed(instance.instance_id, _unexpected(error), where)
    size = batch_size or (GPU_BATCH if where.type == "cuda" else 1)
    for group in _groups(prepared, size):
        started = time.perf_counter()
        outcomes = _run(method, [prepared[i] for i in group], config, where)
        share = (time.perf_counter() - started) / len(group)
        for i, outcome in zip(group, outcomes, strict=True):
            begun = time.perf_counter()
            try:
                result = _finish(instances[i], prepared[i], outcome, config)
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


def _groups(prepared: dict[int, PreparedInstance], size: int) -> Iterator[list[int]]:
    """Batches of meshes of like size, so that little is padded."""
    order = sorted(prepared, key=lambda i: (len(prepared[i].mesh.vertices), i))
    for start in range(0, len(order), size):
        yield order[start : start + size]


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
        fault = error
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
    if device.type == "cuda":
        torch.cuda.empty_cache()
    middle = len(batch) // 2
    return _run(method, batch[:middle], config, device) + _run(method, batch[middle:], config, device)


def _finish(
    instance: Instance, prepared: PreparedInstance, outcome: MethodOutput | InstanceError, config: RefineConfig
) -> RefinedInstance:
    """Check what the method found and measure it."""
    if isinstance(outcome, InstanceError):
        return failed(instance.instance_id, outcome)
    if outcome.vertices.shape != instance.mesh.vertices.shape or not np.isfinite(outcome.vertices).all():
        return failed(
            instance.instance_id,
            InstanceError(ErrorKind.DIVERGED, "the refinement gave vertices that are NaN, infinite or not as many"),
        )
    mesh = Mesh(outcome.vertices, instance.mesh.faces)
    camera = outcome.camera or prepared.camera
    ruler = Evaluator(
        prepared.mask,
        instance.ground_truth,
        samples=config.figure_samples,
        seed=instance_seed(config.seed, instance.instance_id, "figures"),
    )
    before, after = ruler.measure(instance.mesh, prepared.camera), ruler.measure(mesh, camera)
    reason = objection(instance.mesh, mesh, before.iou_2d, after.iou_2d) if config.guard else None
    if reason is not None:
        mesh, camera, after = instance.mesh, prepared.camera, before
    return RefinedInstance(
        instance_id=instance.instance_id,
        status="refined" if reason is None else "kept",
        mesh=mesh,
        symmetry_confidence=outcome.symmetry_confidence,
        camera=camera,
        camera_source="given" if camera is prepared.camera else "corrected",
        before=before,
        after=after,
        losses=outcome.losses,
        loss_curve=outcome.loss_curve,
        steps=outcome.steps,
        kept_reason=reason,
    )


def _out_of_memory(error: Exception) -> bool:
    # Of the CPU's memory torch says so in a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _unexpected(error: Exception) -> InstanceError:
    return InstanceError(ErrorKind.INTERNAL, f"{type(error).__name__}: {error}")
