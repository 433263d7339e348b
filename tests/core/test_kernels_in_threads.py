"""Kernels are loaded at their first launch, whichever thread that is in."""

from __future__ import annotations

import subprocess
import sys

# In a process that has launched nothing yet.
SCRIPT = """
import threading

import numpy as np

from refine_batch import Camera, Mesh
from refine_batch.render import hard_silhouettes

mesh = Mesh(np.eye(3), [[0, 1, 2]])
start, found = threading.Barrier(8), []

def draw():
    start.wait()
    try:
        found.append(int(hard_silhouettes(mesh, [Camera(45.0, 35.0, 3.0)], 32).sum()))
    except Exception as error:
        found.append(repr(error))

threads = [threading.Thread(target=draw) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(set(found)) == 1 and found[0] > 0, found
"""


def test_the_first_launches_come_from_eight_threads_at_once():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
