"""Running means of the figures, before and after, over the rows a run has finished."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from refine_batch.job.batch import RowOutcome


@dataclass
class _Sums:
    count: int = 0
    before: float = 0.0
    after: float = 0.0


@dataclass
class Tally:
    """Sums over the rows that have a figure both before and after."""

    seconds: float = 0.0
    _sums: defaultdict[str, _Sums] = field(default_factory=lambda: defaultdict(_Sums))

    def add(self, outcomes: Iterable[RowOutcome]) -> None:
        for outcome in outcomes:
            self.seconds += outcome.seconds
            for name in outcome.before.keys() & outcome.after.keys():
                sums = self._sums[name]
                sums.count += 1
                sums.before += outcome.before[name]
                sums.after += outcome.after[name]

    def mean(self, name: str) -> tuple[float, float] | None:
        """Mean (before, after) of a figure; None where no row has it."""
        sums = self._sums.get(name)
        return (sums.before / sums.count, sums.after / sums.count) if sums else None

    def means(self) -> dict[str, dict[str, float]]:
        """By figure: the mean before and after, and over how many rows."""
        return {
            name: {"before": sums.before / sums.count, "after": sums.after / sums.count, "count": sums.count}
            for name, sums in sorted(self._sums.items())
        }
