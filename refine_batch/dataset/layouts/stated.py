"""Columns of the manifest that a dataset's own records state by their names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from refine_batch.dataset.columns import CAMERA, LISTS, MANIFEST_SCHEMA, NUMBERS, URIS, VIEWS
from refine_batch.dataset.layouts.entry import LeftOutError, Reason
from refine_batch.dataset.nested import parse_list
from refine_batch.errors import UsageError

TEXTS = tuple(
    n for n in MANIFEST_SCHEMA.names if n not in (*NUMBERS, *LISTS, *URIS, VIEWS, "instance_id") and n != "views_uri"
)
STATED = (*NUMBERS, *LISTS, *TEXTS)
# Columns beside those that every manifest has.
STATED_FIELDS: tuple[pa.Field, ...] = tuple(
    MANIFEST_SCHEMA.field(name)
    for name in (*LISTS, "camera_axes", "up_axis", "projection", "camera_error_degrees", "camera_error_distance")
)
_WRITTEN = (*CAMERA, "fov", "roll", "offset_x", "offset_y", "symmetry_axis", "category")


def stated(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The columns of a manifest that a record states; its other keys mean nothing here.

    Raises
    ------
    LeftOutError
        ENTRY_BROKEN: a value of another type.
    """
    known = {*_WRITTEN, *(field.name for field in STATED_FIELDS)}
    return {key: _value(key, record[key], name) for key in STATED if key in known and record.get(key) is not None}


def _value(key: str, value: Any, name: str) -> Any:
    try:
        if key in LISTS:
            return parse_list(key, value, 1, name)
        if key in NUMBERS and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number):
                return number
        elif key in TEXTS and isinstance(value, str):
            return value
    except (TypeError, ValueError, OverflowError, UsageError):
        pass
    wanted = "text" if key in TEXTS else "a number" if key in NUMBERS else "a list of numbers"
    raise LeftOutError(Reason.ENTRY_BROKEN, f"{name}: {key} is {str(value)[:60]!r}, not {wanted}")
