"""The guard's risk: its signs over real shapes, the weights that fit them, and what the estimate is worth.

    python benchmarks/guard.py FOLDER --out signs.jsonl            # true meshes, as for shapes.py; goes on where it was
    python benchmarks/guard.py --summary --out signs.jsonl

Each true mesh is spoiled in several ways and seen by its true camera and by one that is off by 5° and a tenth
(`benchmarks/shapes.py`), and so many synthetic objects besides. What is refined is measured at several shares of the
path from coarse to refined. A logistic regression on the signs tells whether all of the way is worse by more than 1 %;
it is judged shape by shape, each by a fit to all others.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Iterator
from dataclasses import astuple, fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from quality import WORSE, synthetic
from scipy.optimize import minimize
from scipy.special import expit
from shapes import FORMATS, Setting, chamfer_in_place, instance_of, true_mesh

from refine_batch import Instance, Mesh, RefineConfig
from refine_batch.refinement.conclude import Ruler
from refine_batch.refinement.guard import along
from refine_batch.refinement.optimise import Optimised, optimise
from refine_batch.refinement.prepare import prepare
from refine_batch.refinement.risk import Signs, signs

KINDS = ("grid", "warp", "shrunk", "part", "cut", "offset")
ERRORS = ((0.0, 0.0), (5.0, 0.1))
SHARES = (0.0, 0.5, 0.75, 1.0)
NAMES = [field.name for field in fields(Signs)]
# Of the squares of the standardised weights.
PENALTY = 1.0
BINS = (0.0, 0.05, 0.1, 0.15, 0.25, 1.0)


def cases(folder: Path, objects: int) -> Iterator[tuple[dict, Instance, Mesh]]:
    """What each line says of its case, the coarse instance, and the true mesh."""
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in FORMATS):
        truth = true_mesh(path)
        for error in ERRORS:
            for kind in KINDS:
                instance, _ = instance_of(path, truth, kind, Setting("large-steps", True, error=error), 0)
                yield {"shape": path.stem, "kind": kind, "error": list(error)}, instance, truth
    for index in range(objects):
        instance = synthetic(index)
        yield {"shape": instance.instance_id, "kind": "synthetic", "error": [0.0, 0.0]}, instance, instance.ground_truth


def measured(instance: Instance, truth: Mesh, config: RefineConfig) -> dict:
    """The signs of one refinement and the Chamfer distances along its path; nothing where it was not refined."""
    prepared = prepare(instance, config)
    [found] = optimise([prepared], config, torch.device("cpu"))
    if not isinstance(found, Optimised) or found.output is None:
        return {}
    subject, output = found.prepared.subject, found.output
    cameras = output.cameras or tuple(view.camera for view in subject.views)
    ruler = Ruler(found.prepared)
    given = ruler.covered_by(subject.mesh.vertices, [view.camera for view in subject.views])
    moved = ruler.covered_by(subject.mesh.vertices, cameras)
    told = signs(subject.mesh, output.vertices, subject.camera, cameras[0], given, moved)
    path = (along(subject.mesh.vertices, output.vertices, share) for share in SHARES)
    meshes = (Mesh(prepared.working.carry(vertices), instance.mesh.faces) for vertices in path)
    return {"signs": astuple(told), "chamfer": [chamfer_in_place(mesh, truth) for mesh in meshes]}


def fitted(told: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """(k + 1,) weights and bias, in the signs' own units."""
    mean, spread = told.mean(axis=0), told.std(axis=0) + 1e-12
    standard, signed = (told - mean) / spread, np.where(worse, 1.0, -1.0)

    def loss(w: np.ndarray) -> float:
        return float(np.logaddexp(0.0, -signed * (standard @ w[:-1] + w[-1])).sum() + PENALTY * (w[:-1] ** 2).sum())

    found = minimize(loss, np.zeros(told.shape[1] + 1)).x
    weights = found[:-1] / spread
    return np.append(weights, found[-1] - weights @ mean)


def by_others(told: np.ndarray, worse: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Each refinement's risk by a fit to the refinements of other shapes."""
    risks = np.empty(len(told))
    for shape in np.unique(shapes):
        own = shapes == shape
        weights = fitted(told[~own], worse[~own])
        risks[own] = expit(told[own] @ weights[:-1] + weights[-1])
    return risks


def summary(lines: list[dict]) -> Iterator[str]:
    lines = [line for line in lines if "signs" in line]
    told = np.array([line["signs"] for line in lines])
    bounds = np.percentile(told, [1, 99], axis=0)
    told = told.clip(*bounds)
    chamfer = np.array([line["chamfer"] for line in lines])
    worse = chamfer[:, -1] > WORSE * chamfer[:, 0]
    # Of synthetic objects, a family is a shape.
    shapes = np.array(
        [line["shape"].rsplit("_", 1)[0] if line["kind"] == "synthetic" else line["shape"] for line in lines]
    )
    weights = fitted(told, worse)
    yield f"{len(lines)} refinements, {worse.sum()} of them worse"
    yield ", ".join(f"{name}={w:.3g}" for name, w in zip([*NAMES, "bias"], weights, strict=True))
    yield ", ".join(f"{name} {low:.3g} to {high:.3g}" for name, low, high in zip(NAMES, *bounds, strict=True))
    risks = by_others(told, worse, shapes)
    above = risks[worse][:, None] - risks[~worse]
    area = ((above > 0) + 0.5 * (above == 0)).mean()
    yield f"area under the ROC curve, each shape by a fit to the others: {area:.2f}"
    yield "| risk foretold | refinements | mean risk | came out worse |\n|---|---|---|---|"
    for low, high in pairwise(BINS):
        inside = (risks >= low) & (risks < high)
        if inside.any():
            shown = f"{risks[inside].mean():.2f} | {worse[inside].mean():.0%}"
            yield f"| {low:g} to {high:g} | {inside.sum()} | {shown} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="true meshes")
    parser.add_argument("--synthetic", type=int, default=100, help="objects of the package's own besides")
    parser.add_argument("--out", type=Path, required=True, help="a file of one JSON line per case")
    parser.add_argument("--summary", action="store_true", help="print what the file holds, run nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [json.loads(text) for text in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    if not arguments.summary:
        config = RefineConfig(method="large-steps")
        done = {line["key"] for line in lines}
        for told, instance, truth in cases(arguments.folder, arguments.synthetic):
            key = zlib.crc32(json.dumps([told, config.config_hash()]).encode())
            if key not in done:
                lines.append(told | {"key": key} | measured(instance, truth, config))
                with arguments.out.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
    print("\n".join(summary(lines)))


if __name__ == "__main__":
    main()
