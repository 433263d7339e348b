"""How commands print: tables and figures alike on a terminal, in a pipe and in a log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Name, better direction and decimals of each figure of merit.
FIGURES = {
    "iou_2d": ("2D IoU", "↑", 3),
    "chamfer_l2": ("Chamfer-L2 ×1000", "↓", 2),
    "f_score": ("F-score", "↑", 3),
    "emd": ("EMD", "↓", 4),
    "iou_3d": ("3D IoU", "↑", 3),
    "iou_multiview": ("multi-view IoU", "↑", 3),
}
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
    return Text("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text)))


def figure_name(name: str) -> str:
    label, arrow, _ = FIGURES.get(name, (name, "", 3))
    return f"{label} {arrow}".strip()


def figure(name: str, value: float | None) -> str:
    """A figure's value, a dash where it is unknown."""
    return "–" if value is None else f"{value:.{FIGURES.get(name, ('', '', 3))[2]}f}"


def percent(value: float | None, *, signed: bool = False) -> str:
    return "–" if value is None else f"{value:+.1%}" if signed else f"{value:.0%}"


def print_json(value: Mapping[str, Any]) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str, allow_nan=False))
