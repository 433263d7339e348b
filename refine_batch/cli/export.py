"""`refine-batch export`."""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from refine_batch.cli.filenames import FileNames
from refine_batch.cli.group import COMMANDS, Command

if TYPE_CHECKING:
    from refine_batch.io.meshes import MeshFormat
    from refine_batch.io.storage import Storage
    from refine_batch.mesh import Mesh

INDEX = "index.csv"
# Ids that one which is not there is compared with, for a suggestion.
COMPARED = 10_000
INDEX_COLUMNS = ("instance_id", "status", "category", "iou_2d_before", "iou_2d_after")


@click.command(cls=Command, short_help=COMMANDS["export"])
@click.argument("output")
@click.argument("directory")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["obj", "ply", "glb"]),
    default="obj",
    show_default=True,
    help="Of the files. obj, because every program reads it; glb is the smallest.",
)
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only this instance; may be given several times.")
@click.option("--with-coarse", is_flag=True, help="Also write each coarse mesh, read from where the manifest named it.")
@click.option("--s3-endpoint", metavar="URL", help="URL of an S3-compatible store. By default AWS.")
def export(
    output: str,
    directory: str,
    file_format: MeshFormat,
    ids: tuple[str, ...],
    with_coarse: bool,
    s3_endpoint: str | None,
) -> None:
    """Write the meshes of OUTPUT into DIRECTORY, one file per instance, and an index.csv that says which is which.

    File names are made from the instance ids: what a file system cannot hold is replaced and a hash added.
    """
    from refine_batch.cli.outputs import open_output
    from refine_batch.errors import UsageError
    from refine_batch.io.storage import Storage
    from refine_batch.io.uri import is_local, normalise
    from refine_batch.results.labels import printable

    target = Storage(normalise(directory), s3_endpoint)
    if is_local(target.uri) and os.path.isfile(target.uri):
        raise UsageError(f"{target} is a file, but DIRECTORY has to be a folder: refine-batch export OUTPUT DIRECTORY")
    written, problems = write_meshes(
        open_output(output, s3_endpoint), target, file_format, ids=ids, with_coarse=with_coarse
    )
    click.echo(f"{written} meshes and {INDEX} in {target.uri}")
    for problem in problems[:20]:
        click.echo(printable(problem), err=True)
    if len(problems) > 20:
        click.echo(f"and {len(problems) - 20} more", err=True)
    if problems:
        raise click.exceptions.Exit(1)


def write_meshes(
    source: Storage, target: Storage, file_format: MeshFormat, *, ids: tuple[str, ...] = (), with_coarse: bool = False
) -> tuple[int, list[str]]:
    """Write every mesh of an output as a file, and the index; how many were written, and what went wrong.

    The index goes last, so that one that is there is complete.
    """
    from refine_batch.errors import InstanceError
    from refine_batch.io.meshes import write_mesh

    names, problems = FileNames(), []
    index = io.StringIO(newline="")
    sheet = csv.writer(index)
    sheet.writerow(["file", *(["coarse_file"] if with_coarse else []), *INDEX_COLUMNS])
    written, missing = 0, dict.fromkeys(ids)
    for row, mesh in _rows(source, ids):
        name = names.of(row["instance_id"])
        files = [f"{name}.{file_format}"]
        target.write(files[0], write_mesh(mesh, file_format))
        written += 1
        missing.pop(row["instance_id"], None)
        if with_coarse:
            files.append(f"{name}.coarse.{file_format}")
            try:
                target.write(files[1], write_mesh(_coarse(row, source.s3_endpoint), file_format))
            except InstanceError as error:
                problems.append(f"{row['instance_id']}: {error.message}")
                files[1] = ""
        sheet.writerow([*files, *("" if row[column] is None else row[column] for column in INDEX_COLUMNS)])
    target.write(INDEX, index.getvalue().encode("utf-8", "surrogatepass"))
    return written, problems + (_why_missing(source, list(missing)) if missing else [])


def _why_missing(source: Storage, ids: list[str]) -> list[str]:
    """A sentence about each of these instances, of which there is no mesh."""
    from refine_batch.results.live import live_rows

    failed = {name for batch in live_rows(source, ["instance_id"], ids=ids) for name in batch[0].to_pylist()}
    known: list[str] = []
    for batch in live_rows(source, ["instance_id"]):
        known += batch[0].to_pylist()
        if len(known) > COMPARED:
            break
    sentences = []
    for name in ids:
        similar = difflib.get_close_matches(name, known[:COMPARED], n=1)
        unknown = f"no such instance in {source}" + (f"; did you mean {similar[0]}?" if similar else "")
        sentences.append(f"{name}: " + ("it failed, so there is no mesh of it" if name in failed else unknown))
    return sentences


def _rows(source: Storage, ids: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], Mesh]]:
    """The newest row of each instance that has a mesh, and the mesh."""
    import pyarrow.compute as pc

    from refine_batch.results.live import live_rows
    from refine_batch.results.rows import mesh_of

    columns = [*INDEX_COLUMNS, "mesh_uri", "vertices", "faces"]
    for batch in live_rows(source, columns, filter=pc.field("status") != "failed", ids=ids or None):
        small = batch.select([*INDEX_COLUMNS, "mesh_uri"]).to_pylist()
        for i, row in enumerate(small):
            mesh = mesh_of(batch, i)
            if mesh is not None:
                yield row, mesh


def _coarse(row: dict[str, Any], s3_endpoint: str | None) -> Mesh:
    from refine_batch.errors import ErrorKind, InstanceError
    from refine_batch.io.beside import files_beside
    from refine_batch.io.meshes import MAX_MESH_BYTES, parse_mesh
    from refine_batch.io.storage import StorageError, fetch

    try:
        data = fetch(row["mesh_uri"], s3_endpoint=s3_endpoint, max_bytes=MAX_MESH_BYTES)
    except (FileNotFoundError, StorageError) as error:
        raise InstanceError(ErrorKind.MISSING_FILE, f"its coarse mesh cannot be read any more: {error}") from error
    return parse_mesh(data, row["mesh_uri"], sibling=files_beside(row["mesh_uri"], s3_endpoint=s3_endpoint))
