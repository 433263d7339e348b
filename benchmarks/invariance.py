"""Whether a result depends on how its mesh was written: a stray vertex, other units, another place, no shared corners.

    python benchmarks/invariance.py                  # large-steps
    python benchmarks/invariance.py --method refine --steps 30
    python benchmarks/invariance.py --large          # a mesh of 1.5 million faces with a texture of 1 % bumps

The greatest distance of any vertex from where it came to in the plain mesh, in extents of the mesh.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import replace

import numpy as np
import torch
import trimesh

from refine_batch import Camera, Instance, Mesh, RefineConfig, refine
from refine_batch.cameras.conversions import from_camera
from refine_batch.cameras.matrices import camera_of_pinhole
from refine_batch.cameras.pinhole import Placement
from refine_batch.instance import CameraError
from refine_batch.render import hard_silhouettes

CAMERA = Camera(35.0, 20.0, 2.0)
RING, RINGS = 1225, 627


def refined(mesh: Mesh, camera: Camera, mask: np.ndarray, config: RefineConfig) -> np.ndarray:
    image = np.repeat(mask[..., None] * np.uint8(150), 3, axis=2)
    exact = CameraError(0.0, 0.0)
    [result] = refine([Instance("it", mesh, image, mask, camera, camera_error=exact, symmetry_axis="none")], config)
    if result.mesh is None or result.status != "refined":
        raise SystemExit(f"{result.status}: {result.error_message or result.kept_reason}")
    if not np.array_equal(result.mesh.faces, mesh.faces):
        raise SystemExit("the faces are others")
    return result.mesh.vertices.astype(np.float64)


def small(config: RefineConfig) -> dict[str, float]:
    sphere = trimesh.creation.icosphere(subdivisions=3)
    faces = sphere.faces.astype(np.int32)
    points = (sphere.vertices * [0.5, 0.4, 0.3]).astype(np.float32)
    mask = hard_silhouettes(Mesh(points * np.float32([1.25, 1.0, 0.8]), faces), [CAMERA], config.image_size)[0]
    extent = np.ptp(points, axis=0).max()
    plain = refined(Mesh(points, faces), CAMERA, mask, config)

    def apart(found: np.ndarray) -> float:
        return float(np.abs(found - plain).max() / extent)

    stray = Mesh(np.vstack([points, [[100.0, 0.0, 0.0]]]).astype(np.float32), faces)
    shift = np.array([3.0, -2.0, 5.0])
    there = camera_of_pinhole(from_camera(CAMERA, config.image_size).about(Placement(translation=-shift)), shift)
    corners = Mesh(points[faces].reshape(-1, 3), np.arange(faces.size, dtype=np.int32).reshape(-1, 3))
    split = refined(corners, CAMERA, mask, config)
    found = {"stray vertex": apart(refined(stray, CAMERA, mask, config)[:-1])}
    for scale in (1000.0, 0.001, 1024.0):
        scaled = Mesh((points * np.float32(scale)).astype(np.float32), faces)
        camera = replace(CAMERA, distance=CAMERA.distance * scale)
        found[f"×{scale:g}"] = apart(refined(scaled, camera, mask, config) / scale)
    found["moved"] = apart(refined(Mesh((points + shift).astype(np.float32), faces), there, mask, config) - shift)
    found["no shared corners"] = float(np.abs(split - plain[faces].reshape(-1, 3)).max() / extent)
    first = np.unique(faces.ravel(), return_index=True)[1]
    found["gap between coincident corners"] = float(np.abs(split - split[first][faces.ravel()]).max())
    return found


def bumpy(stretch: tuple[float, float, float]) -> Mesh:
    turn, rise = np.meshgrid(
        np.linspace(0.0, 2.0 * np.pi, RING, endpoint=False), np.linspace(0.02, np.pi - 0.02, RINGS)
    )
    radius = 0.5 * (1.0 + 0.01 * np.sin(60.0 * turn) * np.sin(60.0 * rise))
    points = np.stack([np.sin(rise) * np.cos(turn), np.cos(rise), np.sin(rise) * np.sin(turn)], axis=-1)
    i, j = np.arange(RINGS - 1)[:, None] * RING, np.arange(RING)[None]
    a, b = i + j, i + (j + 1) % RING
    faces = [np.stack(corners, axis=-1).reshape(-1, 3) for corners in ((a, b, a + RING), (b, b + RING, a + RING))]
    vertices = (points * radius[..., None] * stretch).reshape(-1, 3)
    return Mesh(vertices.astype(np.float32), np.concatenate(faces).astype(np.int32))


def ripples(vertices: np.ndarray) -> np.ndarray:
    """What the radius of the middle rings differs by from its mean over a 29th of the turn."""
    radius = np.linalg.norm(vertices.reshape(RINGS, RING, 3)[RINGS // 3 : 2 * RINGS // 3], axis=-1)
    width = 21
    wrapped = np.concatenate([radius[:, -width:], radius, radius[:, :width]], axis=1)
    sums = np.cumsum(wrapped, axis=1)
    mean = (sums[:, 2 * width :] - sums[:, : -2 * width]) / (2 * width)
    return radius - mean[:, : radius.shape[1]]


def large(config: RefineConfig) -> None:
    coarse = bumpy((1.0, 1.0, 1.0))
    mask = hard_silhouettes(bumpy((1.25, 1.0, 0.9)), [CAMERA], config.image_size)[0]
    begun = time.process_time()
    found = refined(coarse, CAMERA, mask, config)
    seconds, memory = time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    before, after = ripples(coarse.vertices.astype(np.float64)), ripples(found)
    print(f"{len(coarse.faces)} faces: {seconds:.1f} s of CPU, {memory:.2f} GB, its own faces back")
    print(
        f"bumps: {before.std():.2e} before, {after.std():.2e} after, correlation "
        f"{np.corrcoef(before.ravel(), after.ravel())[0, 1]:.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="large-steps")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = RefineConfig(
        method=options.method,
        steps=options.steps,
        image_size=224 if options.large else 112,
        figures="none",
        guard=False,
    )
    if options.large:
        large(config)
        return
    for name, distance in small(config).items():
        print(f"{name:<32} {distance:.1e}")


if __name__ == "__main__":
    main()
