"""Clusters that change, and nodes that run out of memory. Each test has a cluster of its own."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from tiny_dataset import result_rows, write_manifest

from refine_batch.config import RefineConfig
from refine_batch.job import driver
from refine_batch.job.options import RunOptions

pytestmark = pytest.mark.slow
CONFIG = RefineConfig(method="stub_methods:slow", image_size=32, figure_samples=100)
HEAD = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, "object_store_memory": 100 << 20}


@pytest.fixture
def cluster(ray_folder, importable_stubs):
    """A cluster whose head does no work, and the function that changes it."""
    import ray
    from ray.cluster_utils import Cluster

    assert not ray.is_initialized(), "these tests need a process of their own connection"
    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    yield cluster
    cluster.shutdown()


class Run(threading.Thread):
    """A run in a thread; nodes can only be added from the main one."""

    def __init__(self, cluster, manifest, output, config=CONFIG, **options):
        super().__init__(daemon=True)
        settings = {"address": cluster.address, "batch_size": 2, "instance_timeout": 60.0} | options
        self._arguments = str(manifest), str(output), config, RunOptions(**settings)
        self._outcome = None
        self.start()

    def run(self):
        self._outcome = driver.run(*self._arguments)

    def outcome(self, timeout=150):
        self.join(timeout)
        assert self._outcome is not None, "the run failed or did not end"
        return self._outcome


def wait_for_rows(output, number):
    deadline = time.monotonic() + 60
    while len(result_rows(output)) < number and time.monotonic() < deadline:
        time.sleep(0.1)


def test_a_lost_node_costs_no_tries_and_a_new_one_is_used(tmp_path, cluster):
    ids = [f"i{number:02}" for number in range(24)]
    manifest, output = write_manifest(tmp_path, ids), tmp_path / "out"
    doomed = cluster.add_node(num_cpus=2)

    running = Run(cluster, manifest, output)
    wait_for_rows(output, 4)
    cluster.remove_node(doomed, allow_graceful=False)
    cluster.add_node(num_cpus=2)

    outcome = running.outcome()
    assert outcome.exit_status == 0, outcome.record.message
    live = {row["instance_id"]: row for row in result_rows(output)}
    assert sorted(live) == ids
    assert {row["attempts"] for row in live.values()} == {1}, "the node was to blame, not its rows"


def test_work_waits_for_the_first_node(tmp_path, cluster):
    ids = ["a", "b"]
    manifest = write_manifest(tmp_path, ids)
    running = Run(cluster, manifest, tmp_path / "out", actors=2, gpus_per_actor=0.5)
    time.sleep(5)
    cluster.add_node(num_cpus=2, num_gpus=1)
    outcome = running.outcome()
    assert outcome.exit_status == 0, outcome.record.message
    assert sorted(row["instance_id"] for row in result_rows(tmp_path / "out")) == ids


def test_out_of_memory_is_named_and_costs_no_other_instance(tmp_path, ray_folder, importable_stubs):
    from ray.cluster_utils import Cluster

    text = Path("/proc/meminfo").read_text()
    memory = {line.split(":")[0]: int(line.split()[1]) << 10 for line in text.splitlines()}
    used = memory["MemTotal"] - memory["MemAvailable"]
    threshold = (used + (5 << 30)) / memory["MemTotal"]
    if threshold > 0.9:
        pytest.skip("this machine has no 5 GB of memory to spare")
    settings = {"memory_usage_threshold": threshold, "memory_monitor_refresh_ms": 100}
    cluster = Cluster(initialize_head=True, head_node_args=HEAD | {"num_cpus": 1, "_system_config": settings})
    try:
        manifest = write_manifest(tmp_path, ["good-1", "greedy", "good-2"])
        config = CONFIG.model_copy(update={"method": "stub_methods:out_of_memory"})
        run = Run(
            cluster, manifest, tmp_path / "out", config, batch_size=1, max_failed_fraction=0.5, instance_timeout=240.0
        )
        outcome = run.outcome(timeout=270)
    finally:
        cluster.shutdown()
    rows = {row["instance_id"]: (row["status"], row["error_kind"]) for row in result_rows(tmp_path / "out")}
    assert rows == {
        "good-1": ("refined", None),
        "greedy": ("failed", "out_of_memory"),
        "good-2": ("refined", None),
    }
    assert outcome.exit_status == 0
