"""The Dockerfile, as far as it can be checked without building it, and the kernels that it compiles."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from cluster_files import CLUSTER, ROOT

DOCKERFILE = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n\s*", " ", DOCKERFILE).splitlines()
    if line.strip() and not line.startswith("#")
]


def test_everything_that_is_copied_exists():
    copied = [words.split()[1:-1] for name, words in INSTRUCTIONS if name == "COPY"]
    assert copied
    for source in (path for paths in copied for path in paths):
        assert (ROOT / source).exists(), source


def test_both_environments_come_from_the_lock_file_and_end_in_one_image():
    stages = [words for name, words in INSTRUCTIONS if name == "FROM"]
    assert stages == ["${RAY_IMAGE} AS locked", "${RAY_IMAGE} AS with-pytorch3d", "${ENVIRONMENT}"]
    assert "ARG ENVIRONMENT=locked" in DOCKERFILE
    locked, other = (part for part in DOCKERFILE.split("FROM ")[1:3])
    assert "--requirement /home/ray/requirements.lock" in locked
    assert "/home/ray/requirements.lock" in other


def test_it_runs_as_nobody_special():
    assert [words for name, words in INSTRUCTIONS if name == "USER"][-1] == "ray"


def test_kernels_are_compiled_in_the_image_after_the_code_is_there():
    runs = [words for name, words in INSTRUCTIONS]
    compiled = next(i for i, words in enumerate(runs) if "compile_kernels.py $" in words)
    copied = next(i for i, words in enumerate(runs) if "refine_batch refine_batch" in words)
    assert copied < compiled


# One triangle that covers the image, drawn by a compiled kernel.
USE = """
import torch
from refine_batch.mesh.edges import Edges
from refine_batch.render.warp_coverage import half_covered

points = torch.tensor([[[-9.0, -9.0, 1.0], [9.0, -9.0, 1.0], [0.0, 9.0, 1.0]]])
one = torch.ones(1, dtype=torch.int32)
faces = torch.tensor([[[0, 1, 2]]], dtype=torch.int32)
assert half_covered(points, faces, one, Edges.apart(faces), one - 1, 8).sum() > 0
"""


@pytest.mark.slow
def test_compiled_kernels_are_found_by_those_who_need_them(tmp_path):
    environment = os.environ | {"WARP_CACHE_PATH": str(tmp_path), "PYTHONPATH": str(ROOT)}

    def run(*arguments):
        subprocess.run([sys.executable, *arguments], env=environment, check=True, cwd=ROOT, capture_output=True)
        return {file.relative_to(tmp_path): file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}

    made = run("cluster/compile_kernels.py", "90")
    names = [path.name for path in made]
    for kernel in ("warp_silhouette", "warp_rasterise", "nearest", "points", "iou_3d", "warp_coverage"):
        assert any(f"{kernel}_" in name and name.endswith(".sm90.cubin") for name in names), kernel
    # Using one adds nothing to the cache and replaces nothing in it.
    assert run("-c", USE) == made
