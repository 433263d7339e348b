"""The nightly run's command, the entry point of `ray job submit` as jobs/nightly.py."""

from __future__ import annotations

from typing import Any, cast

import click

from refine_batch.cli.configuration import as_yaml, build
from refine_batch.cli.group import Command
from refine_batch.cli.options import model_options
from refine_batch.cli.run import leave
from refine_batch.config import RefineConfig
from refine_batch.job.options import RunOptions
from refine_batch.nightly.options import NightlyOptions


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("manifest", required=False)
@click.argument("output", required=False)
@model_options(
    {
        "The night": NightlyOptions,
        "How and where it is run": RunOptions,
        "What the results depend on": RefineConfig,
    }
)
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
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output, not as text.")
def nightly(
    manifest: str | None,
    output: str | None,
    config_file: str | None,
    assignments: tuple[str, ...],
    print_config: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Refine what is new or changed in MANIFEST, compact OUTPUT, write the report, and summarise the night.

    The summary, one page of what changed since the last night, is printed and kept in OUTPUT/nightly as JSON and text.
    A night refuses to start while another one is at the same OUTPUT. One that was interrupted goes on where it was.

    \b
    Exit status
      0  every row of the manifest has a result and no limit was crossed
      1  not so, or the night was stopped; the summary's alerts say why
      2  arguments, configuration or manifest cannot be used, or another night is at it: nothing was started
    """
    models = (RefineConfig, RunOptions, NightlyOptions)
    built = build(models, config_file=config_file, assignments=assignments, options=options)
    if print_config:
        click.echo(as_yaml(built), nl=False)
        return
    if manifest is None or output is None:
        missing = "MANIFEST" if manifest is None else "OUTPUT"
        raise click.UsageError(f"{missing} is missing: python jobs/nightly.py MANIFEST OUTPUT")
    from refine_batch.job.progress import Lines
    from refine_batch.nightly.night import nightly as spend

    config, run_options, night_options = cast(tuple[RefineConfig, RunOptions, NightlyOptions], built)
    reporter = Lines(interval=run_options.progress_interval)
    night = spend(manifest, output, config, run_options, night_options, reporter=reporter)
    if night.summary is None:
        click.echo(f"The night did not come to its end: {night.record.message}", err=True)
    if as_json:
        click.echo(night.summary.model_dump_json(indent=2) if night.summary else night.record.to_json())
    elif night.summary is not None:
        click.echo(night.summary.text())
    leave(night.abandoned, night.exit_status)
