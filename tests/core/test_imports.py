"""Imports run one way, without cycles, and the core needs neither a cluster nor storage."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import refine_batch

PACKAGE = Path(refine_batch.__file__).parent
CORE = ("config", "errors", "instance", "method_options", "seeding")
CORE_PACKAGES = ("cameras", "devices", "figures", "losses", "mesh", "methods", "networks", "refinement", "render")
CLUSTER_AND_STORAGE = ("ray", "fsspec", "s3fs", "pyarrow")
# Within a function, for those who name a URI.
WHEN_ASKED_FOR = {("refine_batch.networks.weights", "fsspec")}
ABOVE = ("io", "dataset", "results", "job", "report", "nightly", "cli")


def imports(path: Path) -> set[str]:
    """The modules of this package that a file imports when it is itself imported; for types alone do not count."""
    found = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return {name for name in found if name in MODULES}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}
GRAPH = {name: imports(path) - {name} for name, path in MODULES.items()}


def core_modules() -> list[str]:
    names = {f"refine_batch.{name}" for name in (*CORE, *CORE_PACKAGES)}
    return [name for name in MODULES if name in names or name.startswith(tuple(f"{n}." for n in names))]


@pytest.mark.parametrize("name", core_modules())
def test_core_imports_nothing_above_it(name):
    """Not within functions either."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        asked = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            asked = [f"{node.module}.{a.name}" for a in node.names]
        for module in asked:
            assert not module.startswith(tuple(f"refine_batch.{above}" for above in ABOVE)), f"{name} imports {module}"
            library = module.partition(".")[0]
            assert library not in CLUSTER_AND_STORAGE or (name, library) in WHEN_ASKED_FOR, f"{name} imports {module}"


def test_reports_know_nothing_of_jobs():
    """What was refined can be looked at by whoever has the results alone."""
    above = {f"{name} → {other}" for name in MODULES if name.startswith("refine_batch.report") for other in GRAPH[name]}
    assert not [pair for pair in above if "→ refine_batch.job" in pair]


def test_no_cycles():
    try:
        graphlib.TopologicalSorter(GRAPH).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


# Above the core, each level over those before it.
LEVELS = ("io", "dataset", "results", "job", "report", "nightly", "cli")


@pytest.mark.parametrize("level", LEVELS)
def test_levels_import_downwards_only(level):
    above = tuple(f"refine_batch.{name}" for name in LEVELS[LEVELS.index(level) + 1 :])
    inside = f"refine_batch.{level}"
    for name, imported in GRAPH.items():
        if name == inside or name.startswith(f"{inside}."):
            assert not [other for other in imported if other.startswith(above)], name


def loaded_after(*statements: str) -> list[set[str]]:
    """The modules that are loaded after each of these, one after the other in a new process."""
    code = "import sys\n" + "".join(f"{statement}\nprint(*sorted(sys.modules))\n" for statement in statements)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return [set(line.split()) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def library_and_readers() -> list[set[str]]:
    """What the library loads, and what is loaded when commands that read outputs follow; torch takes seconds."""
    readers = "refine_batch.report.report, refine_batch.cli.status, refine_batch.cli.export"
    return loaded_after("from refine_batch import refine; refine([])", f"import {readers}")


def test_library_needs_neither_ray_nor_storage(library_and_readers):
    found, _ = library_and_readers
    assert "refine_batch.methods.large_steps" in found
    for name in ("ray", "pyarrow", "fsspec", "s3fs", "boto3", "botocore", "click"):
        assert name not in found
    assert "refine_batch.job.garbage" not in found  # whose callers decide how often Python looks for garbage


def test_what_only_reads_an_output_needs_no_ray(library_and_readers):
    _, found = library_and_readers
    assert "refine_batch.results.live" in found
    assert "ray" not in found


@pytest.mark.parametrize("command", ["run", "nightly"])
def test_a_job_explains_its_options_without_what_takes_seconds_to_import(command):
    [found] = loaded_after(f"import refine_batch.cli.{command}")
    assert not found & {"torch", "warp", "ray", "scipy", "trimesh"}


def test_no_file_is_too_long_to_read():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_the_package_itself_waits_with_torch():
    """Most commands do without it, and it takes seconds to import."""
    [found] = loaded_after("import refine_batch; refine_batch.RefineConfig()")
    assert not found & {"torch", "warp", "ray", "scipy", "trimesh"}


def test_the_top_level_is_packages_and_the_plain_objects():
    alone = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert alone == set(CORE)
