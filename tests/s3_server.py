"""S3 servers for tests: rclone's, which keeps objects in a real folder, and moto's, which honours conditional puts."""

from __future__ import annotations

import functools
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import fsspec

ACCESS_KEY = "refinetestkey"
SECRET_KEY = "refinetestsecret"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def program(name: str) -> str:
    """A program installed beside this interpreter, else one on the path."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed; the dev extra brings it")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class S3Server:
    """A running server; `endpoint` is its URL. Objects go in over S3 only."""

    process: subprocess.Popen
    endpoint: str

    def make_bucket(self, name: str) -> str:
        """`s3://name`, made."""
        self._filesystem.mkdir(name)
        return f"s3://{name}"

    @functools.cached_property
    def _filesystem(self) -> fsspec.AbstractFileSystem:
        options = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
        return fsspec.filesystem(
            "s3",
            endpoint_url=self.endpoint,
            key=ACCESS_KEY,
            secret=SECRET_KEY,
            use_listings_cache=False,
            config_kwargs=options,
            skip_instance_cache=True,
        )

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


def start_rclone(folder: Path, port: int | None = None) -> S3Server:
    """`rclone serve s3` over a folder; a port given starts one where an earlier one stopped."""
    port = port or free_port()
    return _start(
        [
            *(program("rclone"), "serve", "s3", "--config", "", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"),
            *("--addr", f"127.0.0.1:{port}", str(folder)),
        ],
        port,
    )


def start_moto(port: int | None = None) -> S3Server:
    port = port or free_port()
    return _start([program("moto_server"), "-H", "127.0.0.1", "-p", str(port)], port)


def _start(command: list[str], port: int) -> S3Server:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{command[0]} ended with status {process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return S3Server(process, f"http://127.0.0.1:{port}")
        except OSError:
            time.sleep(0.05)
    process.kill()
    process.wait()
    raise RuntimeError(f"{command[0]} did not listen within a minute")
