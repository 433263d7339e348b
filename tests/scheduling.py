"""What runs together where several processes share the tests (`pytest -n 2`)."""

from __future__ import annotations

from pathlib import Path

import pytest

# Each starts Ray, or needs a cluster: one process does them all, one after another, on the one cluster that it has.
ON_RAY = ("tests/faults/", "tests/job/test_address.py", "tests/job/test_driver.py")
# Begun next, so that no process is left with a long module at the end; what waits begins beside what works.
LONG = tuple(
    f"tests/{name}"
    for name in (
        *("core/test_methods.py", "core/test_pose.py", "report/test_report_in_a_browser.py", "results/test_compact.py"),
        *("results/test_output_lock.py", "diagnosis/", "test_manifest.py", "test_examples.py", "job/test_stages.py"),
        *("core/test_several_views.py", "core/test_working_mesh.py", "core/test_refinement.py"),
        *("core/test_hinted_refinement.py", "core/test_imports.py"),
    )
)


def rank_of(nodeid: str) -> int:
    """When a test's turn comes: those on Ray first, then the long ones in the order that they are named in."""
    if nodeid.startswith(ON_RAY):
        return 0
    return next((number for number, long in enumerate(LONG, 1) if nodeid.startswith(long)), len(LONG) + 1)


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


def pytest_configure(config):
    """Each process begins to collect at another module, and finds compiled what the others have come to before it."""
    if hasattr(config, "workerinput") and config.args == config.getini("testpaths"):
        modules = sorted(str(path) for folder in config.args for path in Path(folder).rglob("test_*.py"))
        number = int(config.workerinput["workerid"].removeprefix("gw"))
        begin = number * len(modules) // config.workerinput["workercount"]
        config.args = modules[begin:] + modules[:begin]


def pytest_collection_modifyitems(config, items):
    if not hasattr(config, "workerinput"):
        return
    for item in items:
        alone = item.get_closest_marker("slow") or item.nodeid.startswith(ON_RAY)
        if "ray_folder" in item.fixturenames and not alone:
            raise pytest.UsageError(f"{item.nodeid} needs a Ray cluster: its module belongs in scheduling.ON_RAY")
    items.sort(key=lambda item: (rank_of(item.nodeid), item.nodeid.partition("::")[0]))
