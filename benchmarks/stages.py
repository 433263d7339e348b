"""Where an instance's CPU time goes besides the steps of its method: preparing, setting up, concluding.

    python benchmarks/stages.py                              # 12 synthetic instances, one core, large-steps
    python benchmarks/stages.py --method refine --steps 4    # what is not a step does not depend on how many there are
    python benchmarks/stages.py --vertices 886 2003          # of the size that the aims were set for
    python benchmarks/stages.py --device cuda --count 64

Refines synthetic instances with and without their ground truth, and prints the process's CPU milliseconds per instance
of each stage, the mean over the instances. A stage is the functions named in `STAGES`; of functions that call one
another the inner one counts, and the method's own time is what is left of it. On a GPU the host's time is shown, the
device waited for after each.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, islice
from typing import Any
from unittest import mock

import torch
from quality import synthetic

from refine_batch import Instance, RefineConfig, refine

# (stage, what is timed, where it is looked up: module:attribute or module:class.attribute).
STAGES = (
    ("prepare", "check, resize", "refine_batch.refinement.pipeline:prepared_or_error"),
    ("prepare", "working mesh", "refine_batch.refinement.prepare:WorkingMesh.of"),
    ("prepare", "symmetry plane", "refine_batch.refinement.prepare:find_plane"),
    ("judge", "the rest", "refine_batch.refinement.optimise:judge"),
    ("judge", "silhouettes", "refine_batch.refinement.plausibility:hard_silhouettes"),
    ("judge", "outlines", "refine_batch.refinement.plausibility:outline_distance"),
    ("judge", "another direction", "refine_batch.refinement.plausibility:_elsewhere"),
    ("judge", "occlusion", "refine_batch.refinement.plausibility:probably_hidden"),
    ("set-up", "the rest", "refine_batch.refinement.optimise:optimise"),
    ("set-up", "scene, topology", "refine_batch.methods.scene:Scene.of"),
    ("set-up", "topology", "refine_batch.mesh.batch:MeshBatch.of"),
    ("set-up", "whole shape", "refine_batch.methods.whole_shape:WholeShape.__init__"),
    ("set-up", "factorisations", "refine_batch.mesh.preconditioner:Preconditioner.__init__"),
    ("set-up", "objective", "refine_batch.methods.large_steps:Objective.__init__"),
    ("set-up", "objective", "refine_batch.methods.refine:Objective.of"),
    ("set-up", "networks", "refine_batch.methods.refine:stack_parameters"),
    ("set-up", "networks", "refine_batch.methods.refine:initial_parameters"),
    ("steps", "the camera alone", "refine_batch.methods.camera_only:take"),
    ("steps", "large-steps", "refine_batch.methods.large_steps:take"),
    ("steps", "refine", "refine_batch.methods.refine:take"),
    ("conclude", "the rest", "refine_batch.refinement.pipeline:concluded_all"),
    ("conclude", "figures, the rest", "refine_batch.refinement.conclude:compare"),
    ("conclude", "EMD", "refine_batch.figures.emd:emd"),
    ("conclude", "3D IoU", "refine_batch.figures.compare:iou_3d"),
    ("conclude", "silhouettes, 24", "refine_batch.figures.compare:_Batch._views"),
    ("conclude", "silhouettes", "refine_batch.refinement.conclude:silhouettes"),
    ("conclude", "clouds", "refine_batch.figures.compare:_Batch._clouds"),
    ("conclude", "nearest neighbours", "refine_batch.figures.compare:nearest_distance"),
    ("conclude", "guard", "refine_batch.refinement.conclude:choose"),
)


class Profile:
    """CPU seconds by (stage, what), each without what is timed within it."""

    def __init__(self, device: torch.device):
        self._device = device
        self.seconds: dict[tuple[str, str], float] = defaultdict(float)
        self._within: list[tuple[str, str]] = []
        self._since = 0.0

    def _switch(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.process_time()
        if self._within:
            self.seconds[self._within[-1]] += now - self._since
        self._since = now

    def timed(self, key: tuple[str, str], function: Callable) -> Callable:
        def call(*arguments, **options):
            self._switch()
            self._within.append(key)
            try:
                return function(*arguments, **options)
            finally:
                self._switch()
                self._within.pop()

        return call

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for stage, what, place in STAGES:
                owner, attribute = _found(place)
                held = vars(owner)[attribute]
                inner = held.__func__ if isinstance(held, classmethod) else held
                timed: Any = self.timed((stage, what), inner)
                if isinstance(held, classmethod):
                    timed = classmethod(timed)
                stack.enter_context(mock.patch.object(owner, attribute, timed))
            yield


def _found(place: str) -> tuple[Any, str]:
    module, _, path = place.partition(":")
    *classes, attribute = path.split(".")
    owner: Any = importlib.import_module(module)
    for name in classes:
        owner = getattr(owner, name)
    return owner, attribute


def profiled(instances: list[Instance], config: RefineConfig, device: str) -> dict[tuple[str, str], float]:
    """CPU milliseconds per instance of each part."""
    profile = Profile(torch.device(device))
    with profile.watching():
        results = refine(instances, config, device=device)
    if any(r.status == "failed" for r in results):
        raise SystemExit(next(r.error_message for r in results if r.status == "failed"))
    return {key: 1e3 * seconds / len(instances) for key, seconds in profile.seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="large-steps")
    parser.add_argument("--steps", type=int, help="by default the method's whole course")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--vertices", type=int, nargs=2, default=(0, 1 << 30), help="of the coarse meshes: least, most")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    least, most = arguments.vertices
    fit = (one for one in map(synthetic, count()) if least <= len(one.mesh.vertices) <= most)
    instances = list(islice(fit, arguments.count))
    config = RefineConfig(method=arguments.method, steps=arguments.steps)
    bare = [replace(instance, ground_truth=None) for instance in instances]
    # Kernels are compiled, caches filled.
    refine(instances[:1], replace_steps(config, 2), device=arguments.device)
    fast = config.model_copy(update={"figures": "fast"})
    columns = {
        "all figures": profiled(instances, config, arguments.device),
        "fast": profiled(instances, fast, arguments.device),
        "no ground truth": profiled(bare, config, arguments.device),
    }
    sizes = sorted(len(i.mesh.vertices) for i in instances)
    span = f"{sizes[0]} to {sizes[-1]} vertices, {sum(sizes) / len(sizes):.0f} on average"
    print(f"{len(instances)} instances of {span}, {arguments.device}, CPU ms per instance")
    show(columns)


def replace_steps(config: RefineConfig, steps: int) -> RefineConfig:
    return config.model_copy(update={"steps": steps})


def show(columns: dict[str, dict[tuple[str, str], float]]) -> None:
    """A Markdown table: stages, their parts, and what is not a step altogether."""
    print("| stage | " + " | ".join(columns) + " |\n|" + "---|" * (1 + len(columns)))
    for stage in dict.fromkeys(stage for stage, _, _ in STAGES):
        parts = dict.fromkeys(what for s, what, _ in STAGES if s == stage)
        _row(stage, [sum(v for (s, _), v in column.items() if s == stage) for column in columns.values()])
        for what in parts if len(parts) > 1 else ():
            values = [column.get((stage, what), 0.0) for column in columns.values()]
            if any(values):
                _row(f"– {what}", values)
    _row("outside the steps", [sum(v for (s, _), v in c.items() if s != "steps") for c in columns.values()])


def _row(name: str, values: list[float]) -> None:
    print(f"| {name} | " + " | ".join(f"{value:.1f}" for value in values) + " |")


if __name__ == "__main__":
    main()
