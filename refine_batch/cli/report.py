"""`refine-batch report`."""

from __future__ import annotations

import click

from refine_batch.cli.group import COMMANDS, Command


@click.command(cls=Command, short_help=COMMANDS["report"])
@click.argument("output")
@click.option(
    "--out",
    "destination",
    default="report.html",
    show_default=True,
    metavar="FILE",
    help="The HTML file: a local path or a URI such as s3://bucket/report.html.",
)
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    default=24,
    show_default=True,
    metavar="N",
    help="Instances shown one by one: the best, the median and the worst, some that were kept and that failed. 24 keep "
    "the file below 15 MB whatever the meshes are.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Of the choice among those kept and failed: the same seed shows the same instances.",
)
@click.option("--s3-endpoint", metavar="URL", help="URL of an S3-compatible store. By default AWS.")
def report(output: str, destination: str, sample: int, seed: int, s3_endpoint: str | None) -> None:
    """Write a page about OUTPUT that opens in any browser, from disk and without a network.

    It shows counts, figures before and after, failures, what was run and its loss curves, and a gallery with each
    image, its silhouettes and its meshes in 3D. Images and meshes are read from where the manifest named them.
    """
    from refine_batch.io.uri import normalise, redact
    from refine_batch.report import write_report

    write_report(output, destination, sample=sample, seed=seed, s3_endpoint=s3_endpoint)
    click.echo(f"report: {redact(normalise(destination))}")
