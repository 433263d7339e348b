"""The symmetry plane: `--symmetry-axis auto` beside the default, on synthetic objects, refined with `large-steps`.

    python benchmarks/symmetry.py               # the first 120 objects, and 24 of them turned by 90 degrees

Objects of symmetric families are their own mirror images in z = 0, which the default takes for granted; those of the
asymmetric families are not, and some have another plane. Turned about the vertical by 90 degrees, as in a dataset of
another convention, the plane of all is x = 0. Where `auto` finds z both are the same run; only the others are refined.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace

import torch
from quality import synthetic

from refine_batch import Instance, Mesh, RefineConfig, refine
from refine_batch.dataset.synth.families import ASYMMETRIC
from refine_batch.mesh.symmetry import find_symmetry_axis


def turned(instance: Instance) -> Instance:
    """Object and camera together by 90 degrees about the vertical: the same picture."""
    assert instance.ground_truth is not None
    mesh, truth = (Mesh(m.vertices[:, [2, 1, 0]] * [1, 1, -1], m.faces) for m in (instance.mesh, instance.ground_truth))
    camera = replace(instance.camera, azimuth=instance.camera.azimuth + 90.0)
    return replace(instance, mesh=mesh, ground_truth=truth, camera=camera)


def chamfer(instance: Instance, axis: str) -> tuple[float, float]:
    config = RefineConfig(method="large-steps", guard=False, symmetry_axis=axis, figure_samples=4000)
    [result] = refine([instance], config)
    return result.before.chamfer_l2, result.after.chamfer_l2


def study(name: str, instances: list[Instance]) -> None:
    axes = [find_symmetry_axis(instance.mesh) for instance in instances]
    other = [i for i, axis in zip(instances, axes, strict=True) if axis != "z"]
    found = [(*chamfer(i, "z"), chamfer(i, "auto")[1]) for i in other]
    counts = ", ".join(f"{axes.count(axis)} {axis}" for axis in ("z", "x", "y", "none") if axis in axes)
    print(f"| {name} | {counts} |", end="")
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
    print("Chamfer-L2, means over the instances for which auto does not find z")
    print("| objects | auto finds | coarse | default (z) | auto | auto / z, geometric mean |")
    print("|---|---|---|---|---|---|")
    study("symmetric families", [i for i in instances if i.category not in ASYMMETRIC])
    study("asymmetric families", [i for i in instances if i.category in ASYMMETRIC])
    study("all, turned by 90°", [turned(i) for i in instances[: arguments.turned]])


if __name__ == "__main__":
    main()
