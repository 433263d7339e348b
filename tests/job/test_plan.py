"""What is left to do, read while the run goes on."""

from __future__ import annotations

import threading

import pytest
from tiny_dataset import write_manifest

from refine_batch.dataset import readers
from refine_batch.dataset.manifest import Manifest
from refine_batch.io.storage import Storage, StorageError
from refine_batch.job import plan as plan_module
from refine_batch.job.plan import Plan
from refine_batch.results.committed import CommittedIndex

IDS = [f"i{number:03}" for number in range(100)]


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    """A hundred rows, read ten at a time."""
    monkeypatch.setattr(readers, "_BLOCK", 400)
    path = write_manifest(tmp_path / "data", IDS)
    return Manifest.open(str(path))


def plan_of(manifest, **options):
    index = CommittedIndex.load(Storage(f"{manifest.folder}/out"))
    return Plan(manifest, index, "a configuration", **options)


def taken(plan, size):
    """Sizes of the batches, and the ids in them in order."""
    sizes, ids = [], []
    while not plan.exhausted:
        plan.check()
        batch = plan.take(size)
        if batch is not None:
            sizes.append(len(batch))
            ids += batch.ids
    return sizes, ids


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
@pytest.mark.parametrize("held", [10, 10_000])
def test_every_row_is_handed_out_once_and_batches_are_full(manifest, monkeypatch, size, held):
    """Also where a batch is larger than what is held ready: the reader then waits for its being taken."""
    monkeypatch.setattr(plan_module, "READY_ROWS", held)
    sizes, ids = taken(plan_of(manifest).start(), size)
    assert ids == IDS
    assert all(number == size for number in sizes[:-1]) or held < size


def test_a_limit_is_a_number_of_rows_of_the_manifest(manifest):
    plan = plan_of(manifest, limit=23).start()
    assert taken(plan, 8) == ([8, 8, 7], IDS[:23])
    assert (plan.seen, plan.skipped) == (23, 0)


def test_a_manifest_that_goes_away_is_an_error_that_says_so(manifest, monkeypatch):
    def gone(self, columns):
        raise FileNotFoundError(2, "there is no such file", "manifest.csv")
        yield

    monkeypatch.setattr(type(manifest.reader), "batches", gone)
    plan = plan_of(manifest).start()
    with pytest.raises(StorageError, match=r"manifest\.csv went away while it was read"):
        plan.wait()


def test_a_plan_that_is_cancelled_ends_though_nothing_is_taken(manifest, monkeypatch):
    monkeypatch.setattr(plan_module, "READY_ROWS", 10)
    plan = plan_of(manifest).start()
    assert plan.wait()
    plan.cancel()
    for thread in threading.enumerate():
        if thread.name == "plan":
            thread.join(60)
            assert not thread.is_alive()
