"""The Ray cluster under a run: attaching to it or starting one, what it has, and how many actors fit."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from refine_batch.errors import UsageError
from refine_batch.io.storage import redact
from refine_batch.job.address import LOCAL, Address, Refused, choose
from refine_batch.job.code_folder import CodeFolder
from refine_batch.job.neighbours import Neighbours
from refine_batch.job.options import RunOptions
from refine_batch.job.probe import enable_token
from refine_batch.job.ray_folder import check_folder, temporary_folder, why_not_started

# Answers carry figures only, so a local cluster needs little more than Ray's smallest object store.
OBJECT_STORE_BYTES = 128 << 20
SETTINGS: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
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
    code
        Where its workers find this package.
    neighbours
        The other runs of this machine, each with a cluster of its own; None where the cluster is not its own.
    """

    own: bool
    borrowed: bool = False
    code: CodeFolder | None = None
    neighbours: Neighbours | None = None

    @property
    def sharing(self) -> int:
        """How many runs, this one included, have this machine's cores to themselves."""
        return self.neighbours.count() if self.neighbours is not None else 1

    @property
    def address(self) -> str:
        """HOST:PORT of the head."""
        import ray

        return ray.get_runtime_context().gcs_address

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
        request = Request(options.cpus_per_actor or _cpus(nodes.values(), gpus), gpus, memory)
        if self.own and request.slots(nodes.values()) == 0:
            raise UsageError(f"no actor fits on this machine: each asks for {request}, and it has {describe(nodes)}")
        return request

    def close(self) -> None:
        """Leave the cluster, and end it where it was started for this run."""
        import ray

        if not self.borrowed:
            ray.shutdown()
        self._let_go()

    def abandon(self) -> None:
        """Leave a cluster that is lost: Ray's own way out of it would wait, and write, and end the process."""
        import atexit

        import ray

        atexit.unregister(ray.shutdown)
        self._let_go()

    def _let_go(self) -> None:
        if self.neighbours is not None:
            self.neighbours.leave()
        if self.code is not None:
            self.code.close()


def _cpus(nodes: Iterable[Mapping[str, float]], gpus: float) -> float:
    """CPUs of an actor: one, and with GPUs its share of those of the node that has the fewest for each."""
    shares = [node.get("CPU", 0.0) * gpus / node["GPU"] for node in nodes if node.get("GPU", 0.0) >= gpus > 0]
    return float(max(1, math.floor(min(shares, default=1.0) + 1e-6)))


def describe(nodes: Mapping[str, Mapping[str, float]]) -> str:
    """`8 CPU, 2 GPU and 64 GB of memory on 2 nodes`."""
    if not nodes:
        return "no nodes"
    cpus, gpus, memory = (sum(node.get(name, 0.0) for node in nodes.values()) for name in ("CPU", "GPU", "memory"))
    where = f" on {len(nodes)} nodes" if len(nodes) > 1 else ""
    return f"{cpus:g} CPU, {gpus:g} GPU and {memory / 1e9:.0f} GB of memory{where}"


def connect(address: str | None, say: Callable[[str], None] = lambda text: None) -> Cluster:
    """Attach to a cluster or start a private one (see `address.choose`).

    A process that is connected already stays with its cluster.

    Parameters
    ----------
    say
        Is told, in one sentence, of a cluster that was found and does not take us.

    Raises
    ------
    UsageError
        The cluster that was asked for cannot be used, or none can be started on this machine.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return Cluster(own=False, borrowed=True)
    wanted = choose(address)
    code = CodeFolder()
    try:
        if isinstance(wanted, Address) and _attached(wanted, code, say):
            return Cluster(own=False, code=code)
        _start(code)
        return Cluster(own=True, code=code, neighbours=Neighbours().join())
    except BaseException:
        code.close()
        raise


def _attached(wanted: Address, code: CodeFolder, say: Callable[[str], None]) -> bool:
    """Whether the run is now connected to this cluster; False where it may go on without."""
    import ray

    try:
        wanted.check()
        if wanted.source is None:
            enable_token()
        ray.init(address=wanted.text, job_config=code.job_config(), **SETTINGS)
        return True
    except (Refused, ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        reason = redact(" ".join(str(error).split())[:400])
        if wanted.source:
            raise UsageError(f"{wanted.shown}: {reason}") from error
        say(
            f"the Ray cluster {wanted.shown} that was started on this machine is not used: {reason}. This run goes on "
            "with a Ray of its own (--address local does so without asking)"
        )
        return False


def _start(code: CodeFolder) -> None:
    """Start a Ray that ends with this process."""
    import ray

    folder = temporary_folder()
    try:
        check_folder(folder)
        ray.init(
            address=LOCAL,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            # A machine that stands still for a minute is no reason to give its only node up for lost.
            _system_config={"health_check_failure_threshold": 60},
            job_config=code.job_config(),
            **SETTINGS,
        )
    except UsageError:
        raise
    except Exception as error:
        # What was begun of it would be in the way of a second attempt.
        ray.shutdown()
        raise UsageError(why_not_started(folder, error)) from error
