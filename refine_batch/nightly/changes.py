"""What an output holds that it did not hold at an earlier moment: new, changed, redone and failed instances.

The moment is a `refined_at`: rows are never dated before rows that were there already, so all that came since is later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refine_batch.io.storage import Storage
from refine_batch.results.index import NO_TIME, IdSet, ScannedParts, restarting, scan
from refine_batch.results.parts import open_part, read_row_groups
from refine_batch.results.schema import FIGURES, LOWER_IS_BETTER, STATUSES

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FAILED = STATUSES.index("failed")
_AFTER = tuple(f"{figure}_after" for figure in FIGURES)
_EXAMPLES = 3


@dataclass(frozen=True)
class Pairs:
    """A figure after refinement, then and now, over the instances refined anew that have it both times."""

    count: int
    then: float
    now: float


@dataclass(frozen=True)
class Moved:
    """An instance whose figure got worse when it was refined anew."""

    instance_id: str
    figure: str
    then: float
    now: float


@dataclass(frozen=True)
class Changes:
    """Instances by what became of them since.

    Parameters
    ----------
    new, changed, redone, unchanged
        Not there then; refined anew because their inputs, options, method or algorithm changed; refined anew although
        nothing did (retries, `--force`); as they were.
    failed
        Of the first three, those whose newest row is a failure; `newly_failed` did not fail then (or were not there).
    recovered
        Failed then and not now.
    failures
        Of `failed`: kind, count and examples (instance_id, message).
    pairs
        By figure.
    worst
        The instances whose figures fell most.
    as_of
        The latest `refined_at` of the output; None where it is empty.
    """

    new: int
    changed: int
    redone: int
    unchanged: int
    failed: int
    newly_failed: int
    recovered: int
    failures: list[tuple[str, int, list[tuple[str, str]]]]
    pairs: dict[str, Pairs]
    worst: list[Moved]
    as_of: datetime | None

    @property
    def increment(self) -> int:
        """Instances with a row that is new since then."""
        return self.new + self.changed + self.redone


def changes_since(storage: Storage, then: datetime | None, *, worst: int = 5) -> Changes:
    """Compare an output with what it was at `then` (None: empty).

    Reads the key columns of every row and the figures of those that changed. Rows that a compaction has dropped since
    `then` are not there to compare with: their instances count as new. So a night looks before it compacts.
    """
    return restarting(lambda: _changes(storage, scan(storage), then, worst))


def _changes(storage: Storage, rows: ScannedParts, then: datetime | None, worst: int) -> Changes:
    cutoff = NO_TIME if then is None else (then - _EPOCH) // timedelta(microseconds=1)
    late = rows.newest & (rows.at > cutoff)
    before = _newest_until(rows, cutoff)
    # For each late row the number of its instance's row of then, -1 where there was none.
    at = np.flatnonzero(late)
    known = np.flatnonzero(before)
    older = IdSet(rows.ids[known])
    found = older.find(rows.ids[at])
    partner = np.full(len(at), -1, np.int64)
    partner[found >= 0] = known[older.order[found[found >= 0]]]
    had = partner >= 0
    same = had & (rows.fingerprints[at] == rows.fingerprints[partner])
    fails, failed_then = rows.status[at] == _FAILED, had & (rows.status[partner] == _FAILED)
    pairs, moved = _figures(storage, rows, at[had], partner[had], worst)
    latest = int(rows.at.max()) if len(rows.at) else NO_TIME
    return Changes(
        new=int((~had).sum()),
        changed=int((had & ~same).sum()),
        redone=int(same.sum()),
        unchanged=int(rows.newest.sum()) - len(at),
        failed=int(fails.sum()),
        newly_failed=int((fails & ~failed_then).sum()),
        recovered=int((failed_then & ~fails).sum()),
        failures=_failures(storage, rows, at[fails]),
        pairs=pairs,
        worst=moved,
        as_of=None if latest == NO_TIME else _EPOCH + timedelta(microseconds=latest),
    )


def _newest_until(rows: ScannedParts, cutoff: int) -> np.ndarray:
    """(R,) bool: the newest row of each instance among those not later than `cutoff`."""
    early = np.flatnonzero(rows.at <= cutoff) if cutoff != NO_TIME else np.empty(0, np.int64)
    ids, at = rows.ids[early], rows.at[early]
    order = np.lexsort((at, ids["low"], ids["high"]))
    last = np.ones(len(early), bool)
    last[:-1] = ids[order][1:] != ids[order][:-1]
    chosen = np.zeros(len(rows.at), bool)
    chosen[early[order[last]]] = True
    return chosen


def _rows_at(
    storage: Storage, rows: ScannedParts, at: np.ndarray, columns: Sequence[str]
) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """The rows numbered `at`, in ascending order: a part's numbers and its table."""
    at = np.sort(at)
    for part, (start, end) in zip(rows.parts, pairwise(rows.bounds()), strict=True):
        inside = at[(at >= start) & (at < end)]
        if len(inside):
            with open_part(storage, part) as file:
                table = read_row_groups(file, range(file.num_row_groups), columns)
            yield inside, table.take(pa.array(inside - start))


def _failures(storage: Storage, rows: ScannedParts, at: np.ndarray) -> list[tuple[str, int, list[tuple[str, str]]]]:
    counts: Counter[str] = Counter()
    examples: dict[str, list[tuple[str, str]]] = {}
    for _, table in _rows_at(storage, rows, at, ("instance_id", "error_kind", "error_message")):
        for entry in pc.value_counts(pc.fill_null(table["error_kind"], "unknown")).to_pylist():
            counts[entry["values"]] += entry["counts"]
        for row in table.slice(0, 1000).to_pylist():
            shown = examples.setdefault(row["error_kind"] or "unknown", [])
            if len(shown) < _EXAMPLES:
                shown.append((row["instance_id"], row["error_message"] or ""))
    return [(kind, count, examples.get(kind, [])) for kind, count in counts.most_common()]


def _figures(
    storage: Storage, rows: ScannedParts, now: np.ndarray, then: np.ndarray, worst: int
) -> tuple[dict[str, Pairs], list[Moved]]:
    """Figures of the same instances, then and now: `now[i]` and `then[i]` are rows of one instance."""
    ids = np.empty(len(now), object)
    values = np.full((2, len(now), len(FIGURES)), np.nan)
    for time, numbers in enumerate((then, now)):
        order = np.argsort(numbers)
        for at, table in _rows_at(storage, rows, numbers, ("instance_id", *_AFTER)):
            places = order[np.searchsorted(numbers[order], at)]
            ids[places] = table["instance_id"].to_pylist()
            for number, column in enumerate(_AFTER):
                values[time, places, number] = table[column].to_numpy()
    pairs: dict[str, Pairs] = {}
    moved: list[tuple[float, Moved]] = []
    for number, figure in enumerate(FIGURES):
        old, new = values[0, :, number], values[1, :, number]
        both = np.flatnonzero(np.isfinite(old) & np.isfinite(new))
        if not len(both):
            continue
        pairs[figure] = Pairs(len(both), float(old[both].mean()), float(new[both].mean()))
        fall = relative_worsening(figure, old[both], new[both])
        for place in np.argsort(-fall)[:worst]:
            if fall[place] > 0:
                row = both[place]
                moved.append((float(fall[place]), Moved(ids[row], figure, float(old[row]), float(new[row]))))
    moved.sort(key=lambda entry: -entry[0])
    return pairs, [entry for _, entry in moved[:worst]]


def relative_worsening(figure: str, then: np.ndarray | float, now: np.ndarray | float) -> np.ndarray:
    """By how much of its value a figure got worse; negative where it got better."""
    loss = np.subtract(now, then) if figure in LOWER_IS_BETTER else np.subtract(then, now)
    # A figure that was zero has nothing to be relative to; one of a millionth stands for it.
    return loss / np.maximum(np.abs(then), 1e-6)
