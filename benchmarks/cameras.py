"""Cameras: what moving a wrong one is worth, and how near an estimated one comes, on synthetic objects.

    python benchmarks/cameras.py correction     # --camera-error 0 and default, cameras off by 0 to 10 degrees and 20 %
    python benchmarks/cameras.py estimation     # rows without a camera
    python benchmarks/cameras.py estimation --first 1000

`correction` refines two kinds of mesh: what a single-view method made (`coarse`), and the ground truth itself, finely
triangulated (`exact`), which a wrong camera must not harm. `estimation` gives the angle between true and estimated
direction, the least over the turns about the vertical under which the object is itself, and the refined Chamfer
distance beside that with the true camera. Which of an object's like views a picture shows no silhouette can tell, and
the coarse mesh is wrong in another way in each; so there are also figures without the objects for which another than
the true one was found. The guard is on throughout.
"""

from __future__ import annotations

import argparse
import math
import statistics
from dataclasses import replace

import numpy as np
import torch
import trimesh
from quality import WORSE
from scipy.spatial import cKDTree

from refine_batch import Camera, Instance, Mesh, RefineConfig, refine
from refine_batch.cameras.camera import angle_between
from refine_batch.dataset.synth import make_instance
from refine_batch.mesh.sampling import sample_surface

# Degrees and share of the distance by which the given camera is off.
OFF_BY = ((0, 0.0), (2, 0.05), (4, 0.1), (6, 0.1), (10, 0.2))
# A turned object is itself where its surface is this near, in extents (synthetic objects have an extent of 1).
SAME = 0.02
# Degrees by which a found direction must be nearer after such a turn to count as another of the object's own views.
OTHER_VIEW = 5.0


def instance(index: int, exact: bool = False) -> Instance:
    made = make_instance(index)
    mesh = made.coarse
    if exact:
        truth = trimesh.Trimesh(made.ground_truth.vertices, made.ground_truth.faces, process=False)
        fine = truth.subdivide_to_size(0.12)
        mesh = Mesh(fine.vertices, fine.faces)
    image, mask = made.image[..., :3].copy(), made.image[..., 3] > 0
    return Instance(made.instance_id, mesh, image, mask, made.camera, ground_truth=made.ground_truth)


def displaced(camera: Camera, degrees: float, share: float, random: np.random.Generator) -> Camera:
    """A camera that stands `degrees` away in some direction, nearer or farther by `share`."""
    where = random.uniform(0, 2 * np.pi)
    factor = (1 + share) ** random.choice([-1, 1])
    azimuth = camera.azimuth + degrees * math.cos(where) / math.cos(math.radians(camera.elevation))
    return replace(
        camera,
        azimuth=azimuth,
        elevation=camera.elevation + degrees * math.sin(where),
        distance=camera.distance * factor,
    )


def correction(count: int) -> None:
    print("| mesh | camera off by | --camera-error | moved | error after, median | Chamfer mean | worse |")
    print("|---|---|---|---|---|---|---|")
    for exact in (True, False):
        for degrees, share in OFF_BY:
            for error in ("0", RefineConfig().camera_error):
                random = np.random.default_rng(0)
                config = RefineConfig(method="large-steps", camera_error=error)
                results, angles = [], []
                for i in range(count):
                    given = instance(i, exact)
                    wrong = displaced(given.camera, degrees, share, random)
                    [result] = refine([replace(given, camera=wrong)], config)
                    results.append(result)
                    angles.append(angle_between(result.camera, given.camera))
                before = [r.before.chamfer_l2 for r in results]
                after = [r.after.chamfer_l2 for r in results]
                worse = statistics.mean(a > WORSE * b for b, a in zip(before, after, strict=True))
                moved = statistics.mean(r.camera_source == "corrected" for r in results)
                print(
                    f"| {'exact' if exact else 'coarse'} | {degrees}°, {share:.0%} | {config.camera_error} "
                    f"| {moved:.0%} | {statistics.median(angles):.1f}° "
                    f"| {statistics.mean(before):.2f} → {statistics.mean(after):.2f} | {worse:.0%} |",
                    flush=True,
                )


def own_turns(mesh: Mesh) -> list[int]:
    """Degrees about the vertical by which the object can be turned and be itself."""
    points, tree = sample_surface(mesh, 4000, 1), cKDTree(sample_surface(mesh, 20_000, 2))
    turns = []
    for degrees in range(0, 360, 15):
        a = math.radians(degrees)
        turn = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
        if math.sqrt((tree.query(points @ turn)[0] ** 2).mean()) < SAME:
            turns.append(degrees)
    return turns or [0]


def estimation(count: int, first: int) -> None:
    config = RefineConfig(method="large-steps")
    errors, distances, true, estimated, coarse, decided = [], [], [], [], [], []
    for i in range(first, first + count):
        given = instance(i)
        [known], [unknown] = refine([given], config), refine([replace(given, camera=None)], config)
        found = unknown.camera
        turned = [replace(found, azimuth=found.azimuth + t) for t in own_turns(given.ground_truth)]
        errors.append(min(angle_between(camera, given.camera) for camera in turned))
        decided.append(angle_between(found, given.camera) - errors[-1] < OTHER_VIEW)
        distances.append(abs(found.distance / given.camera.distance - 1))
        coarse.append(known.before.chamfer_l2)
        true.append(known.after.chamfer_l2)
        estimated.append(unknown.after.chamfer_l2)
        print(
            f"{given.instance_id}: {errors[-1]:.1f}°{'' if decided[-1] else ' (another of its own views)'}, "
            f"{coarse[-1]:.2f} → {true[-1]:.2f} with the true camera, {estimated[-1]:.2f} with the estimated one",
            flush=True,
        )
    quartiles = statistics.quantiles(errors, n=4)
    print(f"angle: median {quartiles[1]:.1f}°, quartiles {quartiles[0]:.1f}° and {quartiles[2]:.1f}°")
    print(f"distance: median error {statistics.median(distances):.1%}")
    for name, chosen in (("all", [True] * count), ("without those seen in another of their own views", decided)):
        rows = [row for row, use in zip(zip(coarse, true, estimated, strict=True), chosen, strict=True) if use]
        if not rows:
            continue
        before, with_true, with_estimated = (statistics.mean(column) for column in zip(*rows, strict=True))
        ratios = [e / t for _, t, e in rows]
        worse = sum(e > WORSE * c for c, _, e in rows)
        print(
            f"{name} ({len(rows)}): Chamfer coarse {before:.2f}, true camera {with_true:.2f}, estimated "
            f"{with_estimated:.2f} ({with_estimated / with_true - 1:+.0%}); ratio of the two: median "
            f"{statistics.median(ratios):.3f}, geometric mean {statistics.geometric_mean(ratios):.3f}; {worse} worse "
            "than coarse with the estimated camera"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=["correction", "estimation"])
    parser.add_argument("--count", type=int, help="synthetic instances (correction: 12, estimation: 40)")
    parser.add_argument("--first", type=int, default=0, help="index of the first of them (estimation only)")
    arguments = parser.parse_args()
    if arguments.study == "correction" and arguments.first:
        parser.error("--first is for estimation")
    torch.set_num_threads(1)
    if arguments.study == "correction":
        correction(arguments.count or 12)
    else:
        estimation(arguments.count or 40, arguments.first)


if __name__ == "__main__":
    main()
