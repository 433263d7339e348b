"""One page about a manifest before anything is refined: pictures, the meshes' outlines, and what the cameras are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation

from refine_batch.config import PictureOptions
from refine_batch.dataset.diagnosis.diagnose import AS_IT_IS, Diagnosis, Seen, diagnose, flipped, views
from refine_batch.dataset.diagnosis.sample import Sample, read_sample
from refine_batch.dataset.manifest import Manifest, ManifestRow
from refine_batch.errors import InstanceError
from refine_batch.figures.outlines import outline
from refine_batch.report.page import render_page
from refine_batch.report.pictures import COARSE, MASK, webp

ROWS = 24
_SIDE = 320
_READERS = 4


@dataclass(frozen=True)
class Card:
    """One row on the page: its picture as the row is, and after the best change; or why there is none."""

    row: int
    instance_id: str
    picture: str | None = None
    iou: float | None = None
    changed: str | None = None
    changed_iou: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Preview:
    """The page, and what it says about the cameras."""

    html: str
    diagnosis: Diagnosis


def preview(manifest: Manifest, rows: int, *, most: int = ROWS, options: PictureOptions | None = None) -> Preview:
    """Look at up to `most` of the first `rows` rows of a manifest, evenly spread, their masks read as `options` say.

    A row that cannot be read is on the page with its reason.
    """
    read = list(_read(manifest, _spread(rows, most), options))
    samples = [sample for sample in read if isinstance(sample, Sample)]
    diagnosis = diagnose(samples)
    cards = [one if isinstance(one, Card) else _card(one, diagnosis) for one in read]
    values = {
        "manifest": str(manifest),
        "rows": rows,
        "cards": cards,
        "diagnosis": diagnosis,
        "known": not math.isnan(diagnosis.iou),
    }
    return Preview(render_page("preview.html.jinja", values), diagnosis)


def _spread(rows: int, most: int) -> set[int]:
    return {int(i) for i in np.unique(np.linspace(0, rows - 1, min(rows, most)).round())}


def _read(manifest: Manifest, wanted: set[int], options: PictureOptions | None) -> Iterator[Sample | Card]:
    def read(number: int, row: ManifestRow) -> Sample | Card:
        try:
            return read_sample(row, number, manifest.s3_endpoint, options)
        except InstanceError as error:
            return Card(number, row.instance_id, note=error.message)

    chosen: list[tuple[int, ManifestRow]] = []
    at = 0
    for batch in manifest.batches():
        inside = sorted(i - at for i in wanted if at <= i < at + batch.num_rows)
        chosen += [(at + i + 1, ManifestRow.from_batch(batch, i)) for i in inside]
        at += batch.num_rows
        if len(chosen) == len(wanted):
            break
    with ThreadPoolExecutor(_READERS) as readers:
        yield from readers.map(lambda one: read(*one), chosen)


def _card(sample: Sample, diagnosis: Diagnosis) -> Card:
    mistakes = [AS_IT_IS, *(change.mistake for change in diagnosis.changes[:1])]
    seen = views(sample, mistakes, _SIDE)
    written = sample.written
    known = written.angles is not None or written.extrinsics is not None
    note = "" if seen[0] else "The row's camera cannot be used." if known else "No camera: it is estimated."
    after = seen[1] if len(seen) > 1 and known else None
    return Card(
        sample.row,
        sample.instance_id,
        _drawn(sample, seen[0]),
        seen[0].iou if seen[0] else None,
        _drawn(sample, after) if after else None,
        after.iou if after else None,
        note,
    )


def _drawn(sample: Sample, seen: Seen | None) -> str:
    """The picture with the mask's outline and the mesh's over it, as a data URI."""
    size, flip = (seen.size, seen.flip) if seen else (sample.size, "")
    rgb = flipped(sample.square(sample.rgb.astype(np.float32) / 255.0, _SIDE, size), flip)
    mask = flipped(sample.square(sample.mask[..., None], _SIDE, size)[..., 0] >= 0.5, flip)
    # What is not the object is faded, so that the lines are seen.
    shown = 0.5 + 0.5 * rgb
    shown[mask] = rgb[mask]
    for region, colour in _lines(mask, seen):
        shown[region] = np.array(colour) / 255.0
    return webp(Image.fromarray((shown * 255).round().astype(np.uint8)))


def _lines(mask: np.ndarray, seen: Seen | None) -> Sequence[tuple[np.ndarray, tuple[int, int, int]]]:
    lines = [(outline(mask), MASK)]
    if seen is not None:
        lines.append((binary_dilation(outline(seen.silhouette)), COARSE))
    return lines
