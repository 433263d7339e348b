"""Manifests of spheres a few dozen vertices large."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import trimesh
from PIL import Image

COLUMNS = ("instance_id", "mesh_uri", "image_uri", "azimuth", "elevation", "distance", "category")


def write_manifest(folder: Path, ids: Iterable[str], **overrides: str) -> Path:
    """A CSV manifest whose instances all share one mesh and one image."""
    folder.mkdir(parents=True, exist_ok=True)
    mesh, image = folder / "sphere.obj", folder / "disc.png"
    if not mesh.exists():
        trimesh.creation.icosphere(subdivisions=1, radius=0.3).export(mesh)
        grid = np.linspace(-1, 1, 64)
        disc = (grid[:, None] ** 2 + grid[None] ** 2 < 0.3).astype(np.uint8) * 255
        Image.fromarray(np.dstack([disc] * 4)).save(image)
    path = folder / "manifest.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        sheet = csv.DictWriter(file, COLUMNS)
        sheet.writeheader()
        for one in ids:
            row = {"mesh_uri": mesh.name, "image_uri": image.name, "azimuth": 30, "elevation": 20, "distance": 1.2}
            sheet.writerow(row | {"instance_id": one, "category": one.partition("-")[0]} | overrides)
    return path


def result_rows(output: Path) -> list[dict]:
    """Every row of an output as the files have it, superseded ones included."""
    rows = []
    for part in sorted((output / "results").glob("*.parquet")):
        rows += pq.read_table(part).to_pylist()
    return rows
