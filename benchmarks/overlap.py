"""Does a GPU wait for storage? Throughput with a store that takes 200 ms longer for every request, against a fast one.

    python benchmarks/overlap.py                     # about five minutes, on any machine
    python benchmarks/overlap.py --delay 0.5 --rows 192 --batch-size 16 --seconds 0.25

Inputs and output lie on a real S3 server (rclone) behind a proxy that adds the delay. What refines is a stand-in that
takes `--seconds` per instance without using the CPU, as a GPU does, so that nothing but waiting is measured; loading,
decoding, writing and the driver are the real ones. Fast and slow runs alternate. Two rates are told: that of the run
from end to end, with its start, and that from the first batch in storage to the last.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "tests")]
os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:3], os.environ.get("PYTHONPATH", "")])


def paced(batch, config, device):
    """A stand-in for `--method`: every instance swells a little, and takes the seconds that the environment says."""
    import numpy as np

    from refine_batch.methods import MethodOutput

    time.sleep(float(os.environ["OVERLAP_SECONDS"]) * len(batch))
    swollen = (prepared.mesh.vertices * np.float32(1.01) for prepared in batch)
    return [MethodOutput(vertices, losses={"silhouette": 0.5}, steps=1) for vertices in swollen]


class Clock:
    """Notes when rows came to their end."""

    def __init__(self) -> None:
        self.points: list[tuple[float, int]] = []

    def show(self, snapshot) -> None:
        if snapshot.finished and (not self.points or self.points[-1][1] != snapshot.finished):
            self.points.append((time.monotonic(), snapshot.finished))

    def say(self, text: str) -> None:
        print(f"  {text}", file=sys.stderr)

    def close(self) -> None: ...

    def steady(self) -> float:
        """Rows per second between the first batch and the last."""
        (start, first), (end, last) = self.points[0], self.points[-1]
        return (last - first) / (end - start)


def upload(bucket: str, endpoint: str, rows: int) -> str:
    """A dataset of little spheres, each with files of its own; its manifest."""
    from tiny_dataset import write_manifest

    from refine_batch.io.storage import Storage

    storage = Storage(f"{bucket}/data", endpoint)
    with tempfile.TemporaryDirectory() as folder:
        write_manifest(Path(folder), [])
        mesh, image = (Path(folder, name).read_bytes() for name in ("sphere.obj", "disc.png"))
    lines = ["instance_id,mesh_uri,image_uri,azimuth,elevation,distance"]
    for number in range(rows):
        storage.write(f"meshes/{number:05}.obj", mesh)
        storage.write(f"images/{number:05}.png", image)
        lines.append(f"i{number:05},meshes/{number:05}.obj,images/{number:05}.png,30,20,1.2")
    storage.write("manifest.csv", "\n".join(lines).encode())
    return storage.path_of("manifest.csv")


def measure(manifest: str, output: str, endpoint: str, arguments: argparse.Namespace) -> tuple[float, float]:
    """Rows per second of a run from end to end, and from its first batch to its last."""
    from refine_batch.config import RefineConfig
    from refine_batch.job import driver
    from refine_batch.job.options import RunOptions

    clock = Clock()
    options = RunOptions(
        actors=1, batch_size=arguments.batch_size, s3_endpoint=endpoint, loaders=arguments.loaders, gpus_per_actor=0.0
    )
    config = RefineConfig(method="overlap:paced", image_size=32, figure_samples=100, guard=False)
    begun = time.monotonic()
    outcome = driver.run(manifest, output, config, options, reporter=clock)
    if outcome.exit_status:
        raise SystemExit(f"the run failed: {outcome.record.message}")
    return arguments.rows / (time.monotonic() - begun), clock.steady()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=0.5, help="that an instance takes to refine")
    parser.add_argument("--delay", type=float, default=0.2, help="seconds added to every request")
    parser.add_argument("--loaders", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    os.environ["OVERLAP_SECONDS"] = str(arguments.seconds)

    import s3_server
    from fault_proxy import FaultProxy

    os.environ.update(s3_server.ENVIRONMENT)
    from refine_batch.job.cluster import connect

    folder = tempfile.mkdtemp(prefix="overlap-")
    server = s3_server.start_rclone(Path(folder))
    # One cluster for all runs: its start is not what is measured.
    cluster = connect("local")
    try:
        bucket = server.make_bucket("overlap")
        manifest = upload(bucket, server.endpoint, arguments.rows)
        rates: dict[str, list[tuple[float, float]]] = {"fast": [], "slow": []}
        for repeat in range(arguments.repeats):
            for name, delay in (("fast", 0.0), ("slow", arguments.delay)):
                with FaultProxy(server.endpoint, delay=delay) as proxy:
                    rate = measure(manifest, f"{bucket}/{name}{repeat}", proxy.endpoint, arguments)
                    requests = len(proxy.requests)
                rates[name].append(rate)
                print(f"{name}: {rate[0]:.3f} rows/s end to end, {rate[1]:.3f} rows/s steady, {requests} requests")
        whole, steady = (
            {name: statistics.median(rate[i] for rate in found) for name, found in rates.items()} for i in (0, 1)
        )
        result = {
            "bound_rows_per_s": round(1 / arguments.seconds, 3),
            "end_to_end": {**whole, "slow_over_fast": whole["slow"] / whole["fast"]},
            "steady": {**steady, "slow_over_fast": steady["slow"] / steady["fast"]},
        }
        print(json.dumps(result, indent=2))
    finally:
        cluster.close()
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
