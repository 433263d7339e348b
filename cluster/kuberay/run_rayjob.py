"""Create a RayJob and wait for its end; exit 0 where it succeeded, 1 where it failed, 2 where it could not be created.

    python run_rayjob.py RAYJOB.yaml

Runs in a pod of the CronJob in nightly-cronjob.yaml, with the pod's service account. The RayJob takes the name of the
CronJob's Job (JOB_NAME), so that a pod that replaces an evicted one waits for the same RayJob instead of making a
second, and belongs to it (JOB_UID), so that it is removed with it.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
POLL = 15.0
# Seconds for which the API server may be away, as it is while a control plane is upgraded.
PATIENCE = 1800.0


class RefusedError(Exception):
    """The API server does not accept the request."""


class Api:
    """The RayJobs of one namespace."""

    def __init__(self, server: str, namespace: str, account: Path = ACCOUNT):
        self._rayjobs = f"{server}/apis/ray.io/v1/namespaces/{namespace}/rayjobs"
        self._account = account
        self._context = (
            ssl.create_default_context(cafile=str(account / "ca.crt")) if server.startswith("https") else None
        )

    def create(self, rayjob: dict[str, Any]) -> bool:
        """False where there is one of that name already. Raises RefusedError."""
        try:
            self._ask(self._rayjobs, rayjob)
        except urllib.error.HTTPError as error:
            if error.code == 409:
                return False
            if error.code < 500 and error.code != 429:
                raise RefusedError(f"{error.code}: {error.read().decode(errors='replace')[:1000]}") from error
            raise
        return True

    def status(self, name: str) -> dict[str, Any]:
        """Raises RefusedError where there is no such RayJob (any more)."""
        try:
            return self._ask(f"{self._rayjobs}/{name}").get("status") or {}
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise RefusedError(f"the RayJob {name} was deleted") from error
            raise

    def _ask(self, url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        # The token is read anew each time: the kubelet replaces it before it expires.
        headers = {"Authorization": f"Bearer {(self._account / 'token').read_text().strip()}"}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(url, data, headers)
        with urllib.request.urlopen(request, timeout=30, context=self._context) as answer:
            return json.load(answer)


def named(rayjob: dict[str, Any], name: str, uid: str) -> dict[str, Any]:
    """The RayJob under its Job's name, and as its Job's property."""
    metadata = rayjob.get("metadata", {}) | {"name": name}
    metadata.pop("generateName", None)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid}
    return rayjob | {"metadata": metadata | {"ownerReferences": [owner]}}


def patiently(call, *arguments):
    """The call's answer, as soon as the API server gives one."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return call(*arguments)
        except OSError as error:  # HTTP errors and lost connections alike
            if time.monotonic() > deadline:
                raise
            print(f"the API server did not answer: {error}", flush=True)
            time.sleep(POLL)


def verdict(status: dict[str, Any]) -> int | None:
    """The exit status for a RayJob's status; None while it goes on."""
    if status.get("jobDeploymentStatus") == "Complete":
        # A job that somebody stopped is complete as well.
        return 0 if status.get("jobStatus") == "SUCCEEDED" else 1
    return 1 if status.get("jobDeploymentStatus") in ("Failed", "ValidationFailed") else None


def wait(api: Api, name: str) -> int:
    """Follow the RayJob to its end, telling each change of its status."""
    told = ""
    while True:
        status = patiently(api.status, name)
        parts = [status.get(key) for key in ("jobDeploymentStatus", "jobStatus", "reason", "message")]
        line = ", ".join(part for part in parts if part) or "accepted"
        if line != told:
            print(f"{name}: {line}", flush=True)
            told = line
        exit_status = verdict(status)
        if exit_status is not None:
            return exit_status
        time.sleep(POLL)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    environment = os.environ
    server = environment.get("KUBERNETES_API") or "https://{}:{}".format(
        environment.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc"),
        environment.get("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
    )
    account = Path(environment.get("SERVICE_ACCOUNT", ACCOUNT))
    name = environment["JOB_NAME"]
    api = Api(server, environment["NAMESPACE"], account)
    rayjob = named(yaml.safe_load(Path(arguments[0]).read_text(encoding="utf-8")), name, environment["JOB_UID"])
    try:
        made = patiently(api.create, rayjob)
        print(f"{name}: {'created' if made else 'is there already'}", flush=True)
    except RefusedError as error:
        print(f"the RayJob was refused: {error}", file=sys.stderr)
        return 2
    try:
        return wait(api, name)
    except RefusedError as error:
        print(str(error), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
