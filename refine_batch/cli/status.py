"""`refine-batch status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from refine_batch.cli.group import COMMANDS, Command

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from refine_batch.results.lock import Holder
    from refine_batch.results.run_record import RunRecord
    from refine_batch.results.summary import FailureSummary, GroupSummary, Summary


# Of the newest run, with --json.
LAST_RUN = ("run_id", "manifest", "started_at", "ended_at", "outcome", "exit_status", "message", "counts", "skipped")
# Of whoever holds the output's lock, with --json.
HOLDER = ("run_id", "purpose", "host", "pid", "started_at", "heartbeat_at")
_STATES = {
    "running": "still running",
    "killed": "killed; the same command goes on from there",
    "unknown": "killed, or cut off from the output for longer than its lock lasts; the same command goes on from there",
}


@click.command(cls=Command, short_help=COMMANDS["status"])
@click.argument("output")
@click.option("--by", type=click.Choice(["category"]), help="Figures per category, even if there is only one.")
@click.option(
    "--paper-table",
    is_flag=True,
    help="Only the table that papers print: each figure before and after with its change, and the shares of instances "
    "that improved and worsened and by how much; with --by category a row for each.",
)
@click.option(
    "--format",
    "table_format",
    type=click.Choice(["text", "markdown", "latex", "csv"]),
    help="Of --paper-table.  [default: text]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the same as JSON.")
@click.option("--s3-endpoint", metavar="URL", help="URL of an S3-compatible store. By default AWS.")
def status(
    output: str,
    by: str | None,
    paper_table: bool,
    table_format: str | None,
    as_json: bool,
    s3_endpoint: str | None,
) -> None:
    """Show what OUTPUT holds: counts by status, figures before and after, by category, and what failed and why."""
    from refine_batch.cli.console import console, plain, print_json
    from refine_batch.cli.outputs import open_output
    from refine_batch.results.lock import holder_of
    from refine_batch.results.run_record import RunRecord
    from refine_batch.results.summary import summarise

    if table_format and not paper_table:
        raise click.UsageError("--format is an option of --paper-table")
    if paper_table and as_json:
        raise click.UsageError("--paper-table and --json are two; --json holds all that is in the table")
    storage = open_output(output, s3_endpoint, begun=not paper_table)
    summary = summarise(storage)
    last = next(iter(RunRecord.load_latest(storage, 1)), None)
    holder = holder_of(storage)
    if as_json:
        lock = holder and {name: getattr(holder, name) for name in HOLDER} | {"state": holder.state()}
        shown = last and last.model_dump(mode="json", include=set(LAST_RUN))
        print_json(summary.to_dict() | {"last_run": shown, "lock": lock})
    elif paper_table:
        show_paper_table(summary, table_format or "text", by_category=by == "category")
    else:
        show(summary, console(), by_category=by == "category")
        if last is not None:
            show_last_run(last, console(), holder)
        if holder is not None and (last is None or last.outcome != "running"):
            # It has not come to its record yet, or is a compaction.
            console().print(plain(f"\n{holder}: {_STATES[holder.state()]}"), soft_wrap=True)


def show_last_run(run: RunRecord, out: Console, holder: Holder | None = None) -> None:
    """Print how the newest run ended, or whether it goes on, which who holds the output's lock tells."""
    from refine_batch.cli.console import plain
    from refine_batch.results.durations import duration

    out.print()
    text = f"last run {run.run_id}, started {run.started_at:%Y-%m-%d %H:%M} UTC: "
    if run.outcome == "running":
        text += _STATES[holder.state() if holder is not None else "killed"]
        text += f" ({holder})" if holder is not None else ""
    else:
        seconds = (run.ended_at - run.started_at).total_seconds() if run.ended_at else 0.0
        counts = ", ".join(f"{number} {status}" for status, number in run.counts.items()) or "nothing done"
        text += f"{run.outcome} after {duration(seconds)} with exit status {run.exit_status}; {counts}"
        text += f"; {run.skipped} done before" if run.skipped else ""
    out.print(plain(text), soft_wrap=True)
    if run.message:
        out.print(plain(run.message), soft_wrap=True)
    spent = _time_spent(run)
    if spent:
        out.print(plain(spent), soft_wrap=True)


def _time_spent(run: RunRecord) -> str:
    """Where the actors' time went, by stage, in seconds an instance; empty where the record does not say."""
    rows, totals = sum(run.counts.values()), run.totals
    stages = {name.removeprefix("seconds_"): s for name, s in totals.items() if name.startswith("seconds_")}
    if not rows or not stages:
        return ""
    each = ", ".join(f"{name} {seconds / rows:.3g}" for name, seconds in stages.items())
    text = f"where its time went, seconds an instance: {each}"
    busy, idle = totals.get("device_busy", 0.0), totals.get("device_idle", 0.0)
    return text + (f"; devices busy {busy / (busy + idle):.0%} of the time" if busy else "")


def show_paper_table(summary: Summary, table_format: str, *, by_category: bool) -> None:
    """Print the paper's table; what is not in it goes to standard error, so that a file holds the table alone."""
    from refine_batch.cli.console import console
    from refine_batch.cli.paper_table import FORMATS, print_text
    from refine_batch.results.paper_table import paper_table as make_table

    tables = make_table(summary, by_category=by_category)
    if not tables:
        click.echo("no instance has a figure of merit", err=True)
    elif table_format == "text":
        print_text(tables, console())
    else:
        click.echo(FORMATS[table_format](tables), nl=False)
    failed = summary.overall.counts.get("failed", 0)
    if failed:
        click.echo(f"{failed} failed instances are not in the table", err=True)


def show(summary: Summary, out: Console, *, by_category: bool = False) -> None:
    """Print a summary as tables; the one of categories where there are several, or it is asked for."""
    from refine_batch.cli.console import plain, table

    counts = summary.overall.counts
    total = sum(counts.values())
    shares = table("status", "instances", "share")
    for name in ("refined", "kept", "failed"):
        shares.add_row(name, str(counts.get(name, 0)), f"{counts.get(name, 0) / max(total, 1):.1%}")
    shares.add_row("all", str(total), "")
    out.print(shares)
    if summary.overall.figures:
        out.print()
        out.print(_figures(summary.overall))
    if len(summary.categories) > 1 or (by_category and summary.categories):
        out.print()
        out.print(_categories(summary))
    for failure in summary.failures:
        out.print()
        _show_failure(failure, out)
    if summary.kept_reasons:
        out.print()
        out.print("kept as they were, because")
        for reason, number in summary.kept_reasons.items():
            out.print(plain(f"  {number} × {reason}"))


def _figures(group: GroupSummary) -> Table:
    from refine_batch.cli.console import figure, figure_name, percent, table

    made = table("mean", "before", "after", "change", "improved", "worsened", "instances")
    for name, values in group.figures.items():
        if not values.count:
            continue
        made.add_row(
            figure_name(name),
            figure(name, values.before),
            figure(name, values.after),
            percent(values.relative_change, signed=True),
            percent(values.improved),
            percent(values.worsened),
            str(values.count),
        )
    return made


def _categories(summary: Summary) -> Table:
    from refine_batch.cli.console import figure, figure_name, plain, table

    names = [name for name in ("iou_2d", "chamfer_l2", "f_score") if summary.overall.figures[name].count]
    made = table("category", "instances", "failed", *(figure_name(name) for name in names))
    for category, group in summary.categories.items():
        cells = [
            f"{figure(name, known.before)} → {figure(name, known.after)}"
            if (known := group.figures[name]).count
            else "–"
            for name in names
        ]
        label = plain("(none)" if category is None else category)
        made.add_row(label, str(sum(group.counts.values())), str(group.counts.get("failed", 0)), *cells)
    return made


def _show_failure(failure: FailureSummary, out: Console) -> None:
    from refine_batch.cli.console import plain

    out.print(plain(f"{failure.count} failed with {failure.kind}"))
    for instance_id, message in failure.examples:
        out.print(plain(f"  {instance_id}: {message}"), soft_wrap=True)
    if failure.count > len(failure.examples):
        out.print(f"  and {failure.count - len(failure.examples)} more")
