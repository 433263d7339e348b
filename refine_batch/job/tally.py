"""Running means of the figures, before and after, over the rows a run has finished, and where its time went."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from refine_batch.job.batch import Report


@dataclass
class _Sums:
    count: int = 0
    before: float = 0.0
    after: float = 0.0


@dataclass
class Tally:
    """Sums over the rows that have a figure both before and after; `stages` in seconds of one core or
    device, and for how many seconds devices were busy and idle.
    """

    seconds: float = 0.0
    doubtful: int = 0
    busy: float = 0.0
    idle: float = 0.0
    stages: Counter[str] = field(default_factory=Counter)
    _sums: defaultdict[str, _Sums] = field(default_factory=lambda: defaultdict(_Sums))

    def add(self, report: Report) -> None:
        self.seconds += report.seconds
        self.doubtful += report.doubtful
        self.stages.update(report.stages)
        self.busy, self.idle = self.busy + report.device[0], self.idle + report.device[1]
        for name, (count, before, after) in report.figures.items():
            sums = self._sums[name]
            sums.count += count
            sums.before += before
            sums.after += after

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
