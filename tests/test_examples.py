"""The examples do what they say."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import trimesh

from refine_batch.dataset.synth import write_dataset

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_refine_one(tmp_path):
    manifest = Path(write_dataset(str(tmp_path), 8, seed=0))
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    row = min(rows, key=lambda row: (tmp_path / row["mesh_uri"]).stat().st_size)
    camera = [row[name] for name in ("azimuth", "elevation", "distance")]
    files = [tmp_path / row["mesh_uri"], tmp_path / row["image_uri"]]
    command = [sys.executable, EXAMPLES / "refine_one.py", *files, *camera, tmp_path / "refined.obj"]
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    status, before, after = re.fullmatch(r"(\w+): 2D IoU (\d\.\d+) → (\d\.\d+)\n", done.stdout).groups()
    assert status in ("refined", "kept")
    assert float(after) >= float(before)
    coarse, refined = (trimesh.load(path, process=False) for path in (files[0], tmp_path / "refined.obj"))
    assert np.array_equal(coarse.faces, refined.faces)
    assert np.isfinite(refined.vertices).all()
    asked = subprocess.run(command[:2], capture_output=True, text=True, check=False, env=environment)
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "python examples/refine_one.py coarse.obj image.png" in asked.stderr
    assert "Traceback" not in asked.stderr
