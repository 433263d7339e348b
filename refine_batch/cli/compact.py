"""`refine-batch compact`."""

from __future__ import annotations

import click

from refine_batch.cli.group import COMMANDS, Command


@click.command(cls=Command, short_help=COMMANDS["compact"])
@click.argument("output")
@click.option(
    "--target-size",
    type=click.FloatRange(min=0, min_open=True),
    default=128.0,
    show_default=True,
    metavar="MB",
    help="Size of the merged files: large enough to scan fast, small enough to read one by one.",
)
@click.option("--s3-endpoint", metavar="URL", help="URL of an S3-compatible store. By default AWS.")
def compact(output: str, target_size: float, s3_endpoint: str | None) -> None:
    """Merge OUTPUT's small result files and drop rows that newer ones supersede.

    Readers see every row exactly once throughout, and a compaction that is interrupted leaves nothing half done.
    """
    from refine_batch.cli.outputs import open_output
    from refine_batch.results.compact import compact as merge

    done = merge(open_output(output, s3_endpoint), target_bytes=int(target_size * 1e6))
    click.echo(
        f"{done.parts_before} files ({done.bytes_before / 1e6:.1f} MB) became {done.parts_after} "
        f"({done.bytes_after / 1e6:.1f} MB): {done.rows} rows, {done.rows_dropped} superseded ones dropped"
    )
