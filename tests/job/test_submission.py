"""`ray start --head`, then `ray job submit`, as on a cluster."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from tiny_dataset import result_rows, write_manifest

ROOT = Path(__file__).parents[2]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def head():
    """A private head node started by Ray's own command, kept in the foreground; the URL that takes jobs."""
    port, dashboard = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="rb-", ignore_cleanup_errors=True) as folder:
        command = [*RAY, "start", "--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}"]
        command += ["--dashboard-host=127.0.0.1", "--num-cpus=2", f"--temp-dir={folder}", "--disable-usage-stats"]
        command += [
            f"--object-store-memory={100 << 20}",
            f"--ray-client-server-port={free_port()}",
            "--include-dashboard=true",
        ]
        environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
        environment.pop("RAY_ADDRESS", None)
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            yield f"http://127.0.0.1:{dashboard}"
        finally:
            process.terminate()
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


@pytest.mark.slow
def test_a_submitted_job_refines_is_stopped_and_goes_on(tmp_path, head):
    from ray.job_submission import JobStatus, JobSubmissionClient

    ids = [f"i{number:02}" for number in range(12)]
    manifest, output = write_manifest(tmp_path, ids), tmp_path / "out"
    client = connected(JobSubmissionClient, head)
    stubs = str(ROOT / "tests")

    def submit(method):
        return client.submit_job(
            entrypoint=f"{sys.executable} jobs/refine.py {manifest} {output} --method stub_methods:{method} "
            "--image-size 32 --figure-samples 100 --actors 2 --batch-size 2 --progress-interval 1",
            runtime_env={
                "working_dir": str(ROOT),
                "excludes": [".git", ".venv", "tests", "docs", "demo"],
                "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "20", "PYTHONPATH": stubs},
            },
        )

    def ended(job):
        deadline = time.monotonic() + 120
        while not (status := client.get_job_status(job)).is_terminal():
            assert time.monotonic() < deadline, client.get_job_logs(job)
            time.sleep(0.3)
        return status

    stopped = submit("slow")
    deadline = time.monotonic() + 90
    while not (output / "results").exists() or not result_rows(output):
        assert time.monotonic() < deadline, client.get_job_logs(stopped)
        time.sleep(0.2)
    client.stop_job(stopped)
    assert ended(stopped) == JobStatus.STOPPED
    [record] = [json.loads(path.read_text()) for path in (output / "runs").glob("*.json")]
    assert record["outcome"] == "stopped"
    assert 0 < len(result_rows(output)) < len(ids)

    finished = submit("slow")
    assert ended(finished) == JobStatus.SUCCEEDED, client.get_job_logs(finished)
    assert sorted(row["instance_id"] for row in result_rows(output)) == ids
    assert "12/12 rows" in client.get_job_logs(finished)

    idle = submit("slow")
    assert ended(idle) == JobStatus.SUCCEEDED
    assert "Nothing to do" in client.get_job_logs(idle)


def connected(client_class, address):
    """A client as soon as the head's job server answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return client_class(address)
        except Exception:
            assert time.monotonic() < deadline, "the head's job server does not answer"
            time.sleep(0.5)
