"""What the README says is run or looked up: its query, its commands, its links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import duckdb
import numpy as np
import pytest
import trimesh
from result_rows import put, result

import refine_batch
from refine_batch import RefineConfig
from refine_batch.cli import main
from refine_batch.cli.group import COMMANDS
from refine_batch.cli.nightly import nightly
from refine_batch.io.storage import Storage
from refine_batch.results.schema import RESULT_SCHEMA

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{name}.md" for name in ("algorithm", "architecture", "datasets", "recipes")),
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_query_takes_the_newest_row_of_each_instance(tmp_path, monkeypatch):
    storage = Storage(str(tmp_path / "output"))
    put(storage, [result("a", 0, category="chair", iou_2d_before=0.5, iou_2d_after=0.6)])
    put(storage, [result("a", 9, category="chair", iou_2d_before=0.5, iou_2d_after=0.9)])
    put(
        storage,
        [result("b", 1, category="chair", iou_2d_before=0.7, iou_2d_after=0.7), result("c", 2, status="failed")],
    )
    monkeypatch.chdir(tmp_path)
    [query] = blocks("sql")
    [(category, instances, before, after)] = duckdb.sql(query).fetchall()
    assert (category, instances) == ("chair", 2)
    assert (before, after) == pytest.approx((0.6, 0.8))


def test_the_map_of_the_code_names_modules_that_are_there():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    folders = ("refine_batch", "jobs", "benchmarks", "tests")
    files = [path.as_posix() for folder in folders for path in (ROOT / folder).rglob("*.py")]
    named = set(re.findall(r"`([\w/]+\.py)`", text))
    assert len(named) > 30
    assert [name for name in sorted(named) if not any(file.endswith(f"/{name}") for file in files)] == []


def test_the_table_of_recipes_comes_before_the_first_command():
    """A newcomer finds their own case before anything else is asked of them."""
    table, commands = README.index("| you have | recipe |"), README.index("```sh")
    assert table < commands < README.index("## Try it")
    assert README.count("](docs/recipes.md#", table, commands) >= 5


def commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("refine-batch ")]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_shown_parses(words):
    context = click.Context(main)
    command = main.get_command(context, words[0])
    assert command is not None
    # Parsing checks names and types of options and arguments without running anything.
    assert command.make_context(words[0], words[1:], parent=context) is not None


def test_the_map_names_every_part_and_nothing_else():
    """Every row of the architecture's table is there, and every top-level module and package stands in one."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    package = ROOT / "refine_batch"
    for name in named:
        assert (ROOT / name if name.startswith("jobs/") else package / name).exists(), name
    parts = {path.name + "/" if path.is_dir() else path.name for path in package.iterdir() if path.name[0] not in "_."}
    covered = {name if "/" not in name else name.split("/")[0] + "/" for name in named}
    assert parts <= covered, parts - covered


def test_the_picture_is_small_and_ends_in_words():
    [(words, path)] = re.findall(r"!\[([^]]+)\]\(([^)]+)\)", README)
    assert len(words) > 40, "for those who cannot see it"
    assert (ROOT / path).stat().st_size < 400_000


def test_the_library_is_used_as_shown(monkeypatch, capsys):
    """Two small steps instead of the default's four hundred; all else as it stands."""
    box = trimesh.creation.box((0.4, 0.4, 0.4)).subdivide()
    [example, _] = blocks("python")
    quick = RefineConfig(steps=2, image_size=64, figure_samples=100)
    full = refine_batch.refine
    monkeypatch.setattr(refine_batch, "refine", lambda instances: full(instances, quick), raising=False)
    mask = np.zeros((64, 64), bool)
    mask[20:44, 20:44] = True
    inputs = {
        "vertices": box.vertices.astype(np.float32),
        "faces": box.faces.astype(np.int32),
        "image": np.full((64, 64, 3), 128, np.uint8),
        "mask": mask,
    }
    exec(example, inputs)
    status, before, after = capsys.readouterr().out.split()
    assert status in ("refined", "kept")
    assert 0 < float(before) <= float(after) <= 1


def test_a_file_is_written_back_as_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    box = trimesh.creation.box()
    box.export("chair.glb")
    [_, example] = blocks("python")
    exec(example, {"vertices": box.vertices * 2})
    assert trimesh.load_mesh("refined.glb").bounds.tolist() == (box.bounds * 2).tolist()


def test_every_make_target_shown_exists():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL):
            assert set(re.findall(r"^make ([a-z-]+)", block, re.MULTILINE)) <= set(targets)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_between_files_leads_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", text):
        file = (ROOT / page).parent / target if target else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def test_every_command_of_ray_exists():
    from ray.scripts.scripts import cli

    shown = re.findall(r"\bray ((?:job )?[a-z-]+) -", "\n".join(blocks("sh")))
    assert {"start", "job submit", "get-auth-token"} == set(shown)
    for words in shown:
        command = cli
        for word in words.split():
            command = command.commands[word]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_every_file_named_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    files = re.findall(r"`((?:refine_batch|tests|docs|benchmarks|jobs|cluster|examples)/[^`\s*]*)`", text)
    for name in files:
        assert (ROOT / name).exists(), name


def test_every_option_named_in_the_readme_exists():
    commands = [main.get_command(click.Context(main), name) for name in COMMANDS]
    known = {option for command in commands if command for parameter in command.params for option in parameter.opts}
    jobs = {option for parameter in nightly.params for option in parameter.opts}
    others = {"--working-dir", "--head", "--generate", "--help"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", README)) <= known | jobs | others


def test_every_column_named_in_the_readme_exists():
    table = README.split("### The output")[1].split("Any Parquet reader")[0]
    named = set(re.findall(r"`([a-z][a-z0-9_]*)`(?=[^|]*\|[^|]*\|)", table)) - {
        "refined",
        "kept",
        "failed",
        "before",
        "after",
    }
    assert {"instance_id", "status", "vertices", "seconds"} <= named
    assert named <= set(RESULT_SCHEMA.names) | {"kept_reason"}
