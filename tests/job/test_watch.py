"""A cluster that is lost is noticed before Ray gives up, and the last line is ours."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_dataset import write_manifest

from refine_batch.job import watch
from refine_batch.job.watch import ClusterLostError, Watch

ROOT = Path(__file__).parents[2]


def test_a_head_that_stays_silent_is_lost_and_one_that_comes_back_is_not(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setenv(watch.RAYS_SETTING, "100")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    watched = Watch(False, f"127.0.0.1:{port}")

    def check_after(seconds: float) -> None:
        now[0] += seconds
        watched.check()

    check_after(0)
    listener.close()
    for _ in range(3):
        check_after(30)
    with socket.create_server(("127.0.0.1", port)):
        check_after(30)
    check_after(30)
    check_after(74)
    with pytest.raises(ClusterLostError, match=rf"127.0.0.1:{port} was lost.*the same command goes on from here"):
        check_after(2)


def test_errors_are_told_from_losses():
    import ray

    with socket.create_server(("127.0.0.1", 0)) as listener:
        living = Watch(False, f"127.0.0.1:{listener.getsockname()[1]}")
        assert living.explain(ValueError("odd")) is None
        assert living.explain(ray.exceptions.RayError("odd")) is None


@pytest.mark.slow
@pytest.mark.parametrize("daemon", ["gcs_server", "raylet"])
def test_a_run_that_loses_its_own_ray_says_so_last(tmp_path, daemon):
    folder = tempfile.mkdtemp(prefix="rb-")
    manifest = write_manifest(tmp_path, [f"i{number:03}" for number in range(500)])
    line = [sys.executable, str(ROOT / "jobs" / "refine.py"), str(manifest), str(tmp_path / "out")]
    line += ["--method", "stub_methods:slow", "--image-size", "32", "--address", "local", "--batch-size", "2"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_TMPDIR": folder, "PYTHONPATH": paths, "HOME": str(tmp_path)}
    run = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        while not list((tmp_path / "out" / "results").glob("*.parquet")):
            assert run.poll() is None
            time.sleep(0.2)
        [pid] = [
            pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if watch._name(pid, run.pid) == daemon
        ]
        os.kill(pid, signal.SIGKILL)
        text = run.communicate(timeout=200)[0]
    finally:
        run.kill()
        shutil.rmtree(folder, ignore_errors=True)
    last = text.splitlines()[-1]
    assert run.returncode == 1, text
    assert last == f"This machine's own Ray was lost: its process {daemon} ended; the same command goes on from here."
