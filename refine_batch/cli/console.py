"""How commands print: tables and figures alike on a terminal, in a pipe and in a log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refine_batch.results.labels import figure, figure_name, percent, printable

__all__ = ["console", "figure", "figure_name", "percent", "plain", "print_json", "table"]

PIPE_WIDTH = 120


def console(*, stderr: bool = False) -> Console:
    """A console that does not wrap tables to 80 columns in a pipe."""
    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=PIPE_WIDTH)


def table(*columns: str, title: str | None = None, numbers_from: int = 1) -> Table:
    """A table whose columns are right-aligned from `numbers_from` on."""
    made = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, name in enumerate(columns):
        made.add_column(name, justify="right" if i >= numbers_from else "left", overflow="fold")
    return made


def plain(text: Any) -> Text:
    """Text from a dataset, in which nothing is markup and no control character acts."""
    return Text(printable(text))


def print_json(value: Mapping[str, Any]) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str, allow_nan=False))
