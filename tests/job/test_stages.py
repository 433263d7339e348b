"""A batch's way through an actor: what overlaps with what, whose fault is whose, and where the seconds went."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_dataset import result_rows, write_manifest

from refine_batch.config import RefineConfig
from refine_batch.dataset.manifest import Manifest
from refine_batch.dataset.row import ManifestRow
from refine_batch.instance import Instance
from refine_batch.io.storage import Storage, StorageError
from refine_batch.job import actor, awaited, host_work
from refine_batch.job.actor import Refiner
from refine_batch.job.assignment import Assignment
from refine_batch.job.batch import Batch, Task
from refine_batch.job.crew import Crew, CrewError
from refine_batch.job.host_work import Ahead, Some, ready, rehearse, unpacked, without_picture
from refine_batch.mesh import Mesh
from refine_batch.results.lock import LOCK, Holder
from refine_batch.results.schema import STAGES


def refiner_of(folder, method, **settings):
    """Of a run that goes on."""
    config = RefineConfig(method=method, image_size=32, figure_samples=100, guard=False)
    output = Storage(str(folder / "out"))
    output.write(LOCK, Holder.here("run", "run", 60.0).dump())
    return Refiner(Assignment("run", output, config, "0.1", device="cpu", **settings))


def batches(folder, names, size):
    manifest = Manifest.open(str(write_manifest(folder, names)))
    tasks = [
        Task(ManifestRow.from_batch(rows, k), f"f-{k}") for rows in manifest.batches() for k in range(rows.num_rows)
    ]
    return [Batch.of(tasks[k : k + size]) for k in range(0, len(tasks), size)]


def test_the_next_batch_is_made_ready_and_the_last_is_written_while_one_is_on_the_device(tmp_path, monkeypatch):
    """By the order of events: the device does not go on with the second batch until the others have come so far."""
    first, second, third = batches(tmp_path, [f"i{k}" for k in range(6)], 2)
    events: list[str] = []
    written, readied, begun = threading.Event(), threading.Event(), threading.Event()
    write = actor.write_outcomes

    def noting_write(assignment, batch, outcomes, name=None):
        write(assignment, batch, outcomes, name)
        events.append(f"written {batch.ids[0]}")
        written.set()

    def waiting(batch, config, device):
        import stub_methods

        name = batch[0].instance_id
        events.append(f"begun {name}")
        if name == second.ids[0]:
            begun.set()
            assert written.wait(60), "the first batch is written meanwhile"
            assert readied.wait(60), "the third is made ready meanwhile"
        events.append(f"done {name}")
        return stub_methods.swell(batch, config, device)

    monkeypatch.setattr(actor, "write_outcomes", noting_write)
    monkeypatch.setattr("refine_batch.refinement.optimise.load_method", lambda name: waiting)
    refiner = refiner_of(tmp_path, "stub_methods:swell", batch_size=2)
    stages = refiner.begin()
    prepare = stages._stages[0]

    def noting_prepare(passing):
        if passing.batch is third:
            assert begun.wait(60), "it is not made ready before the second is on the device"
        prepare(passing)
        if passing.batch is third:
            readied.set()

    noting_prepare.name = prepare.name
    stages._stages = (noting_prepare, *stages._stages[1:])
    threads = [threading.Thread(target=refiner.work, args=(batch,)) for batch in (first, second, third)]
    for thread, batch in zip(threads, (first, second, third), strict=True):
        thread.start()
        while batch.name not in refiner.turns._numbers and thread.is_alive():
            time.sleep(0.01)
    for thread in threads:
        thread.join(120)
    at = {event: number for number, event in enumerate(events)}
    assert at["begun i2"] < at["written i0"] < at["done i2"], events
    assert at["done i2"] < at["begun i4"], "one batch at a time on the device"
    rows = result_rows(tmp_path / "out")
    assert sorted(row["instance_id"] for row in rows) == [f"i{k}" for k in range(6)]
    for row in rows:
        assert all(row[f"seconds_{name}"] > 0 for name in STAGES)


def test_every_fault_is_its_row_s_alone_with_processes_as_with_threads(tmp_path, importable_stubs):
    names = ["good-1", "raise-x", "quit-x", "refuse-x", "memory-x", "good-2"]
    for cores in (1, 2):
        folder = tmp_path / str(cores)
        [batch] = batches(folder, names, len(names))
        refiner = refiner_of(folder, "stub_methods:swell", cores=cores)
        report = refiner.work(batch)
        refiner.close()
        kinds = {failure.instance_id: failure.error_kind for failure in report.failures}
        assert kinds == {
            "raise-x": "internal",
            "quit-x": "internal",
            "refuse-x": "diverged",
            "memory-x": "out_of_memory",
        }
        assert report.counts["refined"] == 2
        assert set(report.stages) == set(STAGES)


@pytest.mark.parametrize("lock", ["gone", "another's"])
def test_of_a_run_that_is_over_only_what_went_well_is_stored(tmp_path, importable_stubs, lock):
    """An actor was cut off, and comes back: what fails then would stand for the rows that others have stored."""
    well, ill = batches(tmp_path, ["good-1", "good-2", "good-3", "raise-x"], 2)
    refiner = refiner_of(tmp_path, "stub_methods:swell")
    output = Storage(str(tmp_path / "out"))
    output.delete(LOCK) if lock == "gone" else output.write(LOCK, Holder.here("next", "run", 60.0).dump())
    with pytest.raises(StorageError, match="lock is gone" if lock == "gone" else "lock is held by next"):
        refiner.work(ill)
    assert refiner.work(well).counts["refined"] == 2
    refiner.close()
    assert sorted(row["instance_id"] for row in result_rows(output)) == ["good-1", "good-2"]


@pytest.mark.parametrize("lock", ["gone", "another's", "its own", "out of reach", "stalled"])
def test_a_batch_whose_turn_comes_late_is_begun_only_where_the_run_goes_on(
    tmp_path, importable_stubs, monkeypatch, lock
):
    """An actor that was cut off has more in hand than what it was at; that is nobody's any more."""
    [batch] = batches(tmp_path, ["late-1", "late-2"], 2)
    end = threading.Event()
    refiner = refiner_of(tmp_path, "stub_methods:swell")
    output = Storage(str(tmp_path / "out"))
    if lock == "gone":
        output.delete(LOCK)
    elif lock == "another's":
        output.write(LOCK, Holder.here("next", "run", 60.0).dump())
    elif lock == "out of reach":

        def unreachable(storage):
            raise StorageError("no answer")

        monkeypatch.setattr(awaited, "held_by", unreachable)
    elif lock == "stalled":
        monkeypatch.setattr(awaited, "held_by", lambda storage: end.wait(60))
        monkeypatch.setattr(awaited, "SOON", 0.05)
    over = lock in ("gone", "another's")
    with monkeypatch.context() as patched:
        patched.setattr(awaited, "LONG", 0.0)
        if over:
            with pytest.raises(StorageError, match="lock is gone" if lock == "gone" else "lock is held by next"):
                refiner.work(batch)
        else:
            assert refiner.work(batch).counts["refined"] == 2
    assert len(result_rows(output)) == (0 if over else 2)
    # In time it is not asked.
    assert refiner.work(batch).counts["refined"] == 2
    end.set()
    refiner.close()


def test_what_ran_out_of_memory_beside_the_device_is_tried_once_more_by_itself(tmp_path, monkeypatch):
    """In loading, in preparing and in measuring; what does so again fails of that and of nothing else."""
    tried: Counter[str] = Counter()

    def short_of_memory(stage, work):
        def once_or_always(first, *others):
            name = first if isinstance(first, str) else getattr(first, "row", first).instance_id
            tried[f"{stage} {name}"] += 1
            if name == f"{stage}-always" or (name == f"{stage}-once" and tried[f"{stage} {name}"] == 1):
                raise MemoryError("no room")
            return work(first, *others)

        return once_or_always

    from refine_batch.job import host_work
    from refine_batch.refinement import pipeline

    monkeypatch.setattr(host_work, "load", short_of_memory("load", host_work.load))
    monkeypatch.setattr(pipeline, "prepare", short_of_memory("prepare", pipeline.prepare))
    returned = pipeline.returned
    conclude = short_of_memory("conclude", lambda name, *others: returned(*others))
    monkeypatch.setattr(
        pipeline, "returned", lambda optimised, *others: conclude(optimised.prepared.instance_id, optimised, *others)
    )
    names = [f"{stage}-{when}" for stage in ("load", "prepare", "conclude") for when in ("once", "always")]
    [batch] = batches(tmp_path, [*names, "well"], 7)
    report = refiner_of(tmp_path, "stub_methods:swell").work(batch)
    failed = {failure.instance_id: failure.error_kind for failure in report.failures}
    assert failed == {name: "out_of_memory" for name in names if name.endswith("always")}
    assert {tried[f"{name.partition('-')[0]} {name}"] for name in names} == {2}


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_a_row_whose_figures_cannot_be_measured_fails_alone(tmp_path, monkeypatch, where):
    """A batch is measured together: by the crew where the method ran on a CPU, else by the actor on the device."""
    from refine_batch.job import stages
    from refine_batch.refinement import conclude

    asked: list[tuple[str, int, bool]] = []
    compare = conclude.compare

    def hostile(comparisons, which, *, samples, device, pool=None):
        asked.append((str(device), len(comparisons), pool is not None))
        if any(comparison.meshes[0].vertices[0, 0] > 1 for comparison in comparisons):
            raise ValueError("no figure")
        return compare(comparisons, which, samples=samples, device="cpu", pool=pool)

    monkeypatch.setattr(conclude, "compare", hostile)
    [batch] = batches(tmp_path, ["good-1", "raise-x", "bad", "good-2"], 4)
    refiner = refiner_of(tmp_path, "stub_methods:swell")
    last = refiner.begin()._stages[-1]
    assert isinstance(last, stages.Conclude)
    last._device = torch.device(where)

    def spoil(passing):
        optimise(passing)
        working = passing.made[2].prepared.working
        source = replace(working.source, vertices=working.source.vertices + np.float32(2))
        passing.made[2] = replace(
            passing.made[2], prepared=replace(passing.made[2].prepared, working=replace(working, source=source))
        )

    optimise = refiner._stages._stages[1]
    refiner._stages._stages = (refiner._stages._stages[0], spoil, last)
    report = refiner.work(batch)
    refiner.close()
    assert {f.instance_id: f.error_kind for f in report.failures} == {"raise-x": "internal", "bad": "internal"}
    assert report.counts["refined"] == 2
    rows = {row["instance_id"]: row for row in result_rows(tmp_path / "out")}
    assert "no figure" in rows["bad"]["error_message"]
    assert rows["good-1"]["iou_2d_after"] > 0
    # Together first; then one by one, where that failed.
    assert max(count for _, count, _ in asked) > 1
    assert {device for device, _, _ in asked} == {where}
    # Earth mover's distances are the crew's.
    assert any(pooled for _, _, pooled in asked) == (where == "cuda")


def test_large_instances_are_not_loaded_far_ahead():
    """By bytes: as many as fit, at least the one that is next."""
    ahead = Ahead(most=100.0, expected=20.0)
    assert ahead.has_room([None] * 4)
    assert not ahead.has_room([None] * 5)
    mesh = Mesh(np.zeros((5, 3), np.float32), np.zeros((0, 3), np.int32))
    ahead.learn(Instance("i", mesh, np.zeros((0, 0, 3), np.uint8), np.zeros((0, 0), bool)))
    assert not ahead.has_room([None])


def test_what_the_crew_begins_is_worked_out_while_others_wait_for_it():
    crew = Crew(1, threads=2)
    both = threading.Barrier(2)
    try:
        begun = crew.pool.map(lambda a, b: (both.wait(60), a + b)[1], [1, 2], [10, 20])
        assert list(begun) == [11, 22]
    finally:
        crew.close()


def _die(thing):
    if thing:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def test_a_process_of_the_crew_that_dies_is_an_error_and_replaced():
    crew = Crew(2)
    try:
        with pytest.raises(CrewError, match="died"):
            crew.map(_die, [0, 1, 0])
        assert os.getpid() not in crew.map(_die, [0] * 4)
    finally:
        crew.close()


def test_the_crew_ends_with_the_actor_even_where_that_is_killed(tmp_path):
    program = (
        "import os, json, time\nfrom refine_batch.job.crew import Crew\nfrom test_stages import _die\n"
        "print(json.dumps(sorted(set(Crew(2).map(_die, [0] * 8)))), flush=True)\ntime.sleep(100)"
    )
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (here.parents[1], here, here.parent)))
    # What lies in the working directory is nobody's business.
    (tmp_path / "torch.py").write_text("raise SystemExit('this is not torch')")
    actor_ = subprocess.Popen(
        [sys.executable, "-P", "-c", program],
        env=os.environ | {"PYTHONPATH": paths},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    pids = json.loads(actor_.stdout.readline())
    assert len(pids) == 2
    actor_.kill()
    # The processes hold the pipe too: it ends with the last of them.
    assert actor_.communicate(timeout=120) == ("", None)


def test_pictures_travel_in_bytes_where_that_loses_nothing(tmp_path):
    [batch] = batches(tmp_path, ["one"], 1)

    config = RefineConfig(method="large-steps", image_size=32)
    [row] = ready(Some(batch.tasks, Assignment("run", Storage(str(tmp_path / "out")), config, "0.1", device="cpu")))
    packed = row.prepared
    assert packed.subject.image.dtype == np.uint8
    picture = unpacked(packed).subject.image
    assert picture.dtype == np.float32
    assert picture.shape == (32, 32, 3)
    np.testing.assert_array_equal(picture, packed.subject.image.astype(np.float32) / 255.0)
    # What is no number of bytes goes as it is.
    odd = replace(packed, subject=replace(packed.subject, image=picture + np.float32(1e-3)))
    assert host_work._packed(odd) is odd
    assert unpacked(odd) is odd
    assert host_work._packed(unpacked(packed)).subject.image.tobytes() == packed.subject.image.tobytes()
    assert without_picture(packed).subject.image.size == 0


def test_a_rehearsal_goes_all_the_way(caplog, monkeypatch):
    concluded = []
    conclude = host_work.concluded_all
    monkeypatch.setattr(host_work, "concluded_all", lambda *rest: concluded.extend(conclude(*rest)))
    rehearse()
    assert [result.error_message for result in concluded] == [None]
    assert not caplog.records
