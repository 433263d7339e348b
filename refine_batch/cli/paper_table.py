"""The paper's table as text, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from refine_batch.cli.console import figure, figure_name, percent, plain, table
from refine_batch.results.labels import LABELS
from refine_batch.results.paper_table import ALL, MEAN_OF_CATEGORIES, PaperRow

if TYPE_CHECKING:
    from rich.console import Console

Tables = dict[str, list[PaperRow]]
HEADINGS = ("category", "instances", "before", "after", "change", "improved", "by", "worsened", "by")
_OF_ALL = (MEAN_OF_CATEGORIES, ALL)


def cells(name: str, row: PaperRow) -> list[str]:
    """One row's cells, under HEADINGS."""
    shown = (figure(name, row.before), figure(name, row.after), percent(row.change, signed=True))
    better = percent(row.improved), figure(name, row.improved_by)
    worse = percent(row.worsened), figure(name, row.worsened_by)
    return [str(plain(row.group)), str(row.instances), *shown, *better, *worse]


def print_text(tables: Tables, out: Console) -> None:
    """A table per figure, for a terminal."""
    for i, (name, rows) in enumerate(tables.items()):
        made = table(figure_name(name), *HEADINGS[1:])
        for row in rows:
            if row.group in _OF_ALL and row is _first_of_all(rows):
                made.add_section()
            made.add_row(plain(row.group), *cells(name, row)[1:])
        if i:
            out.print()
        out.print(made)


def markdown(tables: Tables) -> str:
    """A table per figure under a heading of its own."""
    parts = []
    for name, rows in tables.items():
        lines = [f"**{figure_name(name)}**", "", _pipes(HEADINGS), _pipes([":--", *["--:"] * (len(HEADINGS) - 1)])]
        for row in rows:
            label, *numbers = cells(name, row)
            label = _markdown(label)
            lines.append(_pipes([f"**{label}**" if row.group in _OF_ALL else label, *numbers]))
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def latex(tables: Tables) -> str:
    """A `tabular` per figure; needs the package booktabs."""
    parts = []
    for name, rows in tables.items():
        label = LABELS[name][0].replace("×", r"$\times$")
        arrow = r"$\uparrow$" if LABELS[name][1] == "↑" else r"$\downarrow$"
        lines = [
            f"% {LABELS[name][0].replace('×', 'x ')}",
            r"\begin{tabular}{l" + "r" * (len(HEADINGS) - 1) + "}",
            r"\toprule",
            " & ".join([rf"{label} {arrow}", *HEADINGS[1:]]) + r" \\",
            r"\midrule",
        ]
        for row in rows:
            if row is _first_of_all(rows) and row is not rows[0]:
                lines.append(r"\midrule")
            group, *numbers = cells(name, row)
            lines.append(" & ".join([_latex(group), *(_number(cell) for cell in numbers)]) + r" \\")
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n")
    return "\n".join(parts)


def as_csv(tables: Tables) -> str:
    """One line per category and figure, numbers in full; empty where unknown."""
    text = io.StringIO()
    names = [field.name for field in fields(PaperRow)]
    sheet = csv.writer(text, lineterminator="\n")
    sheet.writerow(["figure", *names])
    for name, rows in tables.items():
        for row in rows:
            values = asdict(row)
            sheet.writerow([name, *("" if values[n] is None else values[n] for n in names)])
    return text.getvalue()


FORMATS: dict[str, Callable[[Tables], str]] = {"markdown": markdown, "latex": latex, "csv": as_csv}


def _first_of_all(rows: list[PaperRow]) -> PaperRow:
    return next(row for row in rows if row.group in _OF_ALL)


def _pipes(values: Iterable[str]) -> str:
    return f"| {' | '.join(values)} |"


def _markdown(text: str) -> str:
    return "".join(f"\\{c}" if c in r"\|*_`[]#~" else "&lt;" if c == "<" else "&amp;" if c == "&" else c for c in text)


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in text)


def _number(cell: str) -> str:
    return cell.replace("–", "--").replace("%", r"\%").replace("-", "$-$", 1) if cell != "–" else "--"
