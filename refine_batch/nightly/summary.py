"""One page about a night: as JSON for machines, `nightly/<run_id>.json`, and as text for people, `.txt` beside it."""

from __future__ import annotations

from datetime import datetime
from textwrap import wrap
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refine_batch.io.storage import Storage
from refine_batch.job.progress import one_line
from refine_batch.results.durations import duration
from refine_batch.results.schema import FIGURES, LOWER_IS_BETTER

NIGHTS = "nightly"
_WIDTH = 100


class FigureNow(BaseModel):
    """A figure's means over the dataset: before refinement and after, and after it as of the last night."""

    count: int
    before: float | None
    after: float | None
    last: float | None = None
    pairs: dict[str, float] | None = Field(None, description="count, then and now, of the instances refined anew")


class NightSummary(BaseModel):
    """What a night did and what changed since the last one that came to its end."""

    model_config = ConfigDict(extra="ignore")

    summary_version: int = 1
    run_id: str
    previous: str | None = Field(None, description="run id of the last night that came to its end")
    manifest: str | None
    output: str | None
    started_at: datetime
    ended_at: datetime
    as_of: datetime | None = Field(None, description="the newest row of the output; the next night compares with it")
    verdict: Literal["ok", "alert"]
    alerts: list[str]
    rows: int | None = Field(None, description="of the manifest")
    not_in_manifest: int = 0
    counts: dict[str, int] = Field(description="instances of the output by status")
    changes: dict[str, int] = Field(description="instances since the last night")
    failures: list[dict[str, Any]] = Field(default_factory=list, description="of this night's rows, by kind")
    figures: dict[str, FigureNow]
    worst: list[dict[str, Any]] = Field(default_factory=list, description="refined anew, and worse than before")
    steps: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def write(self, storage: Storage) -> None:
        """Put both files into the output folder, the text first: whoever finds the JSON finds both."""
        storage.write(f"{NIGHTS}/{self.run_id}.txt", (self.text() + "\n").encode())
        storage.write(f"{NIGHTS}/{self.run_id}.json", self.model_dump_json(indent=2).encode() + b"\n")

    @classmethod
    def last(cls, storage: Storage) -> NightSummary | None:
        """The newest readable summary of an output."""
        names = [file.path for file in storage.list(NIGHTS) if file.path.endswith(".json")]
        for name in sorted(names, reverse=True):
            try:
                return cls.model_validate_json(storage.read(name))
            except (ValidationError, FileNotFoundError):
                continue  # the lock, or a file of somebody else's
        return None

    def text(self) -> str:
        """One page."""
        return "\n".join(_lines(self))


def _lines(night: NightSummary) -> list[str]:
    changes, counts = night.changes, night.counts
    took = duration((night.ended_at - night.started_at).total_seconds())
    lines = [
        f"refine-batch, night {night.run_id}: {night.verdict.upper()}",
        f"{night.manifest} -> {night.output}",
        f"started {night.started_at:%Y-%m-%d %H:%M} UTC, took {took}; "
        + (f"compared with {night.previous}" if night.previous else "the first night of this output"),
        "",
        # The one thing here that is not to be cut short.
        *(
            line
            for alert in night.alerts
            for line in wrap(f"ALERT  {one_line(alert)}", _WIDTH, subsequent_indent=" " * 7)
        ),
        *([""] if night.alerts else []),
        "Since the last night",
        f"  new {changes['new']}, changed {changes['changed']}, redone {changes['redone']}, "
        f"unchanged {changes['unchanged']}",
        f"  failed {changes['failed']} of these, {changes['newly_failed']} for the first time; "
        f"recovered {changes['recovered']}",
    ]
    for failure in night.failures[:8]:
        lines.append(f"    {failure['count']:>6}  {failure['kind']}")
        lines += [f"            {example['instance_id']}: {example['message']}" for example in failure["examples"][:1]]
    lines += ["", "The dataset now", "  " + ", ".join(f"{status} {number}" for status, number in counts.items())]
    if night.not_in_manifest:
        lines.append(f"  {night.not_in_manifest} instances of the output are no longer in the manifest")
    known = [(name, night.figures[name]) for name in FIGURES if name in night.figures and night.figures[name].count]
    if known:
        lines += ["", f"  {'mean of':<16}{'rows':>9}{'coarse':>10}{'refined':>10}{'last night':>12}{'change':>9}"]
        lines += [f"  {_figure_line(name, figure)}" for name, figure in known]
    anew = [(name, figure.pairs) for name, figure in known if figure.pairs]
    if anew:
        lines += ["", f"  {'refined anew':<16}{'rows':>9}{'then':>10}{'now':>10}"]
        lines += [f"  {name:<16}{int(p['count']):>9}{p['then']:>10.4g}{p['now']:>10.4g}" for name, p in anew]
    if night.worst:
        lines += ["", "Fell most"]
        lines += [f"  {w['figure']:<16}{w['then']:>10.4g} ->{w['now']:>8.4g}  {w['instance_id']}" for w in night.worst]
    lines += ["", "Steps"]
    lines += [f"  {name:<9}{_step(step)}" for name, step in night.steps.items()]
    # Ids and messages are the dataset's: they may hold anything, and be as long as they like.
    return [one if len(one) <= _WIDTH else one[: _WIDTH - 1] + "…" for one in map(_printable, lines)]


def _figure_line(name: str, figure: FigureNow) -> str:
    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:.4g}"

    change = ""
    if figure.last is not None and figure.after is not None and figure.last:
        change = f"{(figure.after - figure.last) / abs(figure.last):+.1%}"
    better = " (less is better)" if name in LOWER_IS_BETTER else ""
    return (
        f"{name:<16}{figure.count:>9}{shown(figure.before):>10}{shown(figure.after):>10}"
        f"{shown(figure.last):>12}{change:>9}{better}"
    )


def _step(step: dict[str, Any]) -> str:
    told = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in step.items() if key != "seconds")
    return f"{duration(step.get('seconds', 0.0))}" + (f": {told}" if told else "")


def _printable(line: str) -> str:
    indent = len(line) - len(line.lstrip(" "))
    # `one_line` joins runs of spaces, which the columns of a table are made of.
    return line if line.isprintable() else " " * indent + one_line(line)
