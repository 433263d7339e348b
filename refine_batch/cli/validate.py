"""`refine-batch validate`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
from pydantic import ValidationError

from refine_batch.cli.group import COMMANDS, Command
from refine_batch.cli.options import model_options
from refine_batch.config import PictureOptions, RefineConfig

if TYPE_CHECKING:
    import pyarrow as pa

    from refine_batch.dataset.diagnosis.diagnose import Diagnosis
    from refine_batch.dataset.manifest import Manifest
    from refine_batch.dataset.row import ManifestRow
    from refine_batch.dataset.stamps import InputStamper

READERS = 8


@dataclass(frozen=True)
class Finding:
    """Something wrong with one row; `row` counts from 1."""

    row: int
    instance_id: str
    kind: str
    message: str


@click.command(cls=Command, short_help=COMMANDS["validate"])
@click.argument("manifest")
@click.option(
    "--deep",
    is_flag=True,
    help="Also read every mesh and image, as a run would. Off, because that moves the whole dataset.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows.")
@click.option(
    "--preview",
    "page",
    metavar="FILE.html",
    help="Write a page of up to 24 rows with the coarse meshes' outlines over their pictures, and say which usual "
    "mistake about cameras, if any, keeps them from meeting.",
)
@click.option(
    "--show",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    metavar="N",
    help="Findings printed, so that a terminal holds them; all are counted.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--s3-endpoint", metavar="URL", help="URL of an S3-compatible store. By default AWS.")
@model_options({"How pictures are read with --deep and --preview, as in run": PictureOptions})
def validate(
    manifest: str,
    deep: bool,
    limit: int | None,
    page: str | None,
    show: int,
    as_json: bool,
    s3_endpoint: str | None,
    **pictures: str | None,
) -> None:
    """Check every row of MANIFEST without refining: its values, that its files exist and, with --deep, their content.

    Exit status: 0 when every row can be refined, 1 when one cannot, 2 when the manifest itself cannot be used.
    """
    from refine_batch.cli.console import console, plain, print_json, table
    from refine_batch.dataset.manifest import Manifest

    if page:
        from refine_batch.report.report import check_destination

        check_destination(page)
    opened = Manifest.open(manifest, s3_endpoint)
    rows = opened.check_ids()
    rows = min(rows, limit) if limit else rows
    findings: list[Finding] = []
    bad: set[int] = set()
    config = RefineConfig(picture=_options(pictures))
    for finding in examine(opened, deep=deep, limit=limit, config=config):
        bad.add(finding.row)
        if as_json or len(findings) < show:
            findings.append(finding)
    diagnosis = _preview(opened, rows, page, config.picture) if page else None
    if as_json:
        found_json = {"rows": rows, "bad": len(bad), "findings": [vars(finding) for finding in findings]}
        print_json(found_json | ({"diagnosis": diagnosis.as_json()} if diagnosis else {}))
    else:
        out = console()
        if findings:
            found = table("row", "instance", "what", "why", numbers_from=99)
            for finding in findings:
                found.add_row(str(finding.row), plain(finding.instance_id), finding.kind, plain(finding.message))
            out.print(found)
        if opened.ignored_columns:
            out.print(plain(f"columns that mean nothing here are ignored: {', '.join(opened.ignored_columns)}"))
        for note in opened.notes:
            out.print(plain(note), soft_wrap=True)
        good = f"all {rows} rows can be refined" if not bad else f"{len(bad)} of {rows} rows cannot be refined"
        out.print(good + ("" if deep or bad else "; --deep also reads their meshes and images"))
        if diagnosis:
            out.print(plain(f"cameras: {diagnosis}"), soft_wrap=True)
            out.print(plain(f"the page is {page}"), soft_wrap=True)
    raise click.exceptions.Exit(1 if bad else 0)


def _options(given: dict[str, str | None]) -> PictureOptions:
    try:
        return PictureOptions.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        fault = error.errors()[0]
        raise click.BadParameter(str(fault["msg"]), param_hint=f"--{str(fault['loc'][0]).replace('_', '-')}") from None


def _preview(manifest: Manifest, rows: int, page: str, options: PictureOptions) -> Diagnosis:
    from refine_batch.report.preview import preview
    from refine_batch.report.report import write_page

    made = preview(manifest, rows, options=options)
    write_page(made.html, page, manifest.s3_endpoint)
    return made.diagnosis


def examine(
    manifest: Manifest, *, deep: bool = False, limit: int | None = None, config: RefineConfig | None = None
) -> Iterator[Finding]:
    """Everything that would make a row of `manifest` fail, as far as it can be told before refining.

    `config` says how pictures are read; by default the defaults.
    """
    from refine_batch.dataset.row import ManifestRow
    from refine_batch.dataset.stamps import InputStamper

    stamper = InputStamper(manifest.s3_endpoint)
    before = 0
    with ThreadPoolExecutor(READERS) as readers:
        for batch in manifest.batches():
            if limit is not None:
                batch = batch.slice(0, limit - before)
            rows = [ManifestRow.from_batch(batch, i) for i in range(batch.num_rows)]
            missing = _missing_files(batch, stamper)
            content = readers.map(lambda row: _content(row, config, manifest.s3_endpoint), rows if deep else [])
            for i, row in enumerate(rows):
                found = list(missing.get(i, []))
                problem = row.problem()
                if problem is not None:
                    found.append((str(problem.kind), problem.message))
                inside = next(content) if deep else []
                for kind, message in found or inside:
                    yield Finding(before + i + 1, row.instance_id, kind, message)
            before += len(rows)
            if limit is not None and before >= limit:
                return


def _missing_files(batch: pa.RecordBatch, stamper: InputStamper) -> dict[int, list[tuple[str, str]]]:
    """By row of the batch: the kind and the message of each file that a run could not read, without reading it."""
    from refine_batch.dataset.columns import URIS

    missing: dict[int, list[tuple[str, str]]] = {}
    for column in URIS:
        uris = batch.column(column)
        for i, stamp in enumerate(stamper.stamps(uris).to_pylist()):
            found = None if stamp is None else _unreadable(uris[i].as_py(), stamp, stamper.s3_endpoint)
            if found is not None:
                missing.setdefault(i, []).append((found[0], f"{column}: {found[1]}"))
    return missing


def _unreadable(uri: str, stamp: str, s3_endpoint: str | None) -> tuple[str, str] | None:
    """Why a run could not read a file of this stamp; None where nothing says so, or the row's own check does."""
    from refine_batch.dataset.stamps import AWAY, MISSING, UNREADABLE
    from refine_batch.errors import ErrorKind, UsageError
    from refine_batch.io import storage
    from refine_batch.io.uri import is_local

    shown = storage.redact(uri)
    if stamp == MISSING:
        return ErrorKind.MISSING_FILE, f"there is no {shown}"
    if stamp == AWAY:
        if is_local(uri):
            return (
                ErrorKind.STORAGE,
                f"there is no {shown}, and its folder is empty or missing: nothing is mounted there",
            )
        return ErrorKind.STORAGE, f"the store of {shown} does not answer"
    try:
        if stamp == UNREADABLE:
            storage.stamp(uri, s3_endpoint=s3_endpoint)
        elif not is_local(uri) or os.access(uri, os.R_OK):
            return None
        return ErrorKind.ACCESS_DENIED, f"{shown} may not be read"
    except UsageError:
        return None
    except storage.NotAFileError as error:
        return ErrorKind.MISSING_FILE, str(error)
    except storage.AccessDeniedError as error:
        return ErrorKind.ACCESS_DENIED, str(error)
    except OSError as error:
        return ErrorKind.STORAGE, storage.redact(str(error))


def _content(row: ManifestRow, config: RefineConfig | None, s3_endpoint: str | None) -> list[tuple[str, str]]:
    from refine_batch.dataset.load import load_instance
    from refine_batch.errors import InstanceError

    try:
        load_instance(row, config, s3_endpoint=s3_endpoint)
    except InstanceError as error:
        return [(str(error.kind), error.message)]
    return []
