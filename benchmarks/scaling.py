"""What more actors bring, what the driver costs per row, and a night's increment on a large dataset.

    python benchmarks/scaling.py                              # all three; a quarter of an hour on 2 cores
    python benchmarks/scaling.py actors --actors 1 2 4
    python benchmarks/scaling.py driver --rows 1000 100000
    python benchmarks/scaling.py plan --rows 10000000         # the manifest alone, as the driver works it off
    python benchmarks/scaling.py nightly --rows 1000000

`actors` refines synthetic instances with `large-steps`, one thread per actor: rows per second from the moment all
actors are ready, and the efficiency against the first count. `driver` and `nightly` replace what an actor does by
nothing, so that what remains is the driver's: CPU time per row and peak memory; of `nightly` the actors write their
parts, of meshes of four vertices, for real. `plan` reads a manifest and cuts it into batches. `nightly` plans and runs
1 000 changed rows of the largest manifest, compacts, and plans again.

Every measurement has a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from refine_batch.cameras.camera import Camera
from refine_batch.config import RefineConfig
from refine_batch.dataset.manifest import Manifest
from refine_batch.instance import Figures, RefinedInstance
from refine_batch.io.storage import Storage
from refine_batch.job import pool
from refine_batch.job.actor import Refiner
from refine_batch.job.batch import Batch, Report
from refine_batch.job.driver import run
from refine_batch.job.options import RunOptions
from refine_batch.job.outcomes import row_outcome, write_outcomes
from refine_batch.job.plan import Plan
from refine_batch.job.progress import Silent, Snapshot
from refine_batch.mesh import Mesh
from refine_batch.results.committed import CommittedIndex
from refine_batch.results.compact import compact
from refine_batch.results.schema import STAGES

CHANGED = 1000
FILES_PER_FOLDER = 1000
# So many files a disk is troubled with.
MOST_FILES = 100_000
TETRAHEDRON = Mesh(np.eye(4, 3, dtype=np.float32), np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]], np.int32))


class StillActor(Refiner):
    """Loads nothing and refines nothing, and answers as an actor does."""

    writes = False

    def ready(self) -> dict[str, Any]:
        return {"node_id": ray.get_runtime_context().get_node_id(), "device": "cpu"}

    def begin(self) -> Any:
        return None

    def work(self, batch: Batch) -> Report:
        outcomes = [
            RefinedInstance(
                task.row.instance_id,
                "refined",
                mesh=TETRAHEDRON,
                camera=Camera(azimuth=30, elevation=20, distance=1.2),
                camera_source="given",
                before=Figures(iou_2d=0.7),
                after=Figures(iou_2d=0.9),
                losses={"silhouette": 0.5},
            )
            for task in batch.tasks
        ]
        if self.writes:
            write_outcomes(self._assignment, batch, outcomes)
        return Report.of(map(row_outcome, outcomes), dict.fromkeys(STAGES, 1.0), device=(1.0, 0.1))


class WritingActor(StillActor):
    """The same, but writes its parts."""

    writes = True


class Stopwatch(Silent):
    """Notes when all actors are ready, and how many rows are done by then."""

    def __init__(self, actors: int):
        self._actors, self.ready_at, self.rows = actors, None, 0

    def show(self, snapshot: Snapshot) -> None:
        if self.ready_at is None and snapshot.actors >= self._actors:
            self.ready_at, self.rows = time.perf_counter(), snapshot.finished


# What is measured, each in a process of its own.


def refine(manifest: str, output: str, actors: int) -> dict[str, Any]:
    """Rows per second of the real method."""
    watch = Stopwatch(actors)
    options = RunOptions(actors=actors, batch_size=1, address="local")
    outcome = run(manifest, output, RefineConfig(method="large-steps"), options, reporter=watch)
    end = time.perf_counter()
    assert outcome.exit_status == 0, outcome.record.message
    assert watch.ready_at is not None
    rows = sum(outcome.record.counts.values()) - watch.rows
    return {"rows": rows, "seconds": end - watch.ready_at, "rows_per_second": rows / (end - watch.ready_at)}


def drive(manifest: str, output: str, actors: int, writing: bool) -> dict[str, Any]:
    """A whole run with nothing for the actors to do but, perhaps, to write."""
    pool.RefineActor = WritingActor if writing else StillActor  # type: ignore[assignment, misc]
    with measured() as figures:
        outcome = run(manifest, output, options=RunOptions(actors=actors, batch_size=64, address="local"))
    assert outcome.exit_status == 0, outcome.record.message
    return figures | {"rows": outcome.record.rows, "done": sum(outcome.record.counts.values())}


def plan(manifest: str, output: str) -> dict[str, Any]:
    """The anti-join alone: the output's keys, the manifest with the stamps of its files, what is left to do."""
    with measured() as figures:
        opened = Manifest.open(manifest)
        opened.check_ids()
        figures["checked"] = _elapsed(figures)
        index = CommittedIndex.load(Storage(output))
        figures["indexed"] = _elapsed(figures)
        planned = Plan(opened, index, RefineConfig().config_hash()).start()
        while not planned.ended:
            time.sleep(0.05)
        planned.check()
    return figures | {"rows": planned.seen, "left": planned.ready}


def work_off(manifest: str, output: str) -> dict[str, Any]:
    """A manifest read, compared with an output that is empty, and cut into batches of 64."""
    with measured() as figures:
        opened = Manifest.open(manifest)
        opened.check_ids()
        figures["checked"] = _elapsed(figures)
        planned = Plan(opened, CommittedIndex.load(Storage(output)), RefineConfig().config_hash()).start()
        rows = 0
        while not planned.exhausted:
            batch = planned.take(64) if planned.wait(poll=0.05) else None
            rows += 0 if batch is None else len(batch)
        planned.check()
    return figures | {"rows": rows}


def compacted(output: str) -> dict[str, Any]:
    with measured() as figures:
        done = compact(Storage(output))
    return figures | {"parts_before": done.parts_before, "parts_after": done.parts_after, "rows": done.rows}


@contextmanager
def measured() -> Iterator[dict[str, Any]]:
    """Wall and CPU seconds of the block, and the process's peak memory, MB."""
    figures: dict[str, Any] = {"_start": time.perf_counter()}
    cpu = time.process_time()
    yield figures
    figures["seconds"] = _elapsed(figures)
    figures["cpu"] = time.process_time() - cpu
    figures["peak_mb"] = _peak_mb()
    del figures["_start"]


def _peak_mb() -> float:
    """Of this program alone: what `getrusage` tells is no less than the peak of the one that started it."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def _elapsed(figures: dict[str, Any]) -> float:
    return time.perf_counter() - figures["_start"]


MEASUREMENTS = {"refine": refine, "drive": drive, "plan": plan, "work_off": work_off, "compacted": compacted}


def measure(name: str, *arguments: Any) -> dict[str, Any]:
    """One of the above in a new process."""
    command = [sys.executable, __file__, "--measure", json.dumps([name, *arguments])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# The datasets.


def synthesise(folder: Path, count: int) -> str:
    from refine_batch.dataset.synth import write_dataset

    return write_dataset(folder, count, 0)


def write_manifest(folder: Path, rows: int) -> Path:
    """A manifest whose rows share an image and have each a mesh file of their own (empty: nobody reads it), up to
    MOST_FILES."""
    folder.mkdir(parents=True)
    files = [f"meshes/{number // FILES_PER_FOLDER:04}/{number:07}.obj" for number in range(min(rows, MOST_FILES))]
    names = [files[number % len(files)] for number in range(rows)]
    for start in range(0, len(files), FILES_PER_FOLDER):
        (folder / names[start]).parent.mkdir(parents=True)
        for name in files[start : start + FILES_PER_FOLDER]:
            os.close(os.open(folder / name, os.O_CREAT | os.O_WRONLY))
    (folder / "image.png").touch()
    columns = {
        "instance_id": [f"instance-{number:07}" for number in range(rows)],
        "mesh_uri": names,
        "image_uri": ["image.png"] * rows,
        "azimuth": np.linspace(0, 360, rows),
        "elevation": np.full(rows, 20.0),
        "distance": np.full(rows, 1.2),
        "category": [f"category-{number % 13}" for number in range(rows)],
    }
    pq.write_table(pa.table(columns), folder / "manifest.parquet")
    return folder / "manifest.parquet"


def change(folder: Path, rows: int) -> None:
    """Change the mesh files of CHANGED rows, spread over the manifest."""
    for number in range(0, rows, max(1, rows // CHANGED)):
        (folder / f"meshes/{number // FILES_PER_FOLDER:04}/{number:07}.obj").write_text("# changed\n")


# The tables.


def show_actors(folder: Path, counts: list[int], instances: int) -> None:
    manifest = synthesise(folder / "synthetic", instances)
    print(f"\nactors, {instances} synthetic instances, large-steps, one thread each")
    print(f"{'actors':>8} {'rows':>8} {'seconds':>9} {'rows/s':>8} {'× first':>8} {'efficiency':>11} {'load':>6}")
    first = 0.0
    for count in counts:
        load = os.getloadavg()[0]
        found = measure("refine", str(manifest), str(folder / f"actors-{count}"), count)
        rate = found["rows_per_second"]
        first = first or rate / count
        print(
            f"{count:>8} {found['rows']:>8} {found['seconds']:>9.1f} {rate:>8.3f} {rate / first / counts[0]:>8.2f} "
            f"{rate / first / count:>11.0%} {load:>6.1f}",
            flush=True,
        )


def show_driver(folder: Path, sizes: list[int], actors: int) -> None:
    print(f"\ndriver, {actors} actors with nothing to refine, batches of 64")
    print(f"{'rows':>9} {'seconds':>9} {'rows/s':>8} {'driver CPU s':>13} {'µs/row':>8} {'peak MB':>8}")
    for rows in sizes:
        manifest = _dataset(folder, rows)
        output = folder / f"still-{rows}"
        shutil.rmtree(output, ignore_errors=True)
        found = measure("drive", str(manifest), str(output), actors, False)
        print(
            f"{rows:>9} {found['seconds']:>9.1f} {rows / found['seconds']:>8.0f} {found['cpu']:>13.1f} "
            f"{found['cpu'] / rows * 1e6:>8.0f} {found['peak_mb']:>8.0f}",
            flush=True,
        )


def show_plan(folder: Path, sizes: list[int]) -> None:
    print(f"\nplan: a manifest of rows nobody has done, cut into batches of 64; at most {MOST_FILES} mesh files")
    for rows in sizes:
        _line(f"{rows} rows", measure("work_off", str(_dataset(folder, rows)), str(folder / "none")))


def show_nightly(folder: Path, rows: int, actors: int) -> None:
    manifest = _dataset(folder, rows)
    output = folder / f"output-{rows}"
    if not output.exists():
        measure("drive", str(manifest), str(output), actors, True)
    change(manifest.parent, rows)
    print(f"\nnightly increment, {rows} rows of which {CHANGED} changed")
    print(f"{'step':<34} {'seconds':>8} {'CPU s':>7} {'peak MB':>8}")
    _plan_line("plan (as left by the first run)", manifest, output)
    found = measure("drive", str(manifest), str(output), actors, True)
    _line(f"run: plan and {found['done']} rows", found)
    found = measure("compacted", str(output))
    _line(f"compact {found['parts_before']} parts to {found['parts_after']}", found)
    assert found["rows"] == rows
    _plan_line("plan (compacted)", manifest, output)
    _line("run with nothing to do", measure("drive", str(manifest), str(output), actors, True))


def _dataset(folder: Path, rows: int) -> Path:
    manifest = folder / f"dataset-{rows}" / "manifest.parquet"
    return manifest if manifest.exists() else write_manifest(manifest.parent, rows)


def _plan_line(label: str, manifest: Path, output: Path) -> None:
    found = measure("plan", str(manifest), str(output))
    _line(f"{label}, {found['left']} left", found)
    spans = found["checked"], found["indexed"] - found["checked"], found["seconds"] - found["indexed"]
    print("  of which ids {:.1f} s, the output's keys {:.1f} s, stamps and comparison {:.1f} s".format(*spans))


def _line(label: str, found: dict[str, Any]) -> None:
    print(f"{label:<34} {found['seconds']:>8.1f} {found['cpu']:>7.1f} {found['peak_mb']:>8.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help="of actors, driver, nightly, plan; by default all but the last"
    )
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--instances", type=int, default=32)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where the datasets lie; by default a temporary one")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        name, *rest = json.loads(arguments.measure)
        print(json.dumps(MEASUREMENTS[name](*rest)))
        return
    parts = arguments.parts or ["driver", "nightly", "actors"]
    if unknown := set(parts) - {"actors", "driver", "nightly", "plan"}:
        parser.error(f"{', '.join(sorted(unknown))}: choose of actors, driver, nightly, plan")
    with tempfile.TemporaryDirectory(prefix="scaling-") as temporary:
        folder = arguments.folder or Path(temporary)
        if "driver" in parts:
            show_driver(folder, arguments.rows, max(arguments.actors))
        if "plan" in parts:
            show_plan(folder, arguments.rows)
        if "nightly" in parts:
            show_nightly(folder, max(arguments.rows), max(arguments.actors))
        if "actors" in parts:
            show_actors(folder, arguments.actors, arguments.instances)


if __name__ == "__main__":
    main()
