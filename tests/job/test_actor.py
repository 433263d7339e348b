"""What an actor makes sure of before it takes work."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from refine_batch.config import RefineConfig
from refine_batch.errors import UsageError
from refine_batch.io.storage import Storage
from refine_batch.job import actor
from refine_batch.job.actor import Refiner
from refine_batch.job.assignment import Assignment
from refine_batch.job.code_folder import PACKAGE
from refine_batch.results.lock import OutputLock


def ready(storage, run_id="mine"):
    return Refiner(Assignment(run_id, storage, RefineConfig(), "0.1", device="cpu")).ready()


def test_a_folder_that_holds_its_run_s_lock_is_the_output(storage):
    with OutputLock(storage, "mine"):
        assert ready(storage)["device"] == "cpu"


@pytest.mark.parametrize("holder", [None, "another"])
def test_another_folder_in_the_output_s_place_is_no_place_to_write_to(tmp_path, monkeypatch, holder):
    monkeypatch.setattr(actor, "SEEN_WITHIN", 0.0)
    storage = Storage(str(tmp_path))
    if holder:
        storage.write("lock.json", OutputLock(storage, holder)._holder.dump())
    with pytest.raises(UsageError, match="not the same folder on every node"):
        ready(storage)


def test_a_folder_that_shows_the_lock_late_is_waited_for(tmp_path, monkeypatch):
    storage = Storage(str(tmp_path))
    lock = OutputLock(storage, "mine")
    monkeypatch.setattr(actor.time, "sleep", lambda seconds: storage.write("lock.json", lock._holder.dump()))
    assert ready(storage)["device"] == "cpu"


WITHOUT_ITS_CODE = """
import shutil, sys
sys.path.insert(0, sys.argv[1])
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in finder.__module__]
from refine_batch.job.code_folder import PACKAGE, import_the_rest
assert str(PACKAGE.parent) == sys.argv[1]
import_the_rest()
shutil.rmtree(PACKAGE)

import numpy as np
from refine_batch import Camera, Instance, Mesh, RefineConfig, UnknownCamera, refine
corners = np.array([[0.0, 0.0, 0.0], [1.0, 0.1, 0.0], [0.0, 1.0, 0.2], [0.1, 0.3, 1.0]])
mesh = Mesh(corners, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]))
image = np.full((32, 32, 3), 200, np.uint8)
mask = np.pad(np.ones((14, 14), bool), 9)
cameras = [Camera(30.0, 20.0, 2.0), UnknownCamera()]
instances = [Instance(str(number), mesh, image, mask, camera) for number, camera in enumerate(cameras)]
for method, steps in ("large-steps", 20), ("refine", 2):
    for result in refine(instances, RefineConfig(method=method, steps=steps, image_size=32), device="cpu"):
        assert result.status != "failed", result.error_message
"""


def test_an_actor_goes_on_without_the_code_that_its_driver_has_taken_along(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name)
    subprocess.run([sys.executable, "-c", WITHOUT_ITS_CODE, str(tmp_path)], check=True, timeout=300)
