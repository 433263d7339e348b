"""The Ray cluster under a run: attaching to it or starting one, what it has, and how many actors fit."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from refine_batch.errors import UsageError
from refine_batch.io.storage import redact
from refine_batch.job.options import RunOptions

# Answers carry figures only, so a local cluster needs little more than Ray's smallest object store.
OBJECT_STORE_BYTES = 128 << 20
# Seconds: a head that has just been started may not listen yet.
ANSWERS_WITHIN = 10.0
# To be set before Ray is imported.
QUIET = {
    # Ray prints what it says about dead workers on standard output, whatever `log_to_driver` is; the driver says it.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Actors without a GPU are told their device; Ray's announcement of a changed default is not the user's concern.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A call that comes too late must not connect to whatever cluster there is.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # Under `uv run` Ray would rebuild the environment in every worker.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


@dataclass(frozen=True)
class Request:
    """What one actor asks for; `memory` in bytes."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int | None = None

    def slots(self, nodes: Iterable[Mapping[str, float]]) -> int:
        """How many actors fit on nodes of these resources, whatever else runs there."""
        return sum(self._slots_of(node) for node in nodes)

    def _slots_of(self, node: Mapping[str, float]) -> int:
        asked = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory or 0}
        # Fractions such as 0.1 do not add up exactly in binary: 10 of them fit on one.
        return min(math.floor(node.get(name, 0.0) / amount + 1e-6) for name, amount in asked.items() if amount > 0)

    def ray_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        return options | {"memory": self.memory} if self.memory else options

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} CPU"]
        if self.gpus:
            parts.append(f"{self.gpus:g} GPU")
        if self.memory:
            parts.append(f"{self.memory / 1e9:g} GB of memory")
        return " and ".join(parts) if len(parts) < 3 else f"{parts[0]}, {parts[1]} and {parts[2]}"


@dataclass(frozen=True)
class Cluster:
    """A connection to Ray, made by `connect`.

    Parameters
    ----------
    own
        Whether the cluster was started for this run.
    borrowed
        Whether the process was connected before and stays so.
    """

    own: bool
    borrowed: bool = False

    def nodes(self) -> dict[str, dict[str, float]]:
        """Resources of every living node, by node id."""
        import ray

        return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}

    def draining(self) -> frozenset[str]:
        """Ids of nodes that have been told to go (a preemption notice, a scale-down) and still run."""
        import ray
        from ray._private.state import state

        try:
            return frozenset(state.get_draining_nodes())
        except (AttributeError, ray.exceptions.RayError):
            return frozenset()  # Ray has no public name for it: without it, such nodes are used to their end

    def summary(self) -> dict[str, Any]:
        """Totals for the run record."""
        nodes = self.nodes()
        total = {name: sum(node.get(name, 0.0) for node in nodes.values()) for name in ("CPU", "GPU", "memory")}
        return {"nodes": len(nodes), "local": self.own, **total}

    def request(self, options: RunOptions) -> Request:
        """What each actor asks for on this cluster.

        Raises
        ------
        UsageError
            This machine's own cluster can never give it.
        """
        nodes = self.nodes()
        gpus = options.gpus_per_actor
        if gpus is None:
            gpus = 1.0 if any(node.get("GPU", 0.0) >= 1.0 for node in nodes.values()) else 0.0
        memory = int(options.memory_per_actor * 1e9) if options.memory_per_actor else None
        request = Request(options.cpus_per_actor, gpus, memory)
        if self.own and request.slots(nodes.values()) == 0:
            raise UsageError(f"no actor fits on this machine: each asks for {request}, and it has {describe(nodes)}")
        return request

    def close(self) -> None:
        """Leave the cluster, and end it where it was started for this run."""
        import ray

        if not self.borrowed:
            ray.shutdown()


def describe(nodes: Mapping[str, Mapping[str, float]]) -> str:
    """`8 CPU, 2 GPU and 64 GB of memory on 2 nodes`."""
    if not nodes:
        return "no nodes"
    cpus, gpus, memory = (sum(node.get(name, 0.0) for node in nodes.values()) for name in ("CPU", "GPU", "memory"))
    where = f" on {len(nodes)} nodes" if len(nodes) > 1 else ""
    return f"{cpus:g} CPU, {gpus:g} GPU and {memory / 1e9:.0f} GB of memory{where}"


def _require_listener(address: str) -> None:
    """Raise UsageError where nothing listens at HOST:PORT: Ray itself tries for many minutes, and fills the log."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()) or "/" in host:
        return
    deadline = time.monotonic() + ANSWERS_WITHIN
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS_WITHIN).close()
            return
        except (OSError, OverflowError) as error:
            if time.monotonic() > deadline:
                reason = getattr(error, "strerror", None) or error
                raise UsageError(
                    f"--address {redact(address)}: nothing answers there ({reason}); it is the HOST:PORT that "
                    "`ray start --head` prints, mostly of port 6379"
                ) from error
        time.sleep(0.5)


def connect(address: str | None) -> Cluster:
    """Attach to the cluster at `address` (`auto`, HOST:PORT), or start a private one (`local`).

    None attaches to the running cluster, if there is one, and else starts a private one. A process that is connected
    already stays with its cluster.

    Raises
    ------
    UsageError
        There is no cluster at `address`.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return Cluster(own=False, borrowed=True)
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    wanted = address or os.environ.get("RAY_ADDRESS") or None
    if wanted and wanted.startswith("ray://"):
        raise UsageError(
            f"--address {redact(wanted)}: a run cannot be driven through Ray's client; submit it with "
            "`ray job submit -- python jobs/refine.py`, or give the cluster's own HOST:PORT"
        )
    if wanted != "local":
        _require_listener(wanted or "")
        try:
            ray.init(address=wanted or "auto", **settings)
            return Cluster(own=False)
        except ray.exceptions.AuthenticationError as error:
            raise UsageError(
                f"--address {redact(wanted or 'auto')}: RAY_AUTH_MODE is token, but there is no token: set "
                "RAY_AUTH_TOKEN to the cluster's, or RAY_AUTH_TOKEN_PATH to a file that holds it"
            ) from error
        except (ConnectionError, ValueError, RuntimeError) as error:
            if wanted:
                reason = redact(" ".join(str(error).split())[:300])
                raise UsageError(
                    f"--address {redact(wanted)}: no Ray cluster answers there, or it asks for another token "
                    f"(RAY_AUTH_MODE, RAY_AUTH_TOKEN): {reason}"
                ) from error
    ray.init(
        address="local",
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        # A machine that stands still for a minute is no reason to give its only node up for lost.
        _system_config={"health_check_failure_threshold": 60},
        **settings,
    )
    return Cluster(own=True)
