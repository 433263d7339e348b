"""One GPU in under eight minutes: is it right, how fast, how busy, how much memory. Prints tables for RESULTS.md.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --cpu        # the same code on a CPU, small: a rehearsal for where there is no GPU

In this order: a kernel's, an objective's and a figure's value on the device beside the CPU's (*parity*); seconds per
instance of each method by batch size, with the memory that an instance takes beside what its method declares
(*throughput*); a job of many rows through Ray, with and without a ground truth, and how busy `nvidia-smi` found the
device, once a second (*job*). A part that would end after `--seconds` is left out, and said to be.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from quality import synthetic

from refine_batch import Instance, RefineConfig
from refine_batch.cameras.camera import project, stack_cameras
from refine_batch.devices import graphs
from refine_batch.figures.compare import Comparison, compare
from refine_batch.mesh.padded import PaddedMeshes
from refine_batch.mesh.points import nearest_distance
from refine_batch.mesh.preconditioner import Preconditioner
from refine_batch.methods import MethodOutput, load_method
from refine_batch.methods.base import PreparedInstance
from refine_batch.methods.memory import instance_bytes
from refine_batch.methods.scene import Scene
from refine_batch.networks import stack_parameters
from refine_batch.networks.refiner import initial_parameters
from refine_batch.refinement.prepare import prepare
from refine_batch.render import load_renderer
from refine_batch.render.hard import silhouettes


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    device: torch.device
    batches: tuple[int, ...]
    steps: dict[str, int | None]
    rows: int
    image_size: int = 224
    repeats: int = 5


# Of a job's rows; to make more would take longer than to refine them.
DISTINCT = 64
GPU = Plan(torch.device("cuda"), (1, 16, 64, 128), {"large-steps": None, "refine": 60}, 512)
REHEARSAL = Plan(torch.device("cpu"), (1, 2), {"large-steps": 8, "refine": 2}, 4, 64, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="a small rehearsal without a GPU")
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--rows", type=int, help="of each job; default 512, or 4 on a CPU")
    arguments = parser.parse_args()
    if not arguments.cpu and not torch.cuda.is_available():
        sys.exit("there is no GPU here; --cpu rehearses on the CPU, with little of everything")
    plan = REHEARSAL if arguments.cpu else GPU
    plan = replace(plan, rows=arguments.rows or plan.rows)
    end = time.monotonic() + arguments.seconds
    print(f"{card(plan.device)}, torch {torch.__version__}, commit {commit()}")
    made = [synthetic(i) for i in range(8)]
    ready = prepared(made, max(plan.batches), plan.image_size)
    for name, part in (
        ("parity", lambda: parity(ready, plan)),
        ("throughput", lambda: throughput(ready, plan)),
        ("job", lambda: jobs(plan, end)),
    ):
        if time.monotonic() > end:
            print(f"\n{name}: left out, the time is over")
            continue
        part()
    print(f"\n{arguments.seconds - (end - time.monotonic()):.0f} s in all")


def card(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU (a rehearsal: no figure counts)"


def commit() -> str:
    here = Path(__file__).parent
    found = subprocess.run(["git", "-C", here, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


def prepared(made: Sequence[Instance], count: int, size: int) -> list[PreparedInstance]:
    config = RefineConfig(image_size=size)
    subjects = [prepare(instance, config).subject for instance in made]
    return [replace(subject, instance_id=str(i)) for i, subject in zip(range(count), itertools.cycle(subjects))]


# ---- parity --------------------------------------------------------------------------------------------------------


def parity(ready: Sequence[PreparedInstance], plan: Plan) -> None:
    """Each on the CPU and on the device, from the same numbers."""
    batch = list(ready[:2])
    print("\n| parity | largest difference, share of the largest value |\n|---|---|")
    for name, value in PARITY.items():
        here, there = (value(batch, device).detach().cpu().double() for device in (torch.device("cpu"), plan.device))
        apart = float((here - there).abs().max() / here.abs().max().clamp_min(1e-30))
        print(f"| {name} | {apart:.1e} |", flush=True)
    config = RefineConfig(method="large-steps", image_size=plan.image_size, steps=plan.steps["large-steps"])
    found = [load_method("large-steps")(batch, config, device) for device in (torch.device("cpu"), plan.device)]
    for one, other in zip(*found, strict=True):
        if not (isinstance(one, MethodOutput) and isinstance(other, MethodOutput)):
            raise SystemExit(f"large-steps failed: {one if not isinstance(one, MethodOutput) else other}")
        apart = float(np.linalg.norm(one.vertices - other.vertices, axis=1).max())
        losses = sum(other.losses.values()) / sum(one.losses.values()) - 1
        print(f"| large-steps, whole course: farthest vertex (extents), final loss | {apart:.1e}, {losses:+.1e} |")


def _scene(batch: Sequence[PreparedInstance], device: torch.device) -> Scene:
    return Scene.of(batch, load_renderer("warp"), device)


def _depth(batch: Sequence[PreparedInstance], device: torch.device) -> torch.Tensor:
    scene = _scene(batch, device)
    none = scene.symmetry_views([])
    return scene.render(scene.batch.vertices, none, scene.mask.shape[-1], 3e-6, scene.cameras.now()).front


def _depth_gradient(batch: Sequence[PreparedInstance], device: torch.device) -> torch.Tensor:
    scene = _scene(batch, device)
    vertices = scene.batch.vertices.clone().requires_grad_()
    size = scene.mask.shape[-1]
    depth = scene.render(vertices, scene.symmetry_views([]), size, 1e-4, scene.cameras.now()).front
    [gradient] = torch.autograd.grad((torch.expm1(-depth) + scene.mask).square().sum(), vertices)
    return gradient


def _hard(batch: Sequence[PreparedInstance], device: torch.device) -> torch.Tensor:
    meshes = PaddedMeshes.of([i.mesh for i in batch], device)
    own = torch.arange(len(batch), dtype=torch.int32, device=device)
    return silhouettes(meshes, stack_cameras([i.camera for i in batch], device), own, 224).float()


def _solve(batch: Sequence[PreparedInstance], device: torch.device) -> torch.Tensor:
    scene = _scene(batch, device)
    return Preconditioner(scene.batch, 20.0).solve(scene.batch.vertices)


def _nearest(batch: Sequence[PreparedInstance], device: torch.device) -> torch.Tensor:
    clouds = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 2, 5000, 3)).astype(np.float32)).to(device)
    return nearest_distance(clouds[0], clouds[1])


def _figures(batch: Sequence[PreparedInstance], device: torch.device) -> torch.Tensor:
    [found] = compare([Comparison(batch[0].mesh, [batch[1].mesh])], "fast", device=device)
    return torch.tensor([v for v in vars(found[0]).values() if v is not None], dtype=torch.float64)


def _networks(batch: Sequence[PreparedInstance], device: torch.device) -> torch.Tensor:
    stacked = stack_parameters([initial_parameters(i, zero_start=False) for i in range(len(batch))], device)
    return torch.cat([parameter.flatten() for parameter in stacked.values()])


def _projected(batch: Sequence[PreparedInstance], device: torch.device) -> torch.Tensor:
    scene = _scene(batch, device)
    return project(scene.batch.vertices, stack_cameras([i.camera for i in batch], device))


PARITY: dict[str, Callable[[Sequence[PreparedInstance], torch.device], torch.Tensor]] = {
    "projected points": _projected,
    "optical depth, σ = 3e-6": _depth,
    "gradient of the silhouette's error, σ = 1e-4": _depth_gradient,
    "hard silhouettes": _hard,
    "preconditioner": _solve,
    "nearest neighbours": _nearest,
    "figures, fast": _figures,
    "networks drawn": _networks,
}


# ---- throughput ----------------------------------------------------------------------------------------------------


def throughput(ready: Sequence[PreparedInstance], plan: Plan) -> None:
    device = plan.device
    print("\n| method | batch | graphs | s/instance | ms/step | instances/s | MB/instance | declared MB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for method, steps in plan.steps.items():
        config = RefineConfig(method=method, image_size=plan.image_size, steps=steps)
        # Kernels are compiled before anything is timed.
        load_method(method)(list(ready[:1]), config.model_copy(update={"steps": 2}), device)
        for size in plan.batches:
            for recorded in (True, False) if size in plan.batches[1:3] else (True,):
                taken, peak, steps_taken = _course(method, ready[:size], config, device, recorded)
                declared = max(instance_bytes(i.mesh, config) or 0.0 for i in ready[:size]) / 1e6
                shown = "–" if peak is None else f"{peak / size / 1e6:.1f}"
                print(
                    f"| {method} | {size} | {'yes' if recorded else 'no'} | {taken / size:.3f} | "
                    f"{1e3 * taken / steps_taken:.1f} | {size / taken:.1f} | {shown} | {declared:.1f} |",
                    flush=True,
                )


def _course(
    method: str, batch: Sequence[PreparedInstance], config: RefineConfig, device: torch.device, recorded: bool
) -> tuple[float, float | None, int]:
    """Seconds of a batch's whole course, the device's peak bytes beyond what was there before, and the steps."""
    before = 0
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    begun = time.perf_counter()
    with graphs.recording(recorded):
        outcomes = load_method(method)(list(batch), config, device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    taken = time.perf_counter() - begun
    failed = [outcome for outcome in outcomes if not isinstance(outcome, MethodOutput)]
    if failed:
        raise SystemExit(f"{method} failed: {failed[0]}")
    peak = torch.cuda.max_memory_allocated(device) - before if device.type == "cuda" else None
    return taken, peak, max(outcome.steps for outcome in outcomes)


# ---- a job ---------------------------------------------------------------------------------------------------------


@dataclass
class Busy:
    """The device's use as `nvidia-smi` has it, once a second, in per cent."""

    seen: list[float] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Busy:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not self._over.wait(1.0):
            try:
                found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
            except (OSError, subprocess.SubprocessError):
                return
            self.seen.append(float(found.stdout.split()[0]))

    def share(self) -> str:
        """The mean from the first second of work to the last, and the share of seconds in which it did anything."""
        at_work = [i for i, share in enumerate(self.seen) if share > 0]
        if not at_work:
            return "–"
        seen = self.seen[at_work[0] : at_work[-1] + 1]
        return f"{statistics.mean(seen):.0f} % (at all: {sum(s > 0 for s in seen) / len(seen):.0%} of seconds)"


def repeated(folder: Path, rows: int) -> Path:
    """A manifest of so many rows of `DISTINCT` synthetic objects, each again and again under another name."""
    command = [sys.executable, "-m", "refine_batch", "synth", str(folder), "--count", str(min(rows, DISTINCT))]
    subprocess.run(command, check=True, capture_output=True)
    with open(folder / "manifest.csv", newline="") as file:
        some = list(csv.DictReader(file))
    again = [one | {"instance_id": f"{i:05d}"} for i, one in zip(range(rows), itertools.cycle(some))]
    with open(folder / "repeated.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(some[0]))
        writer.writeheader()
        writer.writerows(again)
    return folder / "repeated.csv"


def jobs(plan: Plan, end: float) -> None:
    """Through `refine-batch run`, as a user would."""
    print("\n| job, large-steps | rows | done | s | rows/s | device busy |\n|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder) / "dataset"
        manifest = repeated(dataset, plan.rows)
        for name, figures in (("no ground truth", "none"), ("all figures", "all"), ("fast", "fast")):
            if time.monotonic() > end:
                print(f"| {name} | left out, the time is over | | | | |")
                continue
            command = [sys.executable, "-m", "refine_batch", "run", str(manifest)]
            command += [str(Path(folder) / figures), "--method", "large-steps", "--address", "local"]
            command += ["--figures", figures, "--image-size", str(plan.image_size)]
            steps = plan.steps["large-steps"]
            command += [] if steps is None else ["--steps", str(steps)]
            begun = time.perf_counter()
            with Busy() as busy:
                try:
                    left = max(30.0, end - time.monotonic())
                    found = subprocess.run(command, capture_output=True, text=True, timeout=left, check=False)
                except subprocess.TimeoutExpired:
                    print(f"| {name} | {plan.rows} | not done when the time was over | | | {busy.share()} |")
                    continue
            taken = time.perf_counter() - begun
            done = "yes" if found.returncode == 0 else f"exit status {found.returncode}: {found.stderr[-200:]!r}"
            rate = plan.rows / taken
            print(f"| {name} | {plan.rows} | {done} | {taken:.0f} | {rate:.2f} | {busy.share()} |", flush=True)


if __name__ == "__main__":
    main()
