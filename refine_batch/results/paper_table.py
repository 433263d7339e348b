"""The table that papers print: each figure before and after, per category and overall."""

from __future__ import annotations

import math
from dataclasses import dataclass

from refine_batch.results.schema import FIGURES
from refine_batch.results.summary import FigureSummary, Summary

NO_CATEGORY = "(none)"
MEAN_OF_CATEGORIES = "mean of categories"
ALL = "all instances"


@dataclass(frozen=True)
class PaperRow:
    """One figure of one category, of the mean over categories or of all instances.

    Parameters
    ----------
    instances
        Those whose figure is known before and after.
    before, after
        Means.
    change
        after / before − 1; of the mean over categories, the mean of theirs.
    improved, worsened
        Shares of the instances; the rest stayed as they were.
    improved_by, worsened_by
        Mean absolute change of those, in the figure's unit.
    """

    group: str
    instances: int
    before: float | None
    after: float | None
    change: float | None
    improved: float | None
    improved_by: float | None
    worsened: float | None
    worsened_by: float | None


def paper_table(summary: Summary, *, by_category: bool = True) -> dict[str, list[PaperRow]]:
    """Rows by figure, for the figures that any instance has: a row per category, their mean, and one of all instances.

    The mean counts every category alike, as published tables do. Without categories, or with one, there is only the
    last row.
    """
    table = {}
    for figure in FIGURES:
        overall = summary.overall.figures[figure]
        if not overall.count:
            continue
        groups = {NO_CATEGORY if name is None else name: g.figures[figure] for name, g in summary.categories.items()}
        rows = [_row(name, values) for name, values in groups.items() if values.count]
        if not by_category or len(rows) < 2:
            rows = []
        else:
            rows.append(_mean(rows))
        table[figure] = [*rows, _row(ALL, overall)]
    return table


def _row(group: str, values: FigureSummary) -> PaperRow:
    return PaperRow(
        group=group,
        instances=values.count,
        before=values.before,
        after=values.after,
        change=values.relative_change,
        improved=values.improved,
        improved_by=values.mean_improvement,
        worsened=values.worsened,
        worsened_by=values.mean_worsening,
    )


def _mean(rows: list[PaperRow]) -> PaperRow:
    def mean(name: str) -> float | None:
        values = [value for row in rows if (value := getattr(row, name)) is not None]
        return math.fsum(values) / len(values) if values else None

    names = ("before", "after", "change", "improved", "improved_by", "worsened", "worsened_by")
    return PaperRow(MEAN_OF_CATEGORIES, sum(row.instances for row in rows), **{name: mean(name) for name in names})
