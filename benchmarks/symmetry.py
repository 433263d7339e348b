"""The symmetry plane: `--symmetry-axis auto` beside z, on synthetic objects, refined with `large-steps`.

    python benchmarks/symmetry.py               # the first 120 objects, and 24 of them turned by 90 and by 25 degrees

Objects of symmetric families are their own mirror images in z = 0, which the paper takes for granted; those of the
asymmetric families are not, and some have another plane. Turned about the vertical by 90 degrees, as in a dataset of
another convention, the plane of all is x = 0; turned by 25, it is an oblique one. Where `auto` finds z = 0 and believes
it, both are nearly the same run; only the others are refined.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import Counter
from dataclasses import replace

import numpy as np
import torch
from quality import synthetic

from refine_batch import Instance, Mesh, RefineConfig, refine
from refine_batch.dataset.synth.families import ASYMMETRIC
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.refinement.prepare import prepare

# An offset (in extents) and a trust within which a plane z = 0 that was found is the one that is taken for granted.
SAME, TRUSTED = 0.01, 0.95


def turned(instance: Instance, degrees: float) -> Instance:
    """Object and camera together about the vertical: the same picture."""
    assert instance.ground_truth is not None
    a = math.radians(degrees)
    turn = np.array([[math.cos(a), 0, -math.sin(a)], [0, 1, 0], [math.sin(a), 0, math.cos(a)]])
    mesh, truth = (Mesh(m.vertices @ turn, m.faces) for m in (instance.mesh, instance.ground_truth))
    camera = replace(instance.camera, azimuth=instance.camera.azimuth + degrees)
    return replace(instance, mesh=mesh, ground_truth=truth, camera=camera)


def chamfer(instance: Instance, axis: str) -> tuple[float, float]:
    config = RefineConfig(method="large-steps", guard=False, symmetry_axis=axis, figure_samples=4000)
    [result] = refine([instance], config)
    return result.before.chamfer_l2, result.after.chamfer_l2


def plane_of(instance: Instance) -> SymmetryPlane | None:
    return prepare(instance, RefineConfig(symmetry_axis="auto")).subject.plane


def name_of(plane: SymmetryPlane | None) -> str:
    return "none" if plane is None else plane.axis or "oblique"


def granted(plane: SymmetryPlane | None) -> bool:
    return name_of(plane) == "z" and plane is not None and abs(plane.offset) < SAME and plane.trust > TRUSTED


def study(name: str, instances: list[Instance]) -> None:
    if not instances:
        return
    planes = [plane_of(instance) for instance in instances]
    other = [i for i, plane in zip(instances, planes, strict=True) if not granted(plane)]
    found = [(*chamfer(i, "z"), chamfer(i, "auto")[1]) for i in other]
    names = Counter(map(name_of, planes))
    counts = ", ".join(f"{names[axis]} {axis}" for axis in ("z", "x", "oblique", "none") if names[axis])
    trust = statistics.median(0.0 if plane is None else plane.trust for plane in planes)
    print(f"| {name} | {counts} | {trust:.2f} | {len(other)} |", end="")
    if found:
        means = [statistics.mean(values) for values in zip(*found, strict=True)]
        ratio = statistics.geometric_mean(auto / default for _, default, auto in found)
        print(f" {means[0]:.2f} | {means[1]:.2f} | {means[2]:.2f} | {ratio:.3f} |", flush=True)
    else:
        print(" – | – | – | – |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--turned", type=int, default=24)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    instances = [synthetic(index) for index in range(arguments.count)]
    print("Chamfer-L2, means over the instances for which auto does not find z = 0")
    print("| objects | auto finds | trust, median | refined | coarse | z | auto | auto / z, geometric mean |")
    print("|---|---|---|---|---|---|---|---|")
    study("symmetric families", [i for i in instances if i.category not in ASYMMETRIC])
    study("asymmetric families", [i for i in instances if i.category in ASYMMETRIC])
    for degrees in (90, 25):
        study(f"all, turned by {degrees}°", [turned(i, degrees) for i in instances[: arguments.turned]])


if __name__ == "__main__":
    main()
