"""The README's commands as a newcomer types them: one after the other, in a shell, on a real Ray."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
import trimesh
from tiny_dataset import result_rows, write_manifest

from refine_batch.dataset.manifest import Manifest
from refine_batch.io.storage import Storage
from refine_batch.results.schema import RESULT_SCHEMA

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# A private Ray, so that none that is running here is used.
PRIVATE = "--address local"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def lines(beginning: str) -> str:
    """The block of commands that begins with this, without its comments."""
    [block] = [b for b in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if b.startswith(beginning)]
    return re.sub(r" +#.*", "", block)


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a shell makes of the script; it ends at the first command that fails."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": programs, "OMP_NUM_THREADS": "1"}
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_from_a_dataset_to_its_report_and_meshes(tmp_path, ray_folder):
    script = lines("refine-batch synth")
    [run] = re.findall(r"^refine-batch run .*$", script, re.MULTILINE)
    shown = shell(script.replace(run, f"{run} {PRIVATE}"), tmp_path).stdout
    assert "all 8 rows can be refined" in shown
    rows = result_rows(tmp_path / "output")
    assert len(rows) == 8
    assert {row["status"] for row in rows} <= {"refined", "kept"}
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count('<article class="card"') == 8
    meshes = sorted((tmp_path / "meshes").glob("*.obj"))
    assert len(meshes) == 8
    assert sum(len(trimesh.load(path, process=False).faces) for path in meshes) == sum(len(r["faces"]) for r in rows)
    assert "Nothing to do" in shell(f"{run} {PRIVATE}", tmp_path).stdout
    assert len(result_rows(tmp_path / "output")) == 8

    [query] = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)
    found = duckdb.sql(query.replace("output/results", f"{tmp_path}/output/results")).fetchall()
    assert sum(instances for _, instances, *_ in found) == 8
    assert all(before <= after for _, _, before, after in found)


def test_the_two_commands_it_begins_with(tmp_path, ray_folder):
    write_manifest(tmp_path, ["a"])
    for folder, name, stem in (("images", "disc.png", "chair.png"), ("meshes", "sphere.obj", "chair.obj")):
        (tmp_path / folder).mkdir()
        (tmp_path / name).rename(tmp_path / folder / stem)
    script = lines("refine-batch manifest images")
    [run] = re.findall(r"^refine-batch run .*$", script, re.MULTILINE)
    shell(script.replace(run, f"{run} --address local --image-size 64 --steps 20"), tmp_path)
    [row] = result_rows(tmp_path / "output")
    assert (row["instance_id"], row["camera_source"]) == ("chair", "estimated")
    assert row["status"] in ("refined", "kept")


def test_manifest_inputs_and_output_on_s3(tmp_path, ray_folder, importable_stubs, s3_folder):
    folder = s3_folder.uri.rpartition("/")[0]
    bucket = Storage(folder, s3_folder.s3_endpoint)
    local = write_manifest(tmp_path, ["a", "b"])
    for name in ("sphere.obj", "disc.png", "manifest.csv"):
        bucket.write(name, (tmp_path / name).read_bytes())
    [run] = re.findall(r"^refine-batch run s3://.*$", README, re.MULTILINE)
    run = run.replace("manifest.parquet", local.name).replace("s3://bucket", folder)
    run = re.sub(r"http://\S+", s3_folder.s3_endpoint, run)
    shell(f"{run} --address local --method stub_methods:swell --image-size 32 --figure-samples 100", tmp_path)
    rows = result_rows(Storage(f"{folder}/refined", s3_folder.s3_endpoint))
    assert [(row["instance_id"], row["status"]) for row in sorted(rows, key=lambda row: row["instance_id"])] == [
        ("a", "refined"),
        ("b", "refined"),
    ]
    assert rows[0]["mesh_uri"] == f"{folder}/sphere.obj"


def test_make_demo(tmp_path, ray_folder):
    """With the environment that runs this test, as it stands."""
    demo = tmp_path / "demo"
    made = shell(f"make -o '{sys.prefix}/.installed' demo 'VENV={sys.prefix}' 'DEMO={demo}'", ROOT)
    rows = result_rows(demo / "output")
    assert len(rows) == 8
    assert set(rows[0]) == set(RESULT_SCHEMA.names)
    after, before = (sum(row[f"iou_2d_{when}"] for row in rows) / 8 for when in ("after", "before"))
    assert after > before + 0.05, "its purpose"
    assert (demo / "report.html").stat().st_size < 15e6
    assert f"in any browser: {demo}/report.html" in made.stdout
    assert Manifest.open(str(demo / "dataset" / "manifest.csv")).check_ids() == 8
