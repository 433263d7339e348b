"""Actors ask for what they use: logical GPUs, whole and shared, nodes of several kinds, nodes that come and go."""

from __future__ import annotations

import itertools
import os
import re
import threading
import time

import pytest
from stub_methods import Conduct
from tiny_dataset import result_rows, write_manifest

from refine_batch.config import RefineConfig
from refine_batch.job import dispatch, driver
from refine_batch.job.options import RunOptions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
CONFIG = RefineConfig(method="stub_methods:paced", image_size=32, figure_samples=100)
# Seconds an instance: nothing is finished before the test says so.
HELD = 10_000.0
SEEDS = itertools.count(os.getpid() * 1000)
HEAD = {
    "num_cpus": 0,
    "num_gpus": 0,
    "include_dashboard": False,
    "include_log_monitor": False,
    "object_store_memory": 100 << 20,
}


class Watcher:
    """Keeps what a reporter is told, and how many actors there were at most."""

    def __init__(self):
        self.told, self.most, self.now = [], 0, 0

    def show(self, snapshot):
        self.now = snapshot.actors
        self.most = max(self.most, snapshot.actors)

    def say(self, text):
        self.told.append(text)

    def close(self): ...


@pytest.fixture(scope="module")
def patience():
    """Ray gives a new node 30 s to start, which a busy machine may need twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_raylet_start_wait_time_s", "300")
        yield


@pytest.fixture(scope="module")
def head(ray_folder, importable_stubs, aws_environment, patience):
    """A head that does no work; each test brings its own nodes."""
    import ray
    from ray.cluster_utils import Cluster

    assert not ray.is_initialized(), "these tests need a process of their own connection"
    cluster = Cluster(initialize_head=True, head_node_args=HEAD | {"no_monitor": True})
    yield cluster
    cluster.shutdown()


def wait_for_the_head_alone(head):
    """A node that was ended stays on the cluster's books for a while, and would be reckoned with."""
    from ray._raylet import GcsClient
    from ray.core.generated.gcs_pb2 import GcsNodeInfo

    deadline = time.monotonic() + 120
    while sum(node.state == GcsNodeInfo.ALIVE for node in GcsClient(head.address).get_all_node_info().values()) > 1:
        assert time.monotonic() < deadline, "a node that was ended is still there"
        time.sleep(0.2)


@pytest.fixture
def nodes(head):
    """`nodes(num_cpus=…, num_gpus=…)` adds a node for the time of a test."""
    added = []

    def add(**resources):
        added.append(head.add_node(object_store_memory=80 << 20, **resources))
        return added[-1]

    add.remove = lambda node: (added.remove(node), head.remove_node(node, allow_graceful=False))
    yield add
    for node in added:
        head.remove_node(node)
    wait_for_the_head_alone(head)


class Run(threading.Thread):
    """A run in a thread; nodes can only be added from the main one."""

    def __init__(self, cluster, folder, count, **options):
        super().__init__(daemon=True)
        self.ids = [f"i{number:03}" for number in range(count)]
        self.output, self.watcher, self._outcome = folder / "out", Watcher(), None
        self.conduct = Conduct(next(SEEDS))
        self.conduct.set(pace=HELD)
        settings = {"address": cluster.address, "batch_size": 1, "instance_timeout": 1000.0} | options
        manifest, config = str(write_manifest(folder, self.ids)), CONFIG.model_copy(update={"seed": self.conduct.seed})
        self._arguments = manifest, str(self.output), config, RunOptions(**settings)
        self.start()

    def run(self):
        self._outcome = driver.run(*self._arguments, reporter=self.watcher)

    def reaches(self, actors):
        """Wait for so many actors; then let the work go on."""
        self.until(lambda: self.watcher.now == actors, f"{actors} actors")
        self.conduct.set(pace=0.0)

    def finished(self, timeout=600):
        """The rows, once all are there."""
        self.conduct.set(pace=0.0)
        self.join(timeout)
        assert self._outcome is not None, "the run failed or did not end"
        assert self._outcome.exit_status == 0, self._outcome.record.message
        rows = result_rows(self.output)
        assert sorted(row["instance_id"] for row in rows) == self.ids
        return rows

    def until(self, condition, what):
        deadline = time.monotonic() + 240
        while not condition():
            assert time.monotonic() < deadline, f"{what} within 240 s; {self.watcher.told}"
            assert self.is_alive(), f"the run ended before {what}"
            time.sleep(0.1)


@pytest.mark.parametrize(("share", "actors"), [(None, 1), (0.5, 2)])
def test_gpus_are_asked_for_whole_by_default_and_shared_on_request(head, nodes, tmp_path, share, actors):
    nodes(num_cpus=8, num_gpus=1)
    run = Run(head, tmp_path, 12, gpus_per_actor=share)
    run.reaches(actors)
    rows = run.finished()
    # Eight actors would fit by their CPUs.
    assert run.watcher.most == actors
    # The GPU is a number only: the work was done on the CPU, and says so.
    assert {row["device"] for row in rows} == {"cpu"}
    [told] = [text for text in run.watcher.told if "CUDA" in text]
    assert "refines on the CPU" in told


def test_only_nodes_with_gpus_are_used_where_gpus_are_asked_for(head, nodes, tmp_path):
    nodes(num_cpus=1, num_gpus=2)
    nodes(num_cpus=2, num_gpus=1)
    nodes(num_cpus=4)
    run = Run(head, tmp_path, 16)
    run.reaches(2)
    run.finished()
    # One by the first node's CPU, one by the second one's GPU, none on the third.
    assert run.watcher.most == 2


def test_nodes_of_every_kind_are_used_where_cpus_are_asked_for(head, nodes, tmp_path):
    nodes(num_cpus=1, num_gpus=2)
    nodes(num_cpus=2)
    run = Run(head, tmp_path, 24, gpus_per_actor=0.0)
    run.reaches(3)
    run.finished()
    assert run.watcher.most == 3
    assert not [text for text in run.watcher.told if "CUDA" in text]


def test_memory_is_asked_for_where_it_is_what_there_is_least_of(head, nodes, tmp_path):
    nodes(num_cpus=8, memory=3_000_000_000)
    run = Run(head, tmp_path, 16, memory_per_actor=1.4)
    run.reaches(2)
    run.finished()
    assert run.watcher.most == 2


def test_nodes_that_join_are_used_and_those_that_leave_are_done_without(head, nodes, tmp_path):
    nodes(num_cpus=1, num_gpus=1)
    run = Run(head, tmp_path, 80, gpus_per_actor=0.5)
    run.until(lambda: run.watcher.now == 1, "a first actor")
    second = nodes(num_cpus=2, num_gpus=1)
    run.until(lambda: run.watcher.now == 3, "two more actors on the new node")
    run.conduct.set(pace=0.5)
    run.until(lambda: len(result_rows(run.output)) >= 6, "rows by all of them")
    run.conduct.set(pace=HELD)
    done = len(result_rows(run.output))
    nodes.remove(second)
    run.until(lambda: run.watcher.now == 1, "one actor left")
    rows = run.finished()
    assert done < len(rows)
    assert {row["attempts"] for row in rows} == {1}, "the node was to blame, not its rows"


def wanted(address):
    """How many bundles of resources Ray reports as asked for and not to be had: what its autoscaler goes by."""
    from ray._raylet import GcsClient
    from ray.autoscaler.v2.sdk import get_cluster_resource_state

    state = get_cluster_resource_state(GcsClient(address))
    return [
        (dict(demand.request.resources_bundle), demand.count)
        for demand in state.pending_resource_requests
        if demand.count
    ]


def test_a_cluster_that_scales_up_from_nothing_is_asked_for_more_than_one_node(head, nodes, tmp_path, monkeypatch):
    monkeypatch.setattr(dispatch, "WAITING_TOLD_EVERY", 1.0)
    run = Run(head, tmp_path, 60, gpus_per_actor=0.5)
    run.until(lambda: run.watcher.told, "a word about waiting")
    assert re.fullmatch(
        r"no actor for \d+ s yet: each asks for 1 CPU and 0.5 GPU; the cluster has 0 CPU, 0 GPU and \d+ GB of memory",
        run.watcher.told[0],
    )
    run.until(lambda: sum(count for _, count in wanted(head.address)) > 10, "a demand for more than one actor")
    assert [bundle for bundle, _ in wanted(head.address)] == [{"CPU": 1.0, "GPU": 0.5}]
    # An autoscaler with a limit of three actors on two nodes, which brings one after the other.
    nodes(num_cpus=1, num_gpus=1)
    run.until(lambda: run.watcher.now == 1, "an actor on the first node")
    assert wanted(head.address), "nothing is asked for any more"
    nodes(num_cpus=2, num_gpus=1)
    run.until(lambda: run.watcher.now == 3, "three actors on two nodes")
    run.finished()
    assert run.watcher.most == 3
    # Nothing is left behind that would keep nodes or bring new ones; nodes report in their own time.
    deadline = time.monotonic() + 120
    while wanted(head.address):
        assert time.monotonic() < deadline, wanted(head.address)
        time.sleep(0.5)
