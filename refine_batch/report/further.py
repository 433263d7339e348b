"""What else an instance was made from, besides its picture: depth, normals, ignored pixels, further views."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from refine_batch.dataset.views import ViewRow, parse_views, resolve_views
from refine_batch.errors import InstanceError
from refine_batch.io.hints import HintError, parse_depth, parse_normals
from refine_batch.io.images import MAX_IMAGE_BYTES
from refine_batch.io.pictures import parse_image, parse_mask
from refine_batch.io.uri import parent, redact
from refine_batch.report import pictures

# Views of one instance in the page.
MOST_VIEWS = 8
_LIST_BYTES = 1 << 20

# A file's bytes by its URI, its column's name and a limit; None where it cannot be had.
Fetch = Callable[[str | None, str, int], bytes | None]


def further_pictures(
    row: dict[str, Any], rgb: np.ndarray | None, fetch: Fetch, problems: list[str]
) -> Iterator[tuple[str, str]]:
    """(What it is, data URI) of each picture that a row names besides its own; what cannot be shown goes to `problems`.

    Parameters
    ----------
    row
        Of the results: `ignore_uri`, `depth_uri`, `normals_uri`, `views` and `views_uri`.
    rgb : (H, W, 3) uint8
        The row's own picture, on which ignored pixels are shown.
    """
    found = [("depth", _hint(row, "depth_uri", lambda *file: pictures.depth(parse_depth(*file)), fetch, problems))]
    found += [
        ("normals", _hint(row, "normals_uri", lambda *file: pictures.normals(parse_normals(*file)), fetch, problems))
    ]
    found += [("not ignored", _ignored(row["ignore_uri"], rgb, fetch, problems))]
    views = _views(row, fetch, problems)
    for number, view in enumerate(views[:MOST_VIEWS], start=2):
        of = f" of {len(views) + 1}" if len(views) > MOST_VIEWS else ""
        found.append((f"view {number}{of}", _view(view, number, fetch, problems)))
    yield from ((what, picture) for what, picture in found if picture is not None)


def _hint(
    row: dict[str, Any], column: str, drawn: Callable[[bytes, str], str], fetch: Fetch, problems: list[str]
) -> str | None:
    uri = row[column]
    data = fetch(uri, column, MAX_IMAGE_BYTES)
    try:
        return None if data is None else drawn(data, redact(uri or ""))
    except (HintError, InstanceError) as error:
        problems.append(f"{redact(uri or '')}: {error}")
        return None


def _ignored(uri: str | None, rgb: np.ndarray | None, fetch: Fetch, problems: list[str]) -> str | None:
    data = None if rgb is None else fetch(uri, "ignore_uri", MAX_IMAGE_BYTES)
    if data is None or rgb is None:
        return None
    try:
        marked = parse_mask(data, redact(uri or ""))
    except InstanceError as error:
        problems.append(error.message)
        return None
    return pictures.photo(rgb, ~marked) if marked.shape == rgb.shape[:2] else None


def _views(row: dict[str, Any], fetch: Fetch, problems: list[str]) -> tuple[ViewRow, ...]:
    try:
        if row["views"]:
            return parse_views(row["views"], "views")
        data = fetch(row["views_uri"], "views_uri", _LIST_BYTES)
        if data is None:
            return ()
        text = resolve_views(data.decode("utf-8", "replace"), parent(row["views_uri"]))
        return parse_views(text, redact(row["views_uri"]))
    except InstanceError as error:
        problems.append(error.message)
        return ()


def _view(view: ViewRow, number: int, fetch: Fetch, problems: list[str]) -> str | None:
    """Its picture, faded where its mask says that the object is not; the mask alone where there is no picture."""
    image = fetch(view.image_uri, f"image_uri of view {number}", MAX_IMAGE_BYTES)
    levels = fetch(view.mask_uri, f"mask_uri of view {number}", MAX_IMAGE_BYTES)
    try:
        mask = None if levels is None else parse_mask(levels, redact(view.mask_uri or ""))
        if image is None:
            return None if mask is None else pictures.photo(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2), None)
        rgb, opaque = parse_image(image, redact(view.image_uri or ""))
        mask = opaque if mask is None else mask
        return pictures.photo(rgb, mask if mask is not None and mask.shape == rgb.shape[:2] else None)
    except InstanceError as error:
        problems.append(error.message)
        return None
