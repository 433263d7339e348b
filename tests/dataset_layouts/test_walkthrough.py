"""docs/datasets.md: its script runs, and its commands are ones that the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from layout_fixtures import lopsided, mesh_bytes, pix3d_item, write_pix3d
from PIL import Image

from refine_batch.cli import main
from refine_batch.dataset.layouts.entry import Reason
from refine_batch.io.storage import Storage

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line.partition("#")[0].partition(" > ")[0])[1:]
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("refine-batch ")
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_command_is_understood(arguments):
    command = main.get_command(click.Context(main), arguments[0])
    command.make_context(arguments[0], list(arguments[1:]))


def test_the_walk_through_of_pix3d(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    items = [pix3d_item(1), pix3d_item(2), pix3d_item(3, category="table")]
    items[1]["truncated"] = True
    write_pix3d(Storage(str(tmp_path / "pix3d")), items)
    [script] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(script, "docs/datasets.md", "exec"), {})
    [picture] = Path("occnet-input").iterdir()
    assert picture.name == "chair_0001.png"
    with Image.open(picture) as image:
        assert image.size == (224, 224)
        assert image.getpixel((0, 0)) == (255, 255, 255)
        assert image.getpixel((112, 112)) != (255, 255, 255)
    model = lopsided()
    Storage(str(tmp_path)).write(
        "occnet/generation/meshes/chair_0001.off", mesh_bytes(model.vertices, model.faces, "off")
    )
    [command] = [c for c in COMMANDS if c[:2] == ["manifest", "pix3d"]]
    main.main(command, standalone_mode=False)
    assert Path("chairs.parquet").exists()
    assert Path("chairs_files/images/chair_0001.png").exists()


def test_every_reason_is_explained():
    for reason in Reason:
        assert reason is Reason.FILTERED or f"`{reason.value}`" in PAGE
