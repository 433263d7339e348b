"""The recipes' commands are ones that the program knows, their links lead somewhere, and their snippets run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
from result_rows import put, result

from refine_batch.cli import main
from refine_batch.dataset.layouts import LAYOUTS
from refine_batch.io.storage import Storage

ROOT = Path(__file__).parent.parent
RECIPES = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^refine-batch (.*?)(?: +#.*)?$", "\n".join(re.findall(r"```sh\n(.*?)```", RECIPES, re.S)), re.M)


@pytest.mark.parametrize("typed", COMMANDS)
def test_the_command_is_understood(typed):
    name, *arguments = shlex.split(typed)
    command = main.get_command(click.Context(main), name)
    assert command is not None
    with command.make_context(name, arguments) as made:
        assert made.params


def test_every_layout_has_a_row():
    for name in LAYOUTS:
        assert f"`{name}`" in RECIPES


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", RECIPES):
        file, _, anchor = target.partition("#")
        text = (ROOT / "docs" / file).read_text(encoding="utf-8") if file else RECIPES
        headings = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)]
        assert not anchor or anchor in headings, target


@pytest.mark.parametrize(
    ("library", "begins"),
    [("pandas", "import pandas"), ("datasets", "import datasets"), ("pyspark", "from pyspark.sql import")],
)
def test_an_output_opens_in_other_programs(library, begins, tmp_path, monkeypatch):
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    losses = [{"name": "volume", "value": 0.5}]
    put(Storage(str(tmp_path / "output")), [result("a", iou_2d_before=0.5, iou_2d_after=0.75, other_losses=losses)])
    monkeypatch.chdir(tmp_path)
    if library == "datasets":
        monkeypatch.setattr(module.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    [snippet] = re.findall(rf"```python\n({begins}.*?)```", RECIPES, re.S)
    values: dict = {}
    exec(snippet, values)
    rows = values["rows"]
    assert len(rows) == 1
    assert np.isclose(rows["iou_2d_after"][0], 0.75)
    if library == "datasets":
        assert rows[0]["vertices"] == [[0, 1, 0], [0, 1, 0], [0, 0, 1]]
        assert rows[0]["other_losses"] == losses
