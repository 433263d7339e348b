"""A Ray cluster of its own for the tests that need one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from refine_batch.job.cluster import QUIET

for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def ray_folder() -> Iterator[str]:
    """A folder for Ray's sessions: short, because socket paths have to be."""
    folder = tempfile.mkdtemp(prefix="rb-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.delenv("RAY_ADDRESS", raising=False)
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def importable_stubs() -> Iterator[None]:
    """Let actors import `stub_methods`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
        patch.syspath_prepend(str(HERE))
        yield


@pytest.fixture(scope="session")
def ray_address(ray_folder, importable_stubs, aws_environment) -> Iterator[str]:
    """Address of a private cluster of one node with 4 logical CPUs, used by nobody else."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 4,
            "num_gpus": 0,
            "include_dashboard": False,
            "object_store_memory": 100 << 20,
        },
    )
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="module")
def ray_connection(ray_address) -> Iterator[str]:
    """This process stays connected to the private cluster for a module: its runs need not begin with that."""
    from refine_batch.job.cluster import connect

    cluster = connect(ray_address)
    yield ray_address
    cluster.close()
