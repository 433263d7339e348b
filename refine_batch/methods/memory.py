"""What an instance takes of a device's memory, known before it is refined, so that a batch is made to fit.

Each method says what it costs (`methods.base.Costs`). The built-in ones' costs were fitted to the peak resident memory
of batches of 1, 3 and 5 on a CPU, rounded up; on CUDA they have not been measured (`benchmarks/gpu.py` does), and a
share of the memory is left for what they do not foresee (workspaces, fragments). Should a batch not fit all the same,
it is halved.
"""

from __future__ import annotations

import torch

from refine_batch.config import RefineConfig
from refine_batch.mesh import Mesh
from refine_batch.methods.base import costs_of

# Of the memory that is free.
SHARE = 0.7


def instance_bytes(mesh: Mesh, config: RefineConfig) -> float | None:
    """About what one instance with this coarse mesh takes, bytes; None for a method that does not say."""
    costs = costs_of(config.method)
    return None if costs is None else costs.instance_bytes(mesh, config)


def free_bytes(device: torch.device) -> int:
    """What a process can still have of a CUDA device: what is free there, and what torch holds but does not use."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def batch_that_fits(meshes: list[Mesh], config: RefineConfig, device: torch.device, limit: int) -> int:
    """How many of the first of `meshes` (smallest first) go into one batch: at least 1, at most `limit`.

    A batch is padded to its largest mesh, so that each of its instances costs what that one does. On a CPU, whose
    memory is not reserved for one process, and for methods that do not say what they cost, the limit alone counts.
    """
    most = min(limit, len(meshes))
    if device.type != "cuda" or most <= 1 or instance_bytes(meshes[0], config) is None:
        return max(1, most)
    budget = SHARE * free_bytes(device)
    dearest = 0.0
    for count, mesh in enumerate(meshes[:most], start=1):
        dearest = max(dearest, instance_bytes(mesh, config) or 0.0)
        if count * dearest > budget:
            return max(1, count - 1)
    return most
