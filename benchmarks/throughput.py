"""Instances per hour and seconds per step, per method and batch size, beside a loop over single instances.

    python benchmarks/throughput.py                                    # one CPU core
    python benchmarks/throughput.py --device cuda --batches 8 32 64
    python benchmarks/throughput.py --parts                            # where a step's time goes, by operator

Each method runs its whole course on synthetic instances of about `--vertices` vertices. `loop` calls it with one
instance after the other, in the same run; ratios are to it.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from torch.profiler import ProfilerActivity, profile

from refine_batch.config import RefineConfig
from refine_batch.dataset.synth import make_instance
from refine_batch.instance import Instance
from refine_batch.methods import PreparedInstance, load_method
from refine_batch.prepare import prepare

# How many synthetic instances are looked through for meshes of the size asked for.
CANDIDATES = 40


def instances(count: int, vertices: int) -> list[PreparedInstance]:
    """`count` synthetic instances whose meshes are nearest to `vertices` in size, repeated where there are too few."""
    made = sorted((make_instance(i) for i in range(CANDIDATES)), key=lambda s: abs(len(s.coarse.vertices) - vertices))
    chosen = [made[i % 8] for i in range(count)]
    return [
        prepare(Instance(f"{s.instance_id}-{i}", s.coarse, s.image[..., :3], s.image[..., 3] > 0, s.camera), 224)
        for i, s in enumerate(chosen)
    ]


def course(
    method: str, batches: list[list[PreparedInstance]], config: RefineConfig, device: torch.device
) -> tuple[float, int]:
    """Wall seconds of the method over all batches, and the steps of an instance."""
    function = load_method(method)
    start = time.perf_counter()
    for batch in batches:
        outcomes = function(batch, config, device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, outcomes[0].steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--methods", nargs="+", default=["refine", "large-steps"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--vertices", type=int, default=1500)
    parser.add_argument("--steps", type=int, help="of every method; by default each method's whole course")
    parser.add_argument("--parts", action="store_true", help="profile a few steps instead")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    heads = ("method", "batch", "s/instance", "ms/step", "instances/h", "× loop", "peak MB")
    print("{:<12} {:>5} {:>10} {:>8} {:>11} {:>7} {:>8}".format(*heads))
    for method in arguments.methods:
        config = RefineConfig(method=method, steps=arguments.steps)
        everything = instances(max(arguments.batches), arguments.vertices)
        # Kernels are compiled and memory pools filled before anything is timed.
        course(method, [everything[:1]], RefineConfig(method=method, steps=3), device)
        if arguments.parts:
            with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
                course(method, [everything], RefineConfig(method=method, steps=5), device)
            print(recorded.key_averages().table(sort_by=f"self_{device.type}_time_total", row_limit=20))
            continue
        loop = 0.0
        for label, size in [("loop", 1), *((str(size), size) for size in arguments.batches if size > 1)]:
            batches = [everything[i : i + size] for i in range(0, len(everything), size)]
            total, steps = course(method, batches, config, device)
            each = total / len(everything)
            loop = loop or each
            print(
                f"{method:<12} {label:>5} {each:>10.2f} {each / steps * 1e3:>8.1f} {3600 / each:>11.0f} "
                f"{loop / each:>7.2f} {_peak_megabytes(device):>8.0f}",
                flush=True,
            )


def _peak_megabytes(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
