"""Further views of a row's object: the column `views`, or a JSON file named in `views_uri`."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from refine_batch.dataset.columns import CAMERA
from refine_batch.dataset.nested import parse_list, view_text
from refine_batch.dataset.picture_row import PICTURE_URIS, picture_problem
from refine_batch.errors import ErrorKind, InstanceError, UsageError
from refine_batch.io.uri import is_absolute, redact, redact_uri, resolve

MOST_VIEWS = 256


@dataclass(frozen=True)
class ViewRow:
    """One further view: a picture's columns, and how much it counts beside the first one's 1."""

    image_uri: str | None = None
    mask_uri: str | None = None
    ignore_uri: str | None = None
    depth_uri: str | None = None
    depth_kind: str | None = None
    depth_scale: float | None = None
    normals_uri: str | None = None
    normals_axes: str | None = None
    azimuth: float | None = None
    elevation: float | None = None
    distance: float | None = None
    fov: float | None = None
    roll: float | None = None
    offset_x: float | None = None
    offset_y: float | None = None
    intrinsics: tuple[float, ...] | None = None
    extrinsics: tuple[float, ...] | None = None
    camera_axes: str | None = None
    camera_error_degrees: float | None = None
    camera_error_distance: float | None = None
    up_axis: str | None = None
    projection: str | None = None
    weight: float | None = None

    def problem(self, name: str) -> InstanceError | None:
        """What makes this view unusable, before any of its files is looked at; None where nothing does."""
        if self.image_uri is None and self.mask_uri is None:
            return InstanceError(ErrorKind.ROW_INVALID, f"{name}: image_uri and mask_uri are both empty")
        missing = [column for column in CAMERA if getattr(self, column) is None]
        if self.extrinsics is None and self.intrinsics is None and missing:
            said = f"{missing[0]} is empty; only the first view's camera can be estimated"
            return InstanceError(ErrorKind.CAMERA_INVALID, f"{name}: {said}")
        if self.weight is not None and not 0 <= self.weight < float("inf"):
            return InstanceError(ErrorKind.ROW_INVALID, f"{name}: weight is {self.weight:g}; it must be 0 or above")
        return picture_problem(self, name)


_TEXTS = (*PICTURE_URIS, "depth_kind", "normals_axes", "camera_axes", "up_axis", "projection")
_LISTS = ("intrinsics", "extrinsics")
_NAMES = tuple(field.name for field in fields(ViewRow))


def parse_views(text: str | bytes, name: str) -> tuple[ViewRow, ...]:
    """The views that JSON text lists.

    Raises
    ------
    InstanceError
        ROW_INVALID: not JSON, not a list of objects, or a value of another type; the message begins with `name` and
        says which view, counted from 0, and which key.
    """
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else redact(str(error))
        raise InstanceError(ErrorKind.ROW_INVALID, f"{name}: not JSON: {reason}") from None
    if isinstance(items, dict) and isinstance(items.get("views"), list):
        items = items["views"]
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InstanceError(ErrorKind.ROW_INVALID, f"{name}: a list of objects is needed, one for each view")
    if len(items) > MOST_VIEWS:
        raise InstanceError(ErrorKind.ROW_INVALID, f"{name}: {len(items)} views; the limit is {MOST_VIEWS}")
    return tuple(_view(item, f"{name}[{i}]") for i, item in enumerate(items))


def resolve_views(text: str, folder: str) -> str:
    """The same JSON text with every URI resolved against `folder`; text that lists no views stays as it is."""
    items = _objects(text)
    if items is None:
        return text
    for item in items:
        for key in PICTURE_URIS:
            if isinstance(item.get(key), str) and item[key]:
                item[key] = _resolved(folder, item[key])
    return view_text(items) or text


def without_credentials(text: str) -> str | None:
    """The same JSON text with no credentials in any URI; None where it lists no views."""
    items = _objects(text)
    for item in items or []:
        item |= {key: redact_uri(item[key]) for key in PICTURE_URIS if isinstance(item.get(key), str)}
    return view_text(items)


def view_uris(text: str | bytes) -> list[str]:
    """Every URI that JSON text of views names, in order; none where it lists no views."""
    return list(_uris(_objects(text) or []))


def _objects(text: str | bytes) -> list[dict[str, Any]] | None:
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(items, dict):
        items = items.get("views")
    return items if isinstance(items, list) and all(isinstance(item, dict) for item in items) else None


def _uris(items: list[dict[str, Any]]) -> Iterator[str]:
    for item in items:
        yield from (item[key] for key in PICTURE_URIS if isinstance(item.get(key), str) and item[key])


def _resolved(folder: str, uri: str) -> str:
    try:
        return resolve(folder, uri)
    except UsageError:
        return uri if is_absolute(uri) else f"{folder}/{uri}"


def _view(item: dict[str, Any], name: str) -> ViewRow:
    for key in item:
        close = [] if key in _NAMES else difflib.get_close_matches(str(key), _NAMES, n=1, cutoff=0.8)
        if close:
            said = f"{name}: there is no {redact(str(key))[:40]!r}; did you mean {close[0]!r}?"
            raise InstanceError(ErrorKind.ROW_INVALID, said)
    given = {key: item[key] for key in _NAMES if item.get(key) not in (None, "")}
    return ViewRow(**{key: _value(key, value, name) for key, value in given.items()})


def _value(key: str, value: Any, name: str) -> Any:
    try:
        if key in _TEXTS and isinstance(value, str):
            return value
        if key in _LISTS:
            numbers = parse_list(key, value, 1, name)
            return None if numbers is None else tuple(numbers)
        if key not in _TEXTS and not isinstance(value, bool | list | dict):
            return float(value)
    except (ValueError, OverflowError, UsageError):
        pass
    wanted = "text" if key in _TEXTS else "a list of numbers" if key in _LISTS else "a number"
    raise InstanceError(ErrorKind.ROW_INVALID, f"{name}.{key}: {redact(repr(value))[:80]} is not {wanted}")
