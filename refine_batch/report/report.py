"""From an output to one HTML file."""

from __future__ import annotations

import html
from collections.abc import Iterator

from refine_batch.errors import UsageError
from refine_batch.io.storage import Storage, redact
from refine_batch.io.uri import normalise, parent
from refine_batch.results.parts import list_parts
from refine_batch.results.summary import Summary, summarise


def write_report(
    output_uri: str, destination: str, *, sample: int = 24, seed: int = 0, s3_endpoint: str | None = None
) -> None:
    """Write a self-contained page about an output.

    Parameters
    ----------
    output_uri
        The OUTPUT of a run.
    destination
        Local path or fsspec URI of the HTML file.
    sample
        Instances shown one by one.
    seed
        Of the choice among equals.

    Raises
    ------
    UsageError
        OUTPUT holds no results, or `destination` names no file.
    """
    output = Storage(normalise(output_uri), s3_endpoint)
    if not list_parts(output):
        raise UsageError(f"{redact(output.uri)} holds no results; give the OUTPUT of a `refine-batch run`")
    target = normalise(destination)
    folder, name = parent(target), target.rpartition("/")[2]
    if not name:
        raise UsageError(f"{redact(target)} is not the path of a file")
    Storage(folder, s3_endpoint).write(name, page(str(output), summarise(output)).encode("utf-8", "replace"))


def page(title: str, summary: Summary) -> str:
    """The whole HTML."""
    return "\n".join(_lines(title, summary)) + "\n"


def _lines(title: str, summary: Summary) -> Iterator[str]:
    name = html.escape(title)
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title><h1>{name}</h1><table>'
    for status, count in summary.overall.counts.items():
        yield f"<tr><th>{status}<td>{count}"
    yield "</table></html>"
