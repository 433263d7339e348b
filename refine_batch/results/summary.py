"""Counts, figures before and after, and failures of an output, from its small columns only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from refine_batch.io.storage import Storage


@dataclass(frozen=True)
class FigureSummary:
    """One figure over the instances that have it both before and after.

    Shares lie in [0, 1]; `relative_change` is that of the means, `worsened_over_1pct` the share that got worse by more
    than 1 % of its value before.
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
    """Counts and figures of one category, or of all."""

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
    overall: GroupSummary
    categories: dict[str | None, GroupSummary]
    failures: list[FailureSummary]
    kept_reasons: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        raise NotImplementedError


def summarise(storage: Storage, *, run_id: str | None = None, examples: int = 3) -> Summary:
    """Summarise the newest rows of an output, or those that one run wrote."""
    raise NotImplementedError
