"""The pod that creates a RayJob and waits for it, against an API server that plays out its life."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from cluster_files import KUBERAY

SCRIPT = KUBERAY / "run_rayjob.py"


class ApiServer:
    """Answers with each of `statuses` in turn (the last for ever); an int in their place is an HTTP error."""

    def __init__(self, statuses, create=201):
        self.statuses, self.create = list(statuses), create
        self.created, self.asked = [], []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.created.append((self.path, self.headers["Authorization"], body))
                code = server.create.pop(0) if isinstance(server.create, list) else server.create
                self.answer(code, body if code == 201 else {"message": "no such field"})

            def do_GET(self):
                server.asked.append(self.path)
                status = server.statuses[0] if len(server.statuses) == 1 else server.statuses.pop(0)
                if isinstance(status, int):
                    self.answer(status, {})
                else:
                    self.answer(200, {"status": status})

            def answer(self, code, body):
                data = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


@pytest.fixture
def run(tmp_path):
    (tmp_path / "token").write_text("the-token\n")
    servers = []

    def run(statuses, create=201):
        server = ApiServer(statuses, create)
        servers.append(server)
        environment = os.environ | {
            "KUBERNETES_API": server.url,
            "SERVICE_ACCOUNT": str(tmp_path),
            "NAMESPACE": "nights",
            "JOB_NAME": "refine-batch-nightly-29391840",
            "JOB_UID": "0b5f",
        }
        # The poll of a test need not wait for a quarter of a minute.
        code = f"""
import runpy, sys, time
time.sleep = lambda seconds: None
sys.argv = sys.argv[1:]
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""
        done = subprocess.run(
            [sys.executable, "-c", code, "run_rayjob.py", str(KUBERAY / "nightly-rayjob.yaml")],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done, server

    yield run
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


RUNNING = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
SUCCEEDED = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}


def test_a_run_that_succeeds(run):
    done, server = run([{}, {"jobDeploymentStatus": "Initializing"}, RUNNING, RUNNING, SUCCEEDED])
    assert done.returncode == 0, done.stderr
    [(path, authorization, created)] = server.created
    assert path == "/apis/ray.io/v1/namespaces/nights/rayjobs"
    assert authorization == "Bearer the-token"
    template = yaml.safe_load((KUBERAY / "nightly-rayjob.yaml").read_text(encoding="utf-8"))
    assert created["spec"] == template["spec"]
    assert created["metadata"]["name"] == "refine-batch-nightly-29391840"
    [owner] = created["metadata"]["ownerReferences"]
    assert owner == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": "refine-batch-nightly-29391840",
        "uid": "0b5f",
    }
    assert set(server.asked) == {path + "/refine-batch-nightly-29391840"}
    # Each state once, however often it was asked.
    assert [line.split(": ")[1] for line in done.stdout.splitlines()] == [
        *("created", "accepted", "Initializing", "Running, RUNNING", "Complete, SUCCEEDED"),
    ]


@pytest.mark.parametrize(
    "end",
    [
        {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed", "message": "exit code 1"},
        {"jobDeploymentStatus": "Failed", "reason": "PreRunningDeadlineExceeded"},
        {"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"},
        {"jobDeploymentStatus": "ValidationFailed", "reason": "ValidationFailed"},
    ],
    ids=lambda end: end.get("reason") or end["jobStatus"],
)
def test_a_run_that_does_not_succeed(run, end):
    done, _ = run([RUNNING, end])
    assert done.returncode == 1
    assert (end.get("reason") or end["jobStatus"]) in done.stdout


def test_a_retry_is_waited_for(run):
    done, _ = run([RUNNING, {"jobDeploymentStatus": "Retrying", "jobStatus": ""}, RUNNING, SUCCEEDED])
    assert done.returncode == 0


def test_a_pod_that_replaces_another_waits_for_the_same_rayjob(run):
    done, server = run([RUNNING, SUCCEEDED], create=409)
    assert done.returncode == 0
    assert "is there already" in done.stdout
    assert len(server.created) == 1


def test_an_api_server_that_is_away_for_a_while_is_no_failure(run):
    done, server = run([503, RUNNING, 500, SUCCEEDED], create=[503, 429, 201])
    assert done.returncode == 0, done.stderr
    assert len(server.created) == 3


def test_a_rayjob_that_is_refused_says_why(run):
    done, _ = run([RUNNING], create=422)
    assert done.returncode == 2
    assert "no such field" in done.stderr


def test_a_rayjob_that_somebody_deletes_ends_the_wait(run):
    done, _ = run([RUNNING, 404])
    assert done.returncode == 1
    assert "was deleted" in done.stderr
