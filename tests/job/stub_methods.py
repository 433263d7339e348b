"""Methods for `--method stub_methods:…` that take no time and, by an instance's id, misbehave."""

from __future__ import annotations

import os
import signal
import sys
import time

import numpy as np

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.methods import MethodOutput


def swell(batch, config, device):
    """Move every vertex out by 1 %; what the id begins with goes wrong instead."""
    return [_one(prepared) for prepared in batch]


def slow(batch, config, device):
    """`swell`, but half a second an instance."""
    time.sleep(0.5 * len(batch))
    return swell(batch, config, device)


def _one(prepared):
    fault = prepared.instance_id.partition("-")[0]
    if fault == "raise":
        raise ValueError("no luck with [this] one")
    if fault == "refuse":
        return InstanceError(ErrorKind.DIVERGED, "it diverged")
    if fault == "quit":
        sys.exit(3)
    if fault == "exit":
        os._exit(3)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "hang":
        time.sleep(10_000)
    if fault == "memory":
        raise MemoryError("enough is enough")
    vertices = prepared.mesh.vertices * np.float32(1.01)
    if fault == "nan":
        vertices = vertices * np.nan
    return MethodOutput(vertices, losses={"silhouette": 0.5}, loss_curve=np.linspace(1, 0.5, 3), steps=3)


def out_of_memory(batch, config, device):
    """Take memory until the node's monitor ends this process; `good` instances are refined."""
    if any(prepared.instance_id.startswith("greedy") for prepared in batch):
        hoard = []
        while True:
            hoard.append(np.ones(16 << 20))
            time.sleep(0.02)
    return swell(batch, config, device)


if os.environ.get("STUB_METHODS_DRIVER") not in (None, str(os.getpid())):
    raise ImportError("this module can only be imported by the driver")
