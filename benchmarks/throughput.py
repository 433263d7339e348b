"""Instances per hour and seconds per step, per method and batch size, beside a loop over single instances.

    python benchmarks/throughput.py                                    # one CPU core
    python benchmarks/throughput.py --device cuda --batches 8 32 64
    python benchmarks/throughput.py --parts                            # where a step's time goes
    python benchmarks/throughput.py --less-work                        # options that save steps or pixels, ~3 minutes

Each method runs its whole course on synthetic instances of about `--vertices` vertices. `loop` calls it with one
instance after the other, in the same run; ratios are to it. Beside wall time stands the process's CPU time, which other
processes on a busy machine disturb less. Peak memory is the process's on a CPU (Linux), else torch's on the device.

`--parts` times each part of a step on its own, forward and backward, and the whole step, in turns. `--less-work` runs
small instances with one option after the other and compares seconds, 2D IoU and Chamfer distance with the defaults'.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from parts import WHOLE, shares

from refine_batch.config import RefineConfig
from refine_batch.dataset.synth import SynthInstance, make_instance
from refine_batch.figures.iou_2d import mask_iou
from refine_batch.figures.measure import Evaluator
from refine_batch.instance import Instance
from refine_batch.mesh import Mesh
from refine_batch.mesh.working import WorkingMesh
from refine_batch.methods import MethodOutput, PreparedInstance, load_method
from refine_batch.refinement.prepare import prepare
from refine_batch.render import hard_silhouettes

# How many synthetic instances are looked through for meshes of the size asked for.
CANDIDATES = 40
# What `--less-work` runs: the whole would take an hour.
SMALL = {"vertices": 700, "image_size": 112, "instances": 3, "refine_steps": 100}
LESS_WORK = {
    "refine": {
        "default": {},
        "patience 10": {"patience": 10},
    },
    "large-steps": {"default": {}, "patience 10": {"patience": 10}, "patience 5": {"patience": 5}},
}


@dataclass(frozen=True)
class Clock:
    """Wall and CPU seconds, what is under way on the device included."""

    wall: float
    cpu: float

    @classmethod
    def now(cls, device: torch.device) -> Clock:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: Clock) -> Clock:
        return Clock(self.wall - other.wall, self.cpu - other.cpu)


def synthetic(vertices: int, count: int) -> list[SynthInstance]:
    """The synthetic instances whose meshes are nearest to `vertices` in size."""
    made = [make_instance(i) for i in range(CANDIDATES)]
    return sorted(made, key=lambda s: abs(len(s.coarse.vertices) - vertices))[:count]


def prepared(made: SynthInstance, name: str, image_size: int) -> PreparedInstance:
    image, mask = made.image[..., :3], made.image[..., 3] > 0
    instance = Instance(name, made.coarse, image, mask, made.camera)
    return prepare(instance, RefineConfig(image_size=image_size)).subject


def course(
    method: str, batches: list[list[PreparedInstance]], config: RefineConfig, device: torch.device
) -> tuple[Clock, int]:
    """Time of the method over all batches, and the steps of an instance."""
    function = load_method(method)
    start = Clock.now(device)
    for batch in batches:
        outcomes = function(batch, config, device)
    return Clock.now(device) - start, outcomes[0].steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--methods", nargs="+", default=["refine", "large-steps"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--vertices", type=int, default=1500)
    parser.add_argument("--steps", type=int, help="of every method; by default each method's whole course")
    parser.add_argument("--repeats", type=int, default=10, help="of each part with --parts; the least counts")
    parser.add_argument("--parts", action="store_true", help="time the parts of a step instead")
    parser.add_argument("--less-work", action="store_true", help="compare options that save work instead")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    if arguments.less_work:
        less_work(arguments.methods, device)
        return
    made = synthetic(arguments.vertices, 8)
    count = max(arguments.batches)
    everything = [prepared(made[i % len(made)], f"{i}", 224) for i in range(count)]
    sizes = sorted({len(i.mesh.vertices) for i in everything})
    print(f"{count} instances of {sizes[0]} to {sizes[-1]} vertices, 224 px, {device}, torch {torch.__version__}")
    if arguments.parts:
        for method in arguments.methods:
            show_parts(method, everything, device, arguments.repeats)
        return
    heads = ("method", "batch", "s/instance", "CPU s", "ms/step", "instances/h", "× loop", "peak MB")
    print("{:<12} {:>5} {:>10} {:>8} {:>8} {:>11} {:>7} {:>8}".format(*heads))
    for method in arguments.methods:
        config = RefineConfig(method=method, steps=arguments.steps)
        # Kernels are compiled and memory pools filled before anything is timed.
        course(method, [everything[:1]], RefineConfig(method=method, steps=3), device)
        loop = 0.0
        for label, size in [("loop", 1), *((str(size), size) for size in arguments.batches if size > 1)]:
            batches = [everything[i : i + size] for i in range(0, count, size)]
            _forget_peak(device)
            total, steps = course(method, batches, config, device)
            each = total.wall / count
            loop = loop or each
            print(
                f"{method:<12} {label:>5} {each:>10.2f} {total.cpu / count:>8.2f} {each / steps * 1e3:>8.1f} "
                f"{3600 / each:>11.0f} {loop / each:>7.2f} {_peak_megabytes(device):>8.0f}",
                flush=True,
            )


def show_parts(method: str, instances: list[PreparedInstance], device: torch.device, repeats: int) -> None:
    config = RefineConfig(method=method)
    found = shares(method, instances, config, device, repeats)
    wall, cpu = found.pop(WHOLE)
    print(f"\n{method}, a batch of {len(instances)}, forward and backward, least of {repeats}")
    print(f"{'part':<22} {'ms':>8} {'CPU ms':>8} {'share':>7}")
    # On a busy machine wall time counts others' work too.
    whole = cpu if device.type == "cpu" else wall
    for name, (seconds, busy) in found.items():
        share = (busy if device.type == "cpu" else seconds) / whole
        print(f"{name:<22} {seconds * 1e3:>8.1f} {busy * 1e3:>8.1f} {share:>7.1%}")
    parts = [sum(times) for times in zip(*found.values(), strict=True)]
    print(f"{'all parts':<22} {parts[0] * 1e3:>8.1f} {parts[1] * 1e3:>8.1f}")
    print(f"{WHOLE:<22} {wall * 1e3:>8.1f} {cpu * 1e3:>8.1f} {1:>7.1%}", flush=True)


def less_work(methods: list[str], device: torch.device) -> None:
    """Each option's time and figures beside the defaults', on the same small instances."""
    size = SMALL["image_size"]
    chosen = synthetic(SMALL["vertices"], SMALL["instances"])
    vertices = [len(made.coarse.vertices) for made in chosen]
    print(f"{len(chosen)} instances of {min(vertices)} to {max(vertices)} vertices, {size} px; means over them")
    heads = ("method", "option", "steps", "s", "CPU s", "× faster", "2D IoU", "Chamfer")
    print("{:<12} {:<32} {:>5} {:>7} {:>7} {:>8} {:>7} {:>8}".format(*heads))
    for method in methods:
        steps = SMALL["refine_steps"] if method == "refine" else None
        function = load_method(method)
        ready = [prepared(made, made.instance_id, size) for made in chosen]
        function(ready[:1], RefineConfig(method=method, steps=3, image_size=size), device)
        plain = 0.0
        for name, options in LESS_WORK[method].items():
            config = RefineConfig(method=method, steps=steps, image_size=size, **options)
            times, taken, ious, chamfers = [], [], [], []
            for made, instance in zip(chosen, ready, strict=True):
                start = Clock.now(device)
                [outcome] = function([instance], config, device)
                times.append(Clock.now(device) - start)
                taken.append(outcome.steps)
                ious.append(_iou(instance, outcome))
                # In working units, as the outcome is.
                truth = WorkingMesh.of(made.coarse).placed(made.ground_truth.vertices)
                ruler = Evaluator(None, Mesh(truth, made.ground_truth.faces), samples=2000, seed=0)
                chamfers.append(ruler.measure(Mesh(outcome.vertices, instance.mesh.faces), None).chamfer_l2)
            cpu = statistics.mean(t.cpu for t in times)
            wall = statistics.mean(t.wall for t in times)
            spent = cpu if device.type == "cpu" else wall
            plain = plain or spent
            print(
                f"{method:<12} {name:<32} {statistics.mean(taken):>5.0f} {wall:>7.2f} {cpu:>7.2f} "
                f"{plain / spent:>8.2f} {statistics.mean(ious):>7.4f} {statistics.mean(chamfers):>8.3f}",
                flush=True,
            )


def _iou(instance: PreparedInstance, outcome: MethodOutput) -> float:
    """2D IoU at the camera that the method ended with."""
    camera = outcome.cameras[0] if outcome.cameras else instance.camera
    mesh = Mesh(outcome.vertices, instance.mesh.faces)
    return mask_iou(hard_silhouettes(mesh, [camera], len(instance.mask))[0], instance.mask)


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    # Where this is not Linux the peak is that of the process so far.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_megabytes(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
