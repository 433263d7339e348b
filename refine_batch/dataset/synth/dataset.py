"""A synthetic dataset on disk: objects, coarse meshes of them, pictures, and the manifest that ties them together."""

from __future__ import annotations

import csv
import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from refine_batch.cameras.camera import Camera, project, stack_cameras
from refine_batch.dataset.synth.coarse import coarse_mesh
from refine_batch.dataset.synth.families import FAMILIES
from refine_batch.dataset.synth.picture import picture
from refine_batch.dataset.synth.solids import painted
from refine_batch.io.meshes import write_mesh
from refine_batch.io.storage import Storage
from refine_batch.mesh import Mesh

MANIFEST = "manifest.csv"
_COLUMNS = (
    "instance_id", "mesh_uri", "image_uri", "azimuth", "elevation", "distance", "ground_truth_uri", "category",
)  # fmt: skip
_NEAREST, _FARTHEST = 1.0, 2.2
_MARGIN = 0.94
# Files wait for a store (or a disk that syncs) while the next instance is made.
_WRITERS = 4


@dataclass(frozen=True, eq=False)
class SynthInstance:
    """One synthetic instance.

    Parameters
    ----------
    ground_truth
        Watertight, its box centred on the origin, its largest extent 1.
    coarse
        What a single-view method would have made of it.
    image : (H, H, 4) uint8
        RGB and alpha; alpha > 0 is the ground truth's hard silhouette.
    """

    instance_id: str
    category: str
    ground_truth: Mesh
    coarse: Mesh
    image: np.ndarray
    camera: Camera


def make_instance(index: int, seed: int = 0, *, image_size: int = 224) -> SynthInstance:
    """Instance number `index` of the dataset with this seed; no other instance plays a part in it.

    Families take turns in an order that depends on the seed, so that a small dataset has variety.
    """
    order = np.random.default_rng(seed).permutation(sorted(FAMILIES))
    category = str(order[index % len(order)])
    shape, coarse, view = (np.random.default_rng([seed, index, stream]) for stream in range(3))
    parts = FAMILIES[category](shape)
    solid, tone_of = painted(parts)
    low, high = np.reshape(solid.bounding_box(), (2, 3))
    scale = 1.0 / (high - low).max()
    placement = np.column_stack([np.eye(3) * scale, -scale * (low + high) / 2])
    solid = solid.transform(placement)
    mesh = solid.to_mesh()
    ground_truth = Mesh(np.array(mesh.vert_properties[:, :3]), np.array(mesh.tri_verts))
    camera = _framed(ground_truth, view)
    return SynthInstance(
        instance_id=f"{category}_{index:06d}",
        category=category,
        ground_truth=ground_truth,
        coarse=coarse_mesh(parts, placement, coarse),
        image=picture(solid, tone_of, camera, image_size, view),
        camera=camera,
    )


def _framed(mesh: Mesh, random: np.random.Generator) -> Camera:
    """A camera from anywhere round the object, mostly from above, near enough to fill the image and no nearer."""
    azimuth, elevation = random.uniform(0, 360), random.uniform(-10, 50)
    distance = _NEAREST + (_FARTHEST - _NEAREST) * random.beta(1.0, 2.0)
    vertices = torch.from_numpy(mesh.vertices)[None]
    while distance < _FARTHEST:
        points = project(vertices, stack_cameras([Camera(azimuth, elevation, distance)]))[0]
        if points[:, 2].min() > 0.1 and points[:, :2].abs().max() < _MARGIN:
            break
        distance = min(distance * 1.07, _FARTHEST)
    return Camera(round(azimuth, 3), round(elevation, 3), round(distance, 4))


def write_dataset(directory: str | Path | Storage, count: int, seed: int = 0, *, image_size: int = 224) -> str:
    """Write `count` instances with ground truth, and `manifest.csv` last; returns the manifest's URI.

    Deterministic in `seed`, and instance i is the same whatever `count` is. Files lie in `meshes/`, `images/` and
    `ground_truth/`. The column `symmetry_axis` is left out, for symmetric and asymmetric families alike: nobody tells a
    real dataset's objects apart in it, so the default (z) is what they all get, rightly or wrongly.

    Parameters
    ----------
    directory
        A folder, or any fsspec URI, or a `Storage`.
    """
    storage = directory if isinstance(directory, Storage) else Storage(str(directory))
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(_COLUMNS)
    with ThreadPoolExecutor(_WRITERS) as pool:
        writing: deque[Future] = deque()
        for index in range(count):
            instance = make_instance(index, seed, image_size=image_size)
            rows.writerow(_row(instance))
            writing.append(pool.submit(_write, storage, instance))
            if len(writing) > 2 * _WRITERS:
                writing.popleft().result()
        for written in writing:
            written.result()
    storage.write(MANIFEST, table.getvalue().encode())
    return storage.path_of(MANIFEST)


def _paths(name: str) -> tuple[str, str, str]:
    """Of the coarse mesh, the image and the ground truth, relative to the manifest."""
    return f"meshes/{name}.ply", f"images/{name}.png", f"ground_truth/{name}.ply"


def _row(instance: SynthInstance) -> list[str]:
    mesh, image, truth = _paths(instance.instance_id)
    camera = (str(value) for value in (instance.camera.azimuth, instance.camera.elevation, instance.camera.distance))
    return [instance.instance_id, mesh, image, *camera, truth, instance.category]


def _write(storage: Storage, instance: SynthInstance) -> None:
    mesh, image, truth = _paths(instance.instance_id)
    png = io.BytesIO()
    Image.fromarray(instance.image).save(png, "PNG", compress_level=3)
    storage.write(mesh, write_mesh(instance.coarse, "ply"))
    storage.write(image, png.getvalue())
    storage.write(truth, write_mesh(instance.ground_truth, "ply"))
