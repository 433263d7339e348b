"""What the pages about clusters say: links lead somewhere, commands parse, policies are JSON, alerts are the code's."""

from __future__ import annotations

import json
import re
import shlex

import click
import pytest
from cluster_files import ROOT

from refine_batch.cli import main
from refine_batch.job.metrics import ALL

PAGES = ["docs/operations.md", "cluster/README.md"]
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", text)
    assert links
    for target, anchor in links:
        file = ((ROOT / page).parent / target) if target else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), f"{target}#{anchor}"


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", OPERATIONS, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("refine-batch ")]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_shown_parses(words):
    context = click.Context(main)
    command = main.get_command(context, words[0])
    assert command is not None
    assert command.make_context(words[0], words[1:], parent=context) is not None


def test_the_policy_grants_no_more_than_objects_and_their_listing():
    [policy] = re.findall(r"```json\n(.*?)```", OPERATIONS, re.DOTALL)
    granted = [action for statement in json.loads(policy)["Statement"] for action in statement["Action"]]
    assert sorted(granted) == ["s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject"]
    assert '"Resource": ["*"]' not in policy


def test_metrics_named_there_exist():
    named = set(re.findall(r"ray_refine_batch_\w+", OPERATIONS))
    assert named
    assert named <= {metric.exported for metric in ALL}


def test_options_named_there_exist():
    from refine_batch.cli.nightly import nightly
    from refine_batch.cli.run import run

    known = {name for command in (nightly, run) for parameter in command.params for name in parameter.opts}
    known |= {"--working-dir"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", OPERATIONS)) <= known
