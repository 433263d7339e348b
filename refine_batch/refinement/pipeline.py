"""The library's entry point: instances in, refined instances out, whatever becomes of each."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from refine_batch.config import RefineConfig
from refine_batch.devices.choice import choose_device
from refine_batch.errors import InstanceError, UsageError, as_fault
from refine_batch.figures.compare import Pool
from refine_batch.instance import Instance, RefinedInstance
from refine_batch.methods import load_method
from refine_batch.refinement.conclude import failed, measured, returned
from refine_batch.refinement.optimise import Optimised, groups, optimise
from refine_batch.refinement.prepare import Prepared, prepare

logger = logging.getLogger(__name__)


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
    load_method(config.method)
    results: list[RefinedInstance | None] = [None] * len(instances)
    places: list[int] = []
    ready: list[Prepared] = []
    seconds = [0.0] * len(instances)
    for i, instance in enumerate(instances):
        begun = time.perf_counter()
        found = prepared_or_error(instance, config)
        seconds[i] += time.perf_counter() - begun
        if isinstance(found, InstanceError):
            results[i] = replace(failed(instance.instance_id, found, str(where)), notes=instance.notes)
        else:
            places.append(i)
            ready.append(found)
    for group in groups(ready, config, where, batch_size):
        begun = time.perf_counter()
        outcomes = optimise([ready[n] for n in group], config, where)
        done = concluded_all([ready[n].instance_id for n in group], outcomes, config, where)
        share = (time.perf_counter() - begun) / len(group)
        for n, result in zip(group, done, strict=True):
            place = places[n]
            notes = (*instances[place].notes, *result.notes)
            results[place] = replace(result, seconds=seconds[place] + share, device=str(where), notes=notes)
    return [result for result in results if result is not None]


def prepared_or_error(instance: Instance, config: RefineConfig) -> Prepared | InstanceError:
    """`prepare`, its fault in the outcome's place."""
    try:
        return prepare(instance, config)
    except InstanceError as error:
        return error
    except Exception as error:
        logger.exception("instance %r could not be prepared", instance.instance_id)
        return as_fault(error)


def concluded_all(
    ids: Sequence[str],
    outcomes: Sequence[Optimised | InstanceError],
    config: RefineConfig,
    device: torch.device | str = "cpu",
) -> list[RefinedInstance]:
    """What comes back of each instance, all figures measured; faults in the outcomes' places."""
    results = [returned_or_failed(name, outcome, config) for name, outcome in zip(ids, outcomes, strict=True)]
    return measured_all(results, outcomes, config, device)


def returned_or_failed(instance_id: str, outcome: Optimised | InstanceError, config: RefineConfig) -> RefinedInstance:
    """`returned`, its fault in the outcome's place."""
    if isinstance(outcome, InstanceError):
        return failed(instance_id, outcome)
    return _or_failed(instance_id, returned, outcome, config)


def measured_all(
    results: Sequence[RefinedInstance],
    outcomes: Sequence[Optimised | InstanceError],
    config: RefineConfig,
    device: torch.device | str = "cpu",
    pool: Pool | None = None,
) -> list[RefinedInstance]:
    """`measured`, faults in the outcomes' places: where one spoils the batch, each is measured by itself."""
    done = list(results)
    fine = [
        (k, outcome.prepared)
        for k, outcome in enumerate(outcomes)
        if isinstance(outcome, Optimised) and results[k].status != "failed"
    ]
    try:
        found = measured([results[k] for k, _ in fine], [prepared for _, prepared in fine], config, device, pool)
    except Exception:
        found = [
            _or_failed(results[k].instance_id, _alone, results[k], prepared, config, device) for k, prepared in fine
        ]
    for (k, _), result in zip(fine, found, strict=True):
        done[k] = result
    return done


def _alone(
    result: RefinedInstance, prepared: Prepared, config: RefineConfig, device: torch.device | str
) -> RefinedInstance:
    return measured([result], [prepared], config, device)[0]


def _or_failed(instance_id: str, work: Callable[..., RefinedInstance], *things: Any) -> RefinedInstance:
    """What `work` makes of the things, its fault in the outcome's place."""
    try:
        return work(*things)
    except Exception as error:
        logger.exception("instance %r could not be concluded", instance_id)
        return failed(instance_id, as_fault(error))
