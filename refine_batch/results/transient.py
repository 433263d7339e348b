"""Which failed rows a later run takes up by itself: those whose failure may pass, a bounded number of times.

The count stands in the row (`transient_runs`) and belongs to its fingerprint: a row that changed starts anew.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from refine_batch.errors import ErrorKind

Runs = TypeVar("Runs", int, np.ndarray)

_TRANSIENT = frozenset(str(kind) for kind in ErrorKind if kind.transient)
# The largest count an index tells apart; nobody waits for so many runs.
MOST_RUNS = 255


def runs_failed(kind: str | None, before: int = 0) -> int:
    """Runs in a row that failed for a reason that may pass, this one included; 0 for any other outcome.

    Parameters
    ----------
    kind
        This run's `error_kind`; None where the row did not fail.
    before
        What the row that it replaces says, if that has the same fingerprint.
    """
    return before + 1 if kind in _TRANSIENT else 0


def wants_retry(runs: Runs, limit: int) -> Runs:
    """Whether rows with these `transient_runs` (0 for none) are taken up again, after at most `limit` runs in all."""
    return (runs > 0) & (runs < limit)
