"""What makes a night end with an alert."""

from __future__ import annotations

from collections.abc import Mapping

from refine_batch.nightly.changes import Changes, relative_worsening
from refine_batch.nightly.options import NightlyOptions
from refine_batch.nightly.summary import FigureNow
from refine_batch.results.schema import LOWER_IS_BETTER

# Of fewer rows neither a share nor a mean says much.
ENOUGH = 10


def crossed(options: NightlyOptions, changes: Changes, figures: Mapping[str, FigureNow]) -> list[str]:
    """Every limit that was crossed, as a sentence; empty where none was."""
    alerts = []
    limits = options.limits()
    done, failed = changes.increment, changes.failed
    if done >= ENOUGH and failed > options.max_increment_failed * done:
        alerts.append(
            f"{failed} of the {done} rows done since the last night failed ({failed / done:.0%}), more than "
            f"--max-increment-failed {options.max_increment_failed:g} allows"
        )
    for name, figure in figures.items():
        alerts += _regressions(name, figure, options.max_regression)
        limit = limits.get(name)
        if limit is not None and figure.after is not None:
            low = name in LOWER_IS_BETTER
            if figure.after > limit if low else figure.after < limit:
                alerts.append(
                    f"mean {name} is {figure.after:.4g}, {'above' if low else 'below'} its limit of {limit:g}"
                )
    for name in limits:
        if name not in figures or figures[name].after is None:
            alerts.append(f"mean {name} has a limit, but no instance has that figure")
    return alerts


def _regressions(name: str, figure: FigureNow, most: float) -> list[str]:
    alerts = []
    compared = [("the dataset", figure.count, figure.last, figure.after)]
    if figure.pairs:
        pairs = figure.pairs
        compared.append(("the instances refined anew", int(pairs["count"]), pairs["then"], pairs["now"]))
    for what, count, then, now in compared:
        if count < ENOUGH or then is None or now is None:
            continue
        worse = float(relative_worsening(name, then, now))
        if worse > most:
            alerts.append(
                f"mean {name} of {what} went from {then:.4g} to {now:.4g}, {worse:.1%} worse; --max-regression allows "
                f"{most:.1%}"
            )
    return alerts
