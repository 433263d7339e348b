"""`refine-batch synth`."""

from __future__ import annotations

from typing import Any

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
@click.option(
    "--views",
    type=click.IntRange(min=1, max=64),
    default=1,
    show_default=True,
    metavar="N",
    help="Pictures of each object, evenly round it. 1: single-view reconstruction is what the product is for.",
)
@click.option(
    "--soft-masks", is_flag=True, help="Alpha is the covered share, of every other object blurred. Off: hard."
)
@click.option("--occluders", is_flag=True, help="Something hides a part of each object; ignore_uri says where.")
@click.option("--cut", is_flag=True, help="The picture's frame cuts off a part of each object.")
@click.option("--depth", is_flag=True, help="Relative depth, with noise and in a scale of its own.")
@click.option("--normals", is_flag=True, help="Normals, with noise.")
def synth(directory: str, count: int, seed: int, **extras: Any) -> None:
    """Write a synthetic dataset with ground truth into DIRECTORY: coarse meshes, images, cameras and a manifest."""
    from refine_batch.dataset.synth import SynthOptions, write_dataset

    manifest = write_dataset(directory, count, seed, options=SynthOptions(**extras))
    click.echo(f"{count} instances; manifest: {manifest}")
