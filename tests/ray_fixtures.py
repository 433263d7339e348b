"""A Ray cluster of its own for the tests that need one; `conftest.py` makes these fixtures known to all."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from refine_batch.job.cluster import QUIET

for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)

HERE = Path(__file__).parent


def start_cluster(**head):
    """A private cluster whose head node has these resources."""
    from ray._private import services
    from ray.cluster_utils import Cluster

    plain = services.get_node

    def patient(*arguments):
        # Ray gives a node 30 s to start, which is too little where ten others want the processor.
        deadline = time.monotonic() + 120
        while True:
            try:
                return plain(*arguments)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    usual = {"num_gpus": 0, "include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "get_node", patient)
        return Cluster(initialize_head=True, head_node_args=usual | {"object_store_memory": 100 << 20} | head)


@pytest.fixture(scope="session")
def ray_folder() -> Iterator[str]:
    """A folder for Ray's sessions: short, because socket paths have to be."""
    folder = tempfile.mkdtemp(prefix="rb-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        # By default Ray's workers yield to everything else, which on a busy machine they would do for ever.
        patch.setenv("RAY_worker_niceness", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def importable_stubs(tmp_path_factory) -> Iterator[None]:
    """Let actors import `stub_methods`, and tell those how to behave (`stub_methods.Conduct`)."""
    import stub_methods  # with torch, which who only hands tests out does without

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(stub_methods.FOLDER, str(tmp_path_factory.mktemp("conduct")))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
        patch.syspath_prepend(str(HERE))
        yield


@pytest.fixture(scope="session")
def ray_address(ray_folder, importable_stubs, aws_environment) -> Iterator[str]:
    """Address of a private cluster of one node with 4 logical CPUs, used by nobody else."""
    cluster = start_cluster(num_cpus=4)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="module")
def ray_connection(ray_address) -> Iterator[str]:
    """This process stays connected to the private cluster for a module: its runs need not begin with that."""
    from refine_batch.job.cluster import connect

    cluster = connect(ray_address)
    yield ray_address
    cluster.close()


@pytest.fixture(scope="module")
def lasting_actors(ray_connection) -> Iterator[str]:
    """The same, and a module's runs need not each begin with a new process (`kept_actors`)."""
    from kept_actors import kept_actors

    with kept_actors():
        yield ray_connection
