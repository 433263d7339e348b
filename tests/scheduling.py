"""What runs together where several processes share the tests (`pytest -n 2`)."""

from __future__ import annotations

import pytest

# Each starts Ray, or needs a cluster: one process does them all, one after another, on the one cluster that it has.
ON_RAY = ("tests/faults/", "tests/job/test_address.py", "tests/job/test_driver.py")
# Begun next, so that no process is left with a long module at the end.
LONG = tuple(
    f"tests/{name}"
    for name in (
        *("core/test_methods.py", "core/test_pose.py", "results/test_compact.py", "test_manifest.py"),
        *("core/test_refinement.py", "diagnosis/", "test_examples.py"),
    )
)


def group_of(nodeid: str) -> str:
    """Tests of one group share a process: those of a module, which has fixtures of its own, and all of `ON_RAY`."""
    return "on Ray" if nodeid.startswith(ON_RAY) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False  # the order is that of the items
    return Scheduling(config, log)


def pytest_collection_modifyitems(config, items):
    if not hasattr(config, "workerinput"):
        return
    for item in items:
        alone = item.get_closest_marker("slow") or item.nodeid.startswith(ON_RAY)
        if "ray_folder" in item.fixturenames and not alone:
            raise pytest.UsageError(f"{item.nodeid} needs a Ray cluster: its module belongs in scheduling.ON_RAY")
    items.sort(key=lambda item: (not item.nodeid.startswith(ON_RAY), not item.nodeid.startswith(LONG)))
