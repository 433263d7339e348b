"""A head node started by Ray's own command, as on a cluster, on ports of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

RAY = [sys.executable, "-m", "ray.scripts.scripts"]
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    # A busy machine may need longer than Ray grants a node and its dashboard to start, and to answer.
    "RAY_health_check_timeout_ms": "60000",
    "RAY_health_check_failure_threshold": "20",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
}


@dataclass(frozen=True)
class Head:
    """`address` is for drivers, `jobs` takes submitted jobs, `metrics` is what Prometheus would scrape."""

    address: str
    jobs: str
    metrics: str


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@contextmanager
def ray_head(
    *options: str, cpus: int = 2, system_config: dict[str, Any] | None = None, **environment: str
) -> Iterator[Head]:
    """Kept in the foreground, so that ending this process ends all of Ray's."""
    gcs, dashboard, agent, metrics, client = free_ports(5)
    with tempfile.TemporaryDirectory(prefix="rb-", ignore_cleanup_errors=True) as folder:
        command = [*RAY, "start", "--head", "--block", f"--port={gcs}", f"--num-cpus={cpus}", f"--temp-dir={folder}"]
        command += ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
        command += [f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}"]
        command += [f"--ray-client-server-port={client}", f"--object-store-memory={100 << 20}", "--disable-usage-stats"]
        if system_config:
            command.append(f"--system-config={json.dumps(system_config)}")
        settings = os.environ | ENVIRONMENT | environment
        settings.pop("RAY_ADDRESS", None)
        with open(os.path.join(folder, "start.log"), "w+") as log:
            process = subprocess.Popen([*command, *options], env=settings, stdout=log, stderr=subprocess.STDOUT)
            try:
                wait_for(dashboard, process, log)
                host = "127.0.0.1"
                yield Head(f"{host}:{gcs}", f"http://{host}:{dashboard}", f"http://{host}:{metrics}/metrics")
            finally:
                process.terminate()
                try:
                    process.wait(120)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def wait_for(port: int, process: subprocess.Popen, log) -> None:
    deadline = time.monotonic() + 400
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                raise RuntimeError(f"ray start did not come up: {log.read()[-3000:]}") from None
            time.sleep(0.5)
