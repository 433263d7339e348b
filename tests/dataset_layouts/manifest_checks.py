"""What the tests of every layout ask of a manifest."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from refine_batch.config import RefineConfig
from refine_batch.dataset.layouts.build import Built
from refine_batch.dataset.load import load_instance
from refine_batch.dataset.manifest import Manifest, ManifestRow
from refine_batch.instance import Instance
from refine_batch.io.storage import Storage, fetch
from refine_batch.mesh import Mesh
from refine_batch.refinement.prepare import prepare
from refine_batch.render import hard_silhouettes


def rows_of(built: Built, storage: Storage) -> list[dict[str, Any]]:
    """The manifest's rows as they stand in the file, every column included."""
    return pq.read_table(io.BytesIO(fetch(built.manifest, s3_endpoint=storage.s3_endpoint))).to_pylist()


def left_out(built: Built, storage: Storage) -> dict[str, str]:
    """Reason by name, from the list beside the manifest."""
    text = fetch(built.left_out_uri, s3_endpoint=storage.s3_endpoint).decode()
    return {row["name"]: row["reason"] for row in csv.DictReader(io.StringIO(text))}


def instances(built: Built, storage: Storage) -> list[Instance]:
    """What `run` would load of the manifest."""
    return [
        load_instance(ManifestRow.from_batch(batch, i), s3_endpoint=storage.s3_endpoint)
        for batch in Manifest.open(built.manifest, storage.s3_endpoint).batches()
        for i in range(batch.num_rows)
    ]


def silhouette_iou(instance: Instance, mesh: Mesh | None = None) -> float:
    """IoU of the rendered mesh and the mask that the instance came with, at the working size."""
    prepared = prepare(instance, RefineConfig())
    subject, working = prepared.subject, prepared.working
    shown = subject.mesh if mesh is None else Mesh(working.placed(mesh.vertices), mesh.faces)
    rendered = hard_silhouettes(shown, [subject.camera], len(subject.mask))[0]
    return float(np.sum(rendered & subject.mask) / np.sum(rendered | subject.mask))
