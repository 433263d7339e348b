"""`refine-batch run`, also the entry point of `ray job submit` as jobs/refine.py."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn, cast

import click

from refine_batch.cli.configuration import as_yaml, build
from refine_batch.cli.group import COMMANDS, Command, did_you_mean
from refine_batch.cli.options import model_options
from refine_batch.config import RefineConfig
from refine_batch.errors import UsageError
from refine_batch.job.options import RunOptions

if TYPE_CHECKING:
    from refine_batch.job.progress import Reporter
    from refine_batch.results.run_record import RunRecord


@click.command(cls=Command, short_help=COMMANDS["run"])
@click.argument("manifest", required=False)
@click.argument("output", required=False)
@model_options({"What the results depend on": RefineConfig, "How and where it is run": RunOptions})
@click.option(
    "--config", "config_file", metavar="FILE", help="Options from a YAML or TOML file; the command line wins."
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any option by its name in --print-config, such as paper.learning_rate=1e-4.",
)
@click.option("--print-config", is_flag=True, help="Print every option with its value and reason, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print the run record as JSON on standard output.")
def run(
    manifest: str | None,
    output: str | None,
    config_file: str | None,
    assignments: tuple[str, ...],
    print_config: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Refine every instance of MANIFEST that OUTPUT does not hold yet.

    MANIFEST is a Parquet, CSV or JSON Lines file (or a folder of Parquet files) and OUTPUT a folder, each a local path
    or a URI such as s3://bucket/key. A run that was interrupted goes on where it was; a complete one does nothing.

    \b
    Exit status
      0  every row of the manifest has a result, and at most --max-failed-fraction of them failed
      1  not so, or the run was stopped
      2  arguments, configuration or manifest cannot be used: nothing was started
    """
    config, run_options = cast(
        tuple[RefineConfig, RunOptions],
        build((RefineConfig, RunOptions), config_file=config_file, assignments=assignments, options=options),
    )
    if print_config:
        click.echo(as_yaml((config, run_options)), nl=False)
        return
    if manifest is None or output is None:
        missing = "MANIFEST" if manifest is None else "OUTPUT"
        raise click.UsageError(f"{missing} is missing: refine-batch run MANIFEST OUTPUT")
    check(config, output)
    from refine_batch.job.driver import run as drive

    reporter = _reporter(run_options, as_json)
    try:
        outcome = drive(manifest, output, config, run_options, reporter=reporter)
    finally:
        reporter.close()
    if as_json:
        click.echo(outcome.record.to_json())
    else:
        summarise(outcome.record)
    leave(outcome.abandoned, outcome.exit_status)


def leave(abandoned: bool, exit_status: int) -> NoReturn:
    """End the process; at once where a Ray that is lost would keep it, and have the last word."""
    sys.stdout.flush()
    sys.stderr.flush()
    if abandoned:
        os._exit(exit_status)
    raise click.exceptions.Exit(exit_status)


def check(config: RefineConfig, output: str) -> None:
    """Find what the driver would only find after it has started a cluster, or says less well. Raises UsageError."""
    from refine_batch.io.uri import is_local, normalise
    from refine_batch.methods.base import BUILT_IN
    from refine_batch.render import load_renderer

    if ":" not in config.method and config.method not in BUILT_IN:
        raise UsageError(
            f"--method is {config.method!r}{did_you_mean(config.method, BUILT_IN)} "
            f"There are {', '.join(BUILT_IN)}, or module:function for one of your own"
        )
    load_renderer(config.renderer)
    place = normalise(output)
    if is_local(place) and os.path.isfile(place):
        raise UsageError(f"OUTPUT is the file {place}, but has to be a folder: refine-batch run MANIFEST OUTPUT")


def _reporter(options: RunOptions, as_json: bool) -> Reporter:
    from refine_batch.job.progress import Lines, Live

    dumb = os.environ.get("TERM", "dumb") == "dumb"
    if sys.stderr.isatty() and not dumb and not as_json:
        return Live()
    return Lines(interval=options.progress_interval)


# Share of a run's rows, and how many at least, whose meshes hardly meet their masks before it is said: single ones are
# usual in a large dataset, and each row has its reason.
MANY_DOUBTFUL, SOME_DOUBTFUL = 0.1, 3


def doubts(record: RunRecord) -> str | None:
    """A sentence where meshes and masks of many rows hardly met, which speaks of the cameras; None where few did."""
    doubtful, done = int(record.totals.get("doubtful", 0)), sum(record.counts.values())
    if doubtful < max(SOME_DOUBTFUL, MANY_DOUBTFUL * done):
        return None
    return (
        f"{doubtful} of {done} meshes hardly meet their masks: are the cameras in the convention that the manifest is "
        f"documented with? Look with: refine-batch validate {record.manifest} --preview page.html"
    )


def summarise(record: RunRecord) -> None:
    """Print what a run did."""
    from refine_batch.cli.console import console, figure, figure_name, plain, table
    from refine_batch.results.durations import duration
    from refine_batch.results.labels import LABELS

    out = console()

    def say(text: str) -> None:
        # No line is broken inside a path that somebody copies.
        out.print(plain(text), soft_wrap=True)

    done, rows = sum(record.counts.values()), record.rows or 0
    if record.outcome == "finished" and done == 0:
        say(f"Nothing to do: {record.output} already holds all {rows} rows of {record.manifest}.")
    else:
        counts = ", ".join(f"{number} {status}" for status, number in record.counts.items()) or "nothing done"
        seconds = (record.ended_at - record.started_at).total_seconds() if record.ended_at else 0.0
        before = f"; {record.skipped} were done before" if record.skipped else ""
        say(f"{done} of {rows} rows in {duration(seconds)}: {counts}{before}.")
    if record.figures:
        figures = table("mean of this run", "before", "after", "rows")
        for name in sorted(record.figures, key=list(LABELS).index):
            values = record.figures[name]
            before_after = [figure(name, values["before"]), figure(name, values["after"])]
            figures.add_row(figure_name(name), *before_after, str(values["count"]))
        out.print(figures)
    if record.not_in_manifest:
        say(f"The output also holds {record.not_in_manifest} rows that the manifest no longer names.")
    if done or record.skipped:
        say(f"Results: {record.output}/results (refine-batch status {record.output})")
    doubt = doubts(record)
    if doubt:
        say(doubt)
    # Last, where a person looks first.
    if record.message:
        say(f"{record.message[0].upper()}{record.message[1:]}.")
