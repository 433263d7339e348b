"""A synthetic dataset on disk: objects, coarse meshes of them, pictures, and the manifest that ties them together."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from refine_batch.cameras.camera import Camera, project, stack_cameras
from refine_batch.dataset.synth.coarse import coarse_mesh
from refine_batch.dataset.synth.extras import cutting, occluded, soft
from refine_batch.dataset.synth.families import FAMILIES
from refine_batch.dataset.synth.hints import guessed_depth, guessed_normals, surface
from refine_batch.dataset.synth.options import PLAIN, SynthOptions
from refine_batch.dataset.synth.picture import picture
from refine_batch.dataset.synth.solids import painted
from refine_batch.io.meshes import write_mesh
from refine_batch.io.storage import Storage
from refine_batch.mesh import Mesh
from refine_batch.render import hard_silhouettes

MANIFEST = "manifest.csv"
_COLUMNS = (
    "instance_id", "mesh_uri", "image_uri", "azimuth", "elevation", "distance",
    "camera_error_degrees", "camera_error_distance", "ground_truth_uri", "category",
)  # fmt: skip
_NEAREST, _FARTHEST = 1.0, 2.2
_MARGIN = 0.94
# Files wait for a store (or a disk that syncs) while the next instance is made.
_WRITERS = 4


@dataclass(frozen=True, eq=False)
class SynthPicture:
    """One picture of a synthetic object.

    Parameters
    ----------
    image : (H, H, 4) uint8
        RGB and alpha; alpha > 0 is the ground truth's hard silhouette, unless soft masks were asked for.
    ignore : (H, H) bool, or None
        True where something is before the object.
    depth : (H, H) uint16, or None
        Relative; 0 where nothing is known.
    normals : (H, H, 3) uint8, or None
    """

    image: np.ndarray
    camera: Camera
    ignore: np.ndarray | None = None
    depth: np.ndarray | None = None
    normals: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class SynthInstance:
    """One synthetic instance.

    Parameters
    ----------
    ground_truth
        Watertight, its box centred on the origin, its largest extent 1.
    coarse
        What a single-view method would have made of it.
    image, camera
        The first picture's.
    pictures
        All of them.
    """

    instance_id: str
    category: str
    ground_truth: Mesh
    coarse: Mesh
    image: np.ndarray
    camera: Camera
    pictures: tuple[SynthPicture, ...]


def make_instance(index: int, seed: int = 0, *, image_size: int = 224, options: SynthOptions = PLAIN) -> SynthInstance:
    """Instance number `index` of the dataset with this seed; no other instance plays a part in it.

    Families take turns in an order that depends on the seed, so that a small dataset has variety. Shape, coarse mesh
    and the first view's direction do not depend on `options`.
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
    # The object has the same colours in every picture.
    paint = copy.deepcopy(view)
    pictures = []
    for number in range(options.views):
        extra = np.random.default_rng([seed, index, 3 + number])
        seen_by = camera if number == 0 else _another(ground_truth, camera, number / options.views, extra)
        if options.cut and number == 0:
            seen_by = cutting(seen_by, hard_silhouettes(ground_truth, [seen_by], image_size)[0], extra)
        taken = SynthPicture(picture(solid, tone_of, seen_by, image_size, copy.deepcopy(paint)), seen_by)
        pictures.append(taken if options == PLAIN else _harder(taken, ground_truth, options, extra))
    return SynthInstance(
        instance_id=f"{category}_{index:06d}",
        category=category,
        ground_truth=ground_truth,
        coarse=coarse_mesh(parts, placement, coarse),
        image=pictures[0].image,
        camera=pictures[0].camera,
        pictures=tuple(pictures),
    )


def _harder(taken: SynthPicture, mesh: Mesh, options: SynthOptions, random: np.random.Generator) -> SynthPicture:
    """The picture with all that `options` ask for."""
    image, camera = taken.image, taken.camera
    ignore = depth = normals = None
    if options.soft_masks:
        image = soft(image, mesh, camera, random)
    if options.occluders:
        image, ignore = occluded(image, random)
    if options.depth or options.normals:
        true_depth, true_normals = surface(mesh, camera, len(image))
        depth = guessed_depth(true_depth, random) if options.depth else None
        normals = guessed_normals(true_normals, random) if options.normals else None
    return SynthPicture(image, camera, ignore, depth, normals)


def _framed(mesh: Mesh, random: np.random.Generator) -> Camera:
    """A camera from anywhere round the object, mostly from above, near enough to fill the image and no nearer."""
    azimuth, elevation = random.uniform(0, 360), random.uniform(-10, 50)
    distance = _NEAREST + (_FARTHEST - _NEAREST) * random.beta(1.0, 2.0)
    return _far_enough(mesh, azimuth, elevation, distance)


def _another(mesh: Mesh, first: Camera, turn: float, random: np.random.Generator) -> Camera:
    """A camera that has gone round the object by a share of a full turn, from about as high."""
    azimuth = (first.azimuth + 360.0 * turn) % 360.0
    elevation = float(np.clip(first.elevation + random.uniform(-15, 15), -30, 70))
    return _far_enough(mesh, azimuth, elevation, _NEAREST)


def _far_enough(mesh: Mesh, azimuth: float, elevation: float, distance: float) -> Camera:
    vertices = torch.from_numpy(mesh.vertices)[None]
    while distance < _FARTHEST:
        points = project(vertices, stack_cameras([Camera(azimuth, elevation, distance)]))[0]
        if points[:, 2].min() > 0.1 and points[:, :2].abs().max() < _MARGIN:
            break
        distance = min(distance * 1.07, _FARTHEST)
    return Camera(round(azimuth, 3), round(elevation, 3), round(distance, 4))


def write_dataset(
    directory: str | Path | Storage,
    count: int,
    seed: int = 0,
    *,
    image_size: int = 224,
    options: SynthOptions = PLAIN,
) -> str:
    """Write `count` instances with ground truth, and `manifest.csv` last; returns the manifest's URI.

    Deterministic in `seed` and `options`, and instance i is the same whatever `count` is. Files lie in `meshes/`,
    `images/` and `ground_truth/`, and where asked for in `ignore/`, `depth/` and `normals/`; further views are named
    `NAME_001.png` and so on. The column `symmetry_axis` is left out, for symmetric and asymmetric families alike:
    nobody tells a real dataset's objects apart in it, so the default (z) is what they all get, rightly or wrongly.

    Parameters
    ----------
    directory
        A folder, or any fsspec URI, or a `Storage`.
    """
    storage = directory if isinstance(directory, Storage) else Storage(str(directory))
    table = io.StringIO()
    rows = csv.DictWriter(table, _columns(options), lineterminator="\n")
    rows.writeheader()
    with ThreadPoolExecutor(_WRITERS) as pool:
        writing: deque[Future] = deque()
        for index in range(count):
            instance = make_instance(index, seed, image_size=image_size, options=options)
            rows.writerow(_row(instance))
            writing.append(pool.submit(_write, storage, instance))
            if len(writing) > 2 * _WRITERS:
                writing.popleft().result()
        for written in writing:
            written.result()
    storage.write(MANIFEST, table.getvalue().encode())
    return storage.path_of(MANIFEST)


def _columns(options: SynthOptions) -> list[str]:
    more = {
        "offset_x": options.cut,
        "offset_y": options.cut,
        "ignore_uri": options.occluders,
        "depth_uri": options.depth,
        "depth_kind": options.depth,
        "normals_uri": options.normals,
        "views": options.views > 1,
    }
    return [*_COLUMNS, *(name for name, asked in more.items() if asked)]


def _paths(name: str) -> tuple[str, str]:
    """Of the coarse mesh and the ground truth, relative to the manifest."""
    return f"meshes/{name}.ply", f"ground_truth/{name}.ply"


def _row(instance: SynthInstance) -> dict[str, Any]:
    mesh, truth = _paths(instance.instance_id)
    first, *further = (_picture_row(instance.instance_id, i, one) for i, one in enumerate(instance.pictures))
    names = {"instance_id": instance.instance_id, "category": instance.category}
    row = names | {"mesh_uri": mesh, "ground_truth_uri": truth} | first
    return row | ({"views": json.dumps(further)} if further else {})


def _picture_row(name: str, number: int, taken: SynthPicture) -> dict[str, Any]:
    """The columns of one picture."""
    camera = taken.camera
    files = _picture_files(name, number)
    row: dict[str, Any] = {"image_uri": files["image"]}
    row |= {"azimuth": camera.azimuth, "elevation": camera.elevation, "distance": camera.distance}
    # The pictures were drawn by these cameras.
    row |= {"camera_error_degrees": 0, "camera_error_distance": 0}
    if camera.offset_x or camera.offset_y:
        row |= {"offset_x": camera.offset_x, "offset_y": camera.offset_y}
    if taken.ignore is not None:
        row["ignore_uri"] = files["ignore"]
    if taken.depth is not None:
        row |= {"depth_uri": files["depth"], "depth_kind": "relative"}
    if taken.normals is not None:
        row["normals_uri"] = files["normals"]
    return row


def _picture_files(name: str, number: int) -> dict[str, str]:
    stem = f"{name}_{number:03d}" if number else name
    folders = {"image": "images", "ignore": "ignore", "depth": "depth", "normals": "normals"}
    return {kind: f"{folder}/{stem}.png" for kind, folder in folders.items()}


def _write(storage: Storage, instance: SynthInstance) -> None:
    mesh, truth = _paths(instance.instance_id)
    storage.write(mesh, write_mesh(instance.coarse, "ply"))
    for number, taken in enumerate(instance.pictures):
        for kind, path in _picture_files(instance.instance_id, number).items():
            pixels = getattr(taken, kind)
            if pixels is not None:
                png = io.BytesIO()
                Image.fromarray(pixels).save(png, "PNG", compress_level=3)
                storage.write(path, png.getvalue())
    storage.write(truth, write_mesh(instance.ground_truth, "ply"))
