"""Manifests of spheres a few dozen vertices large."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import trimesh
from PIL import Image

from refine_batch.io.storage import Storage

COLUMNS = ("instance_id", "mesh_uri", "image_uri", "azimuth", "elevation", "distance", "category")


def write_manifest(folder: Path, ids: Iterable[str], **overrides: str) -> Path:
    """A CSV manifest whose instances all share one mesh and one image."""
    folder.mkdir(parents=True, exist_ok=True)
    mesh, image = folder / "sphere.obj", folder / "disc.png"
    if not mesh.exists():
        trimesh.creation.icosphere(subdivisions=1, radius=0.3).export(mesh)
        grid = np.linspace(-1, 1, 64)
        # Wider than high: no camera makes it of a sphere, so that there is something to refine.
        disc = (grid[:, None] ** 2 / 0.24 + grid[None] ** 2 / 0.4 < 1).astype(np.uint8) * 255
        Image.fromarray(np.dstack([disc] * 4)).save(image)
    path = folder / "manifest.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        sheet = csv.DictWriter(file, COLUMNS)
        sheet.writeheader()
        for one in ids:
            row = {"mesh_uri": mesh.name, "image_uri": image.name, "azimuth": 30, "elevation": 20, "distance": 1.2}
            sheet.writerow(row | {"instance_id": one, "category": one.partition("-")[0]} | overrides)
    return path


def write_broken_manifest(folder: Path) -> dict[str, str | None]:
    """A manifest with two good instances and one broken in each way; the kind of error of each."""
    write_manifest(folder, [])
    disc = np.asarray(Image.open(folder / "disc.png"))
    Image.fromarray(disc[..., :3]).save(folder / "opaque.png")
    Image.fromarray(disc[..., 3]).save(folder / "mask.png")
    Image.fromarray(disc[:32, :, 3]).save(folder / "half_mask.png")
    Image.fromarray(disc[..., 3] * 0).save(folder / "empty_mask.png")
    (folder / "torn.obj").write_text("v 0 0 0\nv 1 0 0\nf 1 2 3\n")
    (folder / "faceless.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")
    (folder / "torn.png").write_bytes((folder / "disc.png").read_bytes()[:100])
    instances = {
        "good": ({}, None),
        "masked": ({"image_uri": "opaque.png", "mask_uri": "mask.png"}, None),
        "no-mesh": ({"mesh_uri": "nowhere.obj"}, "missing_file"),
        "torn-mesh": ({"mesh_uri": "torn.obj"}, "mesh_broken"),
        "no-faces": ({"mesh_uri": "faceless.obj"}, "mesh_empty"),
        "no-image": ({"image_uri": "nowhere.png"}, "missing_file"),
        "torn-image": ({"image_uri": "torn.png"}, "image_broken"),
        "no-mask": ({"image_uri": "opaque.png"}, "mask_missing"),
        "empty-mask": ({"image_uri": "opaque.png", "mask_uri": "empty_mask.png"}, "mask_empty"),
        "other-size": ({"image_uri": "opaque.png", "mask_uri": "half_mask.png"}, "size_mismatch"),
        "nan-camera": ({"azimuth": "nan"}, "camera_invalid"),
    }
    usual = {"mesh_uri": "sphere.obj", "image_uri": "disc.png", "azimuth": 30, "elevation": 20, "distance": 1.2}
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        sheet = csv.DictWriter(file, (*COLUMNS, "mask_uri"))
        sheet.writeheader()
        for name, (columns, _) in instances.items():
            sheet.writerow(usual | columns | {"instance_id": name})
    return {name: kind for name, (_, kind) in instances.items()}


def result_rows(output: Path | Storage) -> list[dict]:
    """Every row of an output as the files have it, superseded ones included."""
    storage = output if isinstance(output, Storage) else Storage(str(output))
    rows = []
    for part in storage.list("results"):
        rows += pq.read_table(io.BytesIO(storage.read(part.path))).to_pylist()
    return rows
