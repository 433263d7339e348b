"""`refine-batch export`."""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

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
    type=click.Choice(["obj", "ply", "glb", "source"]),
    default="obj",
    show_default=True,
    help="Of the files. obj, because every program reads it; glb is the smallest; these three are bare triangles. "
    "source: each coarse file itself with moved positions, its materials, textures, colours and nodes as they were.",
)
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only this instance; may be given several times.")
@click.option("--with-coarse", is_flag=True, help="Also write each coarse mesh, read from where the manifest named it.")
@click.option("--s3-endpoint", metavar="URL", help="URL of an S3-compatible store. By default AWS.")
def export(
    output: str,
    directory: str,
    file_format: MeshFormat | Literal["source"],
    ids: tuple[str, ...],
    with_coarse: bool,
    s3_endpoint: str | None,
) -> None:
    """Write the meshes of OUTPUT into DIRECTORY, one file per instance, and an index.csv that says which is which.

    File names are made from the instance ids: what a file system cannot hold is replaced and a hash added. With
    --format source the coarse files are read again from where the manifest named them; one that is gone or has changed
    is named, and the others are written. What a file keeps beside it (buffers, materials, textures) is copied with it,
    into a folder of the instance's own.
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
    source: Storage,
    target: Storage,
    file_format: MeshFormat | Literal["source"],
    *,
    ids: tuple[str, ...] = (),
    with_coarse: bool = False,
) -> tuple[int, list[str]]:
    """Write every mesh of an output as a file, and the index; how many were written, and what went wrong.

    The index goes last, so that one that is there is complete.
    """
    from refine_batch.errors import InstanceError

    names, problems = FileNames(), []
    index = io.StringIO(newline="")
    sheet = csv.writer(index)
    sheet.writerow(["file", *(["coarse_file"] if with_coarse else []), *INDEX_COLUMNS])
    written, missing = 0, dict.fromkeys(ids)
    for row, mesh in _rows(source, ids):
        name = names.of(row["instance_id"])
        missing.pop(row["instance_id"], None)
        try:
            path, *notes = _write_mesh(target, name, row, mesh, file_format, source.s3_endpoint)
        except InstanceError as error:
            problems.append(f"{row['instance_id']}: {error.message}")
            continue
        problems += [f"{row['instance_id']}: {note}" for note in notes]
        written += 1
        files = [path]
        if with_coarse:
            try:
                files += _write_coarse(target, f"{name}.coarse", row, file_format, source.s3_endpoint)
            except InstanceError as error:
                problems.append(f"{row['instance_id']}: {error.message}")
                files.append("")
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


def _write_mesh(
    target: Storage,
    name: str,
    row: dict[str, Any],
    mesh: Mesh,
    file_format: MeshFormat | Literal["source"],
    s3_endpoint: str | None,
) -> list[str]:
    """The path that was written, then sentences about what was not."""
    from refine_batch.cli.source_files import write_source
    from refine_batch.io.meshes import write_mesh

    if file_format == "source":
        return write_source(target, name, row, mesh, s3_endpoint)
    path = f"{name}.{file_format}"
    target.write(path, write_mesh(mesh, file_format))
    return [path]


def _write_coarse(
    target: Storage,
    name: str,
    row: dict[str, Any],
    file_format: MeshFormat | Literal["source"],
    s3_endpoint: str | None,
) -> list[str]:
    """The path of the coarse mesh, read from where the manifest named it."""
    from refine_batch.cli.source_files import fetch_coarse, write_source
    from refine_batch.io.beside import files_beside
    from refine_batch.io.meshes import parse_mesh, write_mesh
    from refine_batch.io.uri import redact

    uri = row["mesh_uri"]
    data = fetch_coarse(uri, s3_endpoint)
    mesh = parse_mesh(data, redact(uri), sibling=files_beside(uri, s3_endpoint=s3_endpoint))
    if file_format == "source":
        return write_source(target, name, row, mesh, s3_endpoint)[:1]
    path = f"{name}.{file_format}"
    target.write(path, write_mesh(mesh, file_format))
    return [path]
