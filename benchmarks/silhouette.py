"""Soft silhouettes: the fused kernels against the plain torch version, and PyTorch3D where it is installed.

    python benchmarks/silhouette.py                # one core, a few minutes
    python benchmarks/silhouette.py --device cuda

Every row is measured in this run, alternating, and the best of the repeats is kept; ratios are to `warp`.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable

import torch
import trimesh

from refine_batch.cameras.camera import Camera, project, stack_cameras
from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch
from refine_batch.render import alpha, load_renderer

SIGMA = 1e-4
# The plain versions take every triangle at every pixel: beyond this many pairs they are left out.
PLAIN_PAIRS = 60_000_000
PYTORCH3D_PAIRS = 400_000_000


def bumpy_sphere(faces: int) -> Mesh:
    """A closed mesh of about `faces` triangles, half the image wide from distance 2."""
    subdivisions = max(1, round((faces / 20) ** 0.5).bit_length() - 1)
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.5)
    while len(sphere.faces) < faces:
        subdivisions += 1
        sphere = trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.5)
    if len(sphere.faces) > 1.5 * faces:
        rings = max(4, round((faces / 4) ** 0.5))
        sphere = trimesh.creation.uv_sphere(radius=0.5, count=[rings, rings])
    bumps = 1.0 + 0.1 * torch.sin(torch.tensor(sphere.vertices) * 12).prod(dim=1, keepdim=True).numpy()
    return Mesh(sphere.vertices * bumps, sphere.faces)


def case(size: int, faces: int, batch: int, device: str) -> tuple[MeshBatch, torch.Tensor, torch.Tensor]:
    """Meshes, their projected points, and the gradient of a cross-entropy-like loss: dense outside, thin inside."""
    meshes = MeshBatch.of([bumpy_sphere(faces)] * batch, device)
    cameras = stack_cameras([Camera(37.0 * i, 20.0, 1.2) for i in range(batch)], device)
    return meshes, project(meshes.vertices, cameras), torch.arange(batch, dtype=torch.int32, device=device)


def timed(name: str, meshes: MeshBatch, points: torch.Tensor, views: torch.Tensor, size: int) -> tuple[float, float]:
    """Seconds of one forward and one backward pass."""
    renderer = load_renderer(name)
    leaf = points.detach().clone().requires_grad_()
    mask = torch.zeros(size, size, device=points.device)
    mask[size // 4 : -size // 4, size // 4 : -size // 4] = 1.0
    start = _now(points)
    depth = renderer(leaf, meshes.faces, meshes.face_count, views, size, SIGMA)
    middle = _now(points)
    loss = torch.where(mask > 0, -torch.log(alpha(depth).clamp_min(1e-4)), depth).mean()
    before = _now(points)
    loss.backward()
    return middle - start, _now(points) - before


def _now(like: torch.Tensor) -> float:
    if like.is_cuda:
        torch.cuda.synchronize(like.device)
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 112, 224])
    parser.add_argument("--faces", type=int, nargs="+", default=[320, 3000, 20_000])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    present = ["warp", "torch"] + (["pytorch3d"] if importlib.util.find_spec("pytorch3d") else [])
    limits = {"torch": PLAIN_PAIRS, "pytorch3d": PYTORCH3D_PAIRS}
    row: Callable[..., str] = "{:>5} {:>7} {:>6}  {:<10} {:>12} {:>12} {:>10}".format
    print(row("size", "faces", "batch", "renderer", "forward ms", "backward ms", "× warp"))
    for size in arguments.sizes:
        for faces in arguments.faces:
            for batch in arguments.batches:
                meshes, points, views = case(size, faces, batch, arguments.device)
                pairs = size * size * int(meshes.face_count.sum())
                chosen = [name for name in present if pairs <= limits.get(name, pairs)]
                best = {name: (float("inf"), float("inf")) for name in chosen}
                for repeat in range(arguments.repeats + 1):
                    for name in chosen:
                        # The plain ones are slow enough to be measured once; the first round warms up the kernels.
                        if name != "warp" and repeat != 1:
                            continue
                        forward, backward = timed(name, meshes, points, views, size)
                        if repeat:
                            best[name] = (min(best[name][0], forward), min(best[name][1], backward))
                for name in chosen:
                    forward, backward = best[name]
                    ratio = (forward + backward) / sum(best["warp"])
                    count = int(meshes.face_count[0])
                    print(
                        row(size, count, batch, name, f"{forward * 1e3:.2f}", f"{backward * 1e3:.2f}", f"{ratio:.0f}"),
                        flush=True,
                    )


if __name__ == "__main__":
    main()
