"""`refine-batch synth`."""

from __future__ import annotations

import click

from refine_batch.cli.group import COMMANDS, Command


@click.command(cls=Command, short_help=COMMANDS["synth"])
@click.argument("directory", type=click.Path(file_okay=False))
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="Instances to write: enough to see different shapes, few enough to be refined in minutes.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="The same seed gives the same files.",
)
def synth(directory: str, count: int, seed: int) -> None:
    """Write a synthetic dataset with ground truth into DIRECTORY: coarse meshes, images, cameras and a manifest."""
    from refine_batch.dataset.synth import write_dataset

    manifest = write_dataset(directory, count, seed)
    click.echo(f"{count} instances; manifest: {manifest}")
