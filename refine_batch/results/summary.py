"""Counts, figures before and after, and failures of an output, from its small columns only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refine_batch.io.storage import Storage
from refine_batch.results.live import live_rows
from refine_batch.results.schema import FIGURES, LOWER_IS_BETTER, STATUSES

_COLUMNS = ("instance_id", "run_id", "category", "status", "error_kind", "error_message", "kept_reason", "seconds")
_FIGURE_COLUMNS = tuple(f"{figure}_{when}" for figure in FIGURES for when in ("before", "after"))
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class FigureSummary:
    """One figure over the instances that have it both before and after.

    Shares lie in [0, 1]; `relative_change` is that of the means, `worsened_over_1pct` the share that got worse by more
    than 1 % of its value before. `mean_improvement` and `mean_worsening` are the mean changes, taken as positive, of
    those that improved and worsened. None where nothing can be said.
    """

    count: int
    before: float | None
    after: float | None
    relative_change: float | None
    improved: float | None
    worsened: float | None
    worsened_over_1pct: float | None
    mean_improvement: float | None
    mean_worsening: float | None


@dataclass(frozen=True)
class GroupSummary:
    """Counts by status and figures of one category, or of all."""

    counts: dict[str, int]
    figures: dict[str, FigureSummary]


@dataclass(frozen=True)
class FailureSummary:
    """Failures of one kind, with a few examples (instance_id, message)."""

    kind: str
    count: int
    examples: list[tuple[str, str]]


@dataclass(frozen=True)
class Summary:
    """An output, or one run's part of it; `categories` has the key None for instances without one."""

    overall: GroupSummary
    categories: dict[str | None, GroupSummary]
    failures: list[FailureSummary]
    kept_reasons: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON; the instances without a category stand under the empty string."""
        values = asdict(self)
        values["categories"] = {name or "": group for name, group in values["categories"].items()}
        return values


def summarise(storage: Storage, *, run_id: str | None = None, examples: int = 3) -> Summary:
    """Summarise the newest rows of an output, or those of them that one run wrote.

    Streams the small columns; memory grows with the number of categories, not of rows.
    """
    chosen = None if run_id is None else pc.field("run_id") == run_id
    totals, failures, kept, seconds = _Totals(), _Failures(examples), Counter[str](), 0.0
    for table in _tables(live_rows(storage, (*_COLUMNS, *_FIGURE_COLUMNS), filter=chosen)):
        totals.add(table)
        failures.add(table.filter(pc.equal(table["status"], "failed")))
        kept.update(_counts(_alike(table.filter(pc.equal(table["status"], "kept"))["kept_reason"])))
        seconds += pc.sum(table["seconds"]).as_py() or 0.0
    categories = totals.by_category()
    return Summary(
        overall=_group(totals.statuses.sum(axis=0), totals.sums.sum(axis=0)),
        categories={name: categories[name] for name in sorted(categories, key=lambda n: (n is None, n))},
        failures=failures.summaries(),
        kept_reasons=dict(kept.most_common()),
        seconds=seconds,
    )


def _tables(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches, many of which may be a few rows, joined to tables worth a pass."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= _ROWS_AT_ONCE:
            yield pa.Table.from_batches(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def _alike(reasons: pa.ChunkedArray) -> pa.ChunkedArray:
    """Reasons without what belongs to one instance: the numbers, and what stands after a colon."""
    return pc.replace_substring_regex(pc.replace_substring_regex(reasons, ":.*", ""), r"\b\d+(\.\d+)?(%|\b)", "…")


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"] or "": entry["counts"] for entry in pc.value_counts(column).to_pylist()}


class _Failures:
    """Failures by kind, with the first few of each."""

    def __init__(self, examples: int):
        self._examples = examples
        self._counts: Counter[str] = Counter()
        self._shown: dict[str, list[tuple[str, str]]] = {}

    def add(self, failed: pa.Table) -> None:
        for kind, count in _counts(failed["error_kind"]).items():
            self._counts[kind] += count
            shown = self._shown.setdefault(kind, [])
            if len(shown) < self._examples:
                of_kind = failed.filter(pc.equal(pc.fill_null(failed["error_kind"], ""), kind))
                some = (
                    of_kind.slice(0, self._examples - len(shown)).select(["instance_id", "error_message"]).to_pylist()
                )
                shown += [(row["instance_id"], row["error_message"] or "") for row in some]

    def summaries(self) -> list[FailureSummary]:
        return [FailureSummary(kind, count, self._shown[kind]) for kind, count in self._counts.most_common()]


class _Totals:
    """Sums by category: statuses (C, 3), and of each figure (C, F, 8) what `_figure` takes."""

    def __init__(self) -> None:
        self._numbers: dict[str | None, int] = {}
        self.statuses = np.zeros((0, len(STATUSES)))
        self.sums = np.zeros((0, len(FIGURES), 8))

    def add(self, table: pa.Table) -> None:
        group = self._groups(table["category"])
        status = pc.fill_null(pc.index_in(table["status"], pa.array(STATUSES)), -1).to_numpy()
        for number in range(len(STATUSES)):
            self.statuses[:, number] += self._sum(group, status == number)
        for number, figure in enumerate(FIGURES):
            before, after = (table[f"{figure}_{when}"].to_numpy() for when in ("before", "after"))
            known = np.isfinite(before) & np.isfinite(after)
            before, after = np.where(known, before, 0.0), np.where(known, after, 0.0)
            gain = before - after if figure in LOWER_IS_BETTER else after - before
            better, worse, far_worse = gain > 0, gain < 0, -gain > 0.01 * np.abs(before)
            terms = (known, before, after, better, worse, far_worse, np.maximum(gain, 0), np.maximum(-gain, 0))
            for term, values in enumerate(terms):
                self.sums[:, number, term] += self._sum(group, values)

    def by_category(self) -> dict[str | None, GroupSummary]:
        return {name: _group(self.statuses[n], self.sums[n]) for name, n in self._numbers.items()}

    def _groups(self, category: pa.ChunkedArray) -> np.ndarray:
        """(N,) number of each row's category; new categories get new numbers."""
        encoded = category.combine_chunks().dictionary_encode(null_encoding="encode")
        names = encoded.dictionary.to_pylist()
        for name in names:
            self._numbers.setdefault(name, len(self._numbers))
        new = len(self._numbers) - len(self.sums)
        self.statuses = np.concatenate([self.statuses, np.zeros((new, *self.statuses.shape[1:]))])
        self.sums = np.concatenate([self.sums, np.zeros((new, *self.sums.shape[1:]))])
        return np.array([self._numbers[name] for name in names], np.int64)[encoded.indices.to_numpy()]

    def _sum(self, group: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.bincount(group, weights=values, minlength=len(self._numbers))


def _group(statuses: np.ndarray, sums: np.ndarray) -> GroupSummary:
    counts = {status: int(count) for status, count in zip(STATUSES, statuses, strict=True)}
    return GroupSummary(counts, {figure: _figure(*map(float, s)) for figure, s in zip(FIGURES, sums, strict=True)})


def _figure(
    count: float,
    before: float,
    after: float,
    better: float,
    worse: float,
    far_worse: float,
    gains: float,
    losses: float,
) -> FigureSummary:
    def ratio(a: float, b: float) -> float | None:
        return a / b if b else None

    return FigureSummary(
        count=int(count),
        before=ratio(before, count),
        after=ratio(after, count),
        relative_change=ratio(after - before, before),
        improved=ratio(better, count),
        worsened=ratio(worse, count),
        worsened_over_1pct=ratio(far_worse, count),
        mean_improvement=ratio(gains, better),
        mean_worsening=ratio(losses, worse),
    )
