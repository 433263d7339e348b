"""`refine-batch export`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import click

from refine_batch.cli.export_sinks import CAMERA_COLUMNS, INDEX_COLUMNS, Folder, Index, IndexFormat, Shards, Sink
from refine_batch.cli.filenames import FileNames
from refine_batch.cli.group import COMMANDS, Command

if TYPE_CHECKING:
    from refine_batch.io.meshes import MeshFormat
    from refine_batch.io.storage import Storage
    from refine_batch.mesh import Mesh

# Ids that one which is not there is compared with, for a suggestion.
COMPARED = 10_000


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
@click.option(
    "--into",
    type=click.Choice(["folder", "tar"]),
    default="folder",
    show_default=True,
    help="folder: each file by itself. tar: shards that webdataset reads, NAME.json beside NAME.glb, where there "
    "are more files than a file system likes.",
)
@click.option(
    "--shard-mb",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    metavar="N",
    help="Of --into tar: megabytes after which a shard is closed.",
)
@click.option(
    "--index",
    "index_format",
    type=click.Choice(["csv", "parquet"]),
    default="csv",
    show_default=True,
    help="Of the file that says which file is which instance: index.csv or index.parquet.",
)
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only this instance; may be given several times.")
@click.option("--with-coarse", is_flag=True, help="Also write each coarse mesh, read from where the manifest named it.")
@click.option("--s3-endpoint", metavar="URL", help="URL of an S3-compatible store. By default AWS.")
def export(
    output: str,
    directory: str,
    file_format: MeshFormat | Literal["source"],
    into: Literal["folder", "tar"],
    shard_mb: int,
    index_format: IndexFormat,
    ids: tuple[str, ...],
    with_coarse: bool,
    s3_endpoint: str | None,
) -> None:
    """Write the meshes of OUTPUT into DIRECTORY, one file per instance, and an index that says which is which.

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
        open_output(output, s3_endpoint),
        target,
        file_format,
        ids=ids,
        with_coarse=with_coarse,
        shard_bytes=shard_mb * 1_000_000 if into == "tar" else None,
        index_format=index_format,
    )
    click.echo(f"{written} meshes and index.{index_format} in {target.uri}")
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
    shard_bytes: int | None = None,
    index_format: IndexFormat = "csv",
) -> tuple[int, list[str]]:
    """Write every mesh of an output as a file, and the index; how many were written, and what went wrong.

    With `shard_bytes` the files go into tar shards of about that size.

    The index goes last, so that one that is there is complete.
    """
    from refine_batch.errors import InstanceError

    # In a shard what follows a name's first dot tells the kind of file.
    names, problems = FileNames(dots=shard_bytes is None), []
    sink: Sink = Folder(target) if shard_bytes is None else Shards(target, shard_bytes)
    more = [*(["coarse_file"] if with_coarse else []), *([] if shard_bytes is None else ["shard"])]
    index = Index(("file", *more, *INDEX_COLUMNS))
    written, missing = 0, dict.fromkeys(ids)
    for row, mesh in _rows(source, ids):
        name = names.of(row["instance_id"])
        missing.pop(row["instance_id"], None)
        try:
            path, *notes = _write_mesh(sink, name, row, mesh, file_format, source.s3_endpoint)
        except InstanceError as error:
            problems.append(f"{row['instance_id']}: {error.message}")
            continue
        problems += [f"{row['instance_id']}: {note}" for note in notes]
        written += 1
        files = [path]
        if with_coarse:
            try:
                files += _write_coarse(sink, f"{name}.coarse", row, file_format, source.s3_endpoint)
            except InstanceError as error:
                problems.append(f"{row['instance_id']}: {error.message}")
                files.append("")
        shard = [] if shard_bytes is None else [sink.place]
        sink.finish(row, name)
        index.add(*files, *shard, *(row[column] for column in INDEX_COLUMNS))
    sink.close()
    index.write(target, index_format)
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

    small_columns = [*INDEX_COLUMNS, *CAMERA_COLUMNS, "mesh_uri"]
    columns = [*small_columns, "vertices", "faces"]
    for batch in live_rows(source, columns, filter=pc.field("status") != "failed", ids=ids or None):
        small = batch.select(small_columns).to_pylist()
        for i, row in enumerate(small):
            mesh = mesh_of(batch, i)
            if mesh is not None:
                yield row, mesh


def _write_mesh(
    target: Sink,
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
    target: Sink,
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
