"""What an actor makes sure of before it takes work."""

from __future__ import annotations

import pytest

from refine_batch.config import RefineConfig
from refine_batch.errors import UsageError
from refine_batch.io.storage import Storage
from refine_batch.job import actor
from refine_batch.job.actor import Refiner
from refine_batch.job.assignment import Assignment
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
