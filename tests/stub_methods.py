"""Methods for `--method stub_methods:…` that take no time and, by an instance's id, misbehave."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.methods import MethodOutput

# Where `Conduct` finds the file of each seed.
FOLDER = "STUB_METHODS_FOLDER"


def swell(batch, config, device):
    """Move every vertex out by 8 %, a plausible refinement; what the id begins with goes wrong instead."""
    return [_one(prepared) for prepared in batch]


def slow(batch, config, device):
    """`swell`, but half a second an instance."""
    time.sleep(0.5 * len(batch))
    return swell(batch, config, device)


def paced(batch, config, device):
    """`swell`, in the time that the seed's `Conduct` says."""
    Conduct(config.seed).keep_pace(batch)
    return swell(batch, config, device)


class Conduct:
    """How `observed` and `paced` behave under one seed, and what was asked of them; shared through files."""

    def __init__(self, seed):
        self.seed = seed
        self._settings = Path(os.environ[FOLDER]) / f"{seed}.json"
        self._log = Path(os.environ[FOLDER]) / f"{seed}.log"

    def set(self, **settings):
        """`pace`: seconds that each instance takes besides; `greedy`: ids that take all the memory there is."""
        new = self._settings.with_suffix(".new")
        new.write_text(json.dumps(settings))
        new.replace(self._settings)

    def settings(self):
        return json.loads(self._settings.read_text()) if self._settings.exists() else {}

    def keep_pace(self, batch):
        """Wait for as long as `batch` is to take; a pace that is changed meanwhile counts at once."""
        begun = time.monotonic()
        while time.monotonic() - begun < self.settings().get("pace", 0.0) * len(batch):
            time.sleep(0.05)

    def note(self, ids):
        line = json.dumps([os.getpid(), list(ids)]) + "\n"
        with self._log.open("a") as log:
            log.write(line)

    def begun(self):
        """(process, ids) of every batch that was begun, in order."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [(pid, ids) for pid, ids in map(json.loads, lines)]


def observed(batch, config, device):
    """The real method `large-steps`, slowed down and noted as the seed's `Conduct` says."""
    from refine_batch.methods.large_steps import large_steps

    conduct = Conduct(config.seed)
    conduct.note(prepared.instance_id for prepared in batch)
    conduct.keep_pace(batch)
    settings = conduct.settings()
    if any(prepared.instance_id in settings.get("greedy", ()) for prepared in batch):
        take_all_memory()
    return large_steps(batch, config, device)


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
    if fault in ("kill", "segv"):
        os.kill(os.getpid(), signal.SIGKILL if fault == "kill" else signal.SIGSEGV)
        # The signal may take another thread first, and its handler time; nobody goes on after such a fault.
        time.sleep(60)
    if fault == "hang":
        time.sleep(10_000)
    if fault == "memory":
        raise MemoryError("enough is enough")
    vertices = prepared.mesh.vertices * np.float32(1.08)
    if fault == "nan":
        vertices = vertices * np.nan
    return MethodOutput(vertices, losses={"silhouette": 0.5}, loss_curve=np.linspace(1, 0.5, 3), steps=3)


def take_all_memory():
    """Until the node's monitor ends this process."""
    hoard = []
    while True:
        hoard.append(np.ones(16 << 20))
        time.sleep(0.02)


if os.environ.get("STUB_METHODS_DRIVER") not in (None, str(os.getpid())):
    raise ImportError("this module can only be imported by the driver")
