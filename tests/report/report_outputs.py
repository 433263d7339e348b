"""Outputs for the report's tests: a small synthetic dataset and rows as a run would have written them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
from result_rows import START, put, result

from refine_batch.config import RefineConfig
from refine_batch.dataset.manifest import Manifest
from refine_batch.dataset.row import ManifestRow
from refine_batch.dataset.synth import write_dataset
from refine_batch.io.meshes import parse_mesh
from refine_batch.io.storage import Storage, fetch
from refine_batch.results.run_record import RunRecord

# Everything that could end a tag, an attribute, a script, a style or a template.
MARKUP = '</script></style><img src=x onerror="window.broken=1"> \'&amp;\u2028\u202e {{ 7*7 }} ${window.broken=1}'
RUN = "20260131T120000Z-abcdef"


def write_output(folder: Path, count: int = 4) -> Storage:
    """Rows of every status about `count` synthetic instances, one of them with an id made of markup."""
    data = folder / "data"
    manifest = Manifest.open(str(write_dataset(str(data), count, seed=1)))
    rows = [ManifestRow.from_batch(batch, i) for batch in manifest.batches() for i in range(batch.num_rows)]
    written = [_row(row, at, "refined") for at, row in enumerate(rows[:-1])]
    written.append(_row(rows[-1], count, "kept", kept_reason="the silhouette agrees less: 2D IoU 0.9 → 0.8"))
    written.append(_row(rows[0], count + 1, "refined", instance_id=MARKUP, category=MARKUP))
    written.append(
        _row(rows[1], count + 2, "failed", instance_id="lost", error_kind="missing_file", error_message=f"no {MARKUP}")
        | {"mesh_uri": str(data / "nothing.obj")}
    )
    output = Storage(str(folder / "output"))
    put(output, written)
    RunRecord(
        run_id=RUN,
        manifest=manifest.uri,
        output=output.uri,
        config=RefineConfig(method="large-steps", seed=7).model_dump(mode="json"),
        versions={"python": "3.11", MARKUP: MARKUP},
        host=MARKUP,
        started_at=START,
        ended_at=START + timedelta(minutes=3),
        outcome="finished",
        rows=count + 2,
        counts={"refined": count, "kept": 1, "failed": 1},
        message=MARKUP,
    ).write(output)
    return output


def _row(row: ManifestRow, at: int, status: str, **values: object) -> dict:
    camera = {name: getattr(row, name) for name in ("azimuth", "elevation", "distance")}
    uris = {name: getattr(row, name) for name in ("mesh_uri", "image_uri", "ground_truth_uri")}
    found: dict[str, object] = {"category": row.category, "camera_source": "given"} | camera | uris
    if status != "failed":
        mesh = parse_mesh(fetch(row.mesh_uri or ""), row.mesh_uri or "")
        gain = 0.0 if status == "kept" else 0.03 * (at + 1)
        found |= {
            "vertices": mesh.vertices * np.float32(0.95),
            "faces": mesh.faces,
            "loss_curve": np.geomspace(1.0, 0.01, 160, dtype=np.float32),
            "steps": 160,
            "seconds": 2.5,
            "iou_2d_before": 0.7,
            "iou_2d_after": 0.7 + gain,
            "chamfer_l2_before": 10.0,
            "chamfer_l2_after": 10.0 - 40 * gain,
        }
    return result(row.instance_id, at, run_id=RUN, status=status) | found | values
