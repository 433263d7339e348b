"""How busy an actor's pipeline keeps a device: a stand-in that waits 20 ms an instance and uses no core.

    python benchmarks/pipeline.py                  # two cores, no ground truth, batches of 8

Prints the share of the time from the first batch on that the device is busy, with the pipeline as it is (three batches
in hand, a process for each core), with threads in the processes' place, and with one batch in hand, which is no
pipeline. The CPU's time per instance says what share can be had of a machine that nobody else uses: the cores have
`--each` milliseconds for it, times their number.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from queue import Queue

from refine_batch.cli.synth import synth
from refine_batch.config import RefineConfig
from refine_batch.dataset.manifest import Manifest
from refine_batch.dataset.row import ManifestRow
from refine_batch.io.storage import Storage
from refine_batch.job.actor import Refiner
from refine_batch.job.assignment import Assignment
from refine_batch.job.batch import Batch, Task
from refine_batch.job.crew import Crew
from refine_batch.methods import MethodOutput

EACH = 20


def stand_in(batch, config, device):
    """Waits a millisecond for each of the configuration's steps, and gives every mesh back as it was."""
    time.sleep(config.steps / 1000 * len(batch))
    return [MethodOutput(prepared.mesh.vertices, losses={"silhouette": 0.0}, steps=1) for prepared in batch]


def measure(
    batches: list[Batch], folder: Path, cores: int, each: int, depth: int, threads: bool
) -> tuple[float, float, float, dict]:
    """(share of the time that the device was busy, seconds, CPU seconds, seconds by stage) with `depth` batches in
    hand."""
    config = RefineConfig(method="pipeline:stand_in", guard=False, steps=each)
    refiner = Refiner(Assignment("run", Storage(str(folder)), config, "0", device="cpu", cores=1 if threads else cores))
    stages = refiner.begin()
    if threads:
        crew = Crew(1, threads=cores)
        for stage in stages._stages:
            if hasattr(stage, "_crew"):
                stage._crew = crew
    queue: Queue[Batch] = Queue()
    for batch in batches:
        queue.put(batch)
    spent: dict[str, float] = {}

    def work() -> None:
        while not queue.empty():
            report = refiner.work(queue.get())
            assert report is not None
            for name, seconds in report.stages.items():
                spent[name] = spent.get(name, 0.0) + seconds

    executor = stages.crew._running()
    pids = [os.getpid(), *getattr(executor, "_processes", {})]
    before, begun = sum(map(cpu_seconds, pids)), time.monotonic()
    workers = [threading.Thread(target=work) for _ in range(depth)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds, used = time.monotonic() - begun, sum(map(cpu_seconds, pids)) - before
    refiner.close()
    turns = refiner.turns
    return turns.busy / (turns.busy + turns.idle), seconds, used, spent


def cpu_seconds(pid: int) -> float:
    """What a process has used of its cores, its ended threads included."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--each", type=int, default=EACH, help="milliseconds of the device for an instance")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        synth.main([str(folder / "data"), "--count", "16", "--seed", "0"], standalone_mode=False)
        tasks = [
            Task(ManifestRow.from_batch(rows.drop_columns(["ground_truth_uri"]), k), str(k))
            for rows in Manifest.open(str(folder / "data" / "manifest.csv")).batches()
            for k in range(rows.num_rows)
        ]
        tasks = (tasks * -(-arguments.rows // len(tasks)))[: arguments.rows]
        size = arguments.batch_size
        batches = [Batch.of(tasks[k : k + size]) for k in range(0, len(tasks), size)]
        for name, depth, threads in (
            ("pipeline, processes", 3, False),
            ("pipeline, threads", 3, True),
            ("one batch after the other", 1, False),
        ):
            share, seconds, used, spent = measure(
                batches, folder / name, arguments.cores, arguments.each, depth, threads
            )
            each = ", ".join(f"{stage} {1000 * s / len(tasks):.1f}" for stage, s in spent.items())
            cpu = f"CPU {1000 * used / len(tasks):.1f} ms an instance"
            print(f"{name:26} device busy {share:6.1%}, {seconds:5.1f} s, {cpu}; by stage: {each}", flush=True)


if __name__ == "__main__":
    main()
