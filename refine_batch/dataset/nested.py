"""Columns of the manifest that hold more than one value per row: lists of numbers, and further views."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from refine_batch.errors import UsageError
from refine_batch.io.uri import redact

_SEPARATORS = re.compile(r"[\s,;]+")


def check_list_type(name: str, dtype: pa.DataType, where: str, *, views: bool) -> None:
    """Raise UsageError unless a column of this type is of lists of numbers or, with `views`, of structs."""
    inner = dtype
    while _is_list(inner):
        inner = inner.value_type
    number = pa.types.is_integer(inner) or pa.types.is_floating(inner) or pa.types.is_null(inner)
    if _is_list(dtype) and (pa.types.is_struct(inner) if views else number):
        return
    raise UsageError(f"{where}: column {name} must hold lists of {'structs' if views else 'numbers'}, not {dtype}")


def coerce_lists(name: str, array: pa.Array, first_row: int, where: str) -> pa.Array:
    """A column of lists, lists of lists or text as lists of float64; nothing, or an empty list, is null."""
    if _is_list(array.type) and not _is_list(array.type.value_type):
        lists = array.cast(pa.list_(pa.float64()))
        return lists if not np.any(np.diff(lists.offsets.to_numpy()) == 0) else _lists(lists.to_pylist())
    values = array.to_pylist()
    return _lists([parse_list(name, value, first_row + i, where) for i, value in enumerate(values)])


def parse_list(name: str, value: object, row: int, where: str) -> list[float] | None:
    """One value as a flat list of numbers: a list, a list of rows, JSON text of either, or numbers in text."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            text = value.strip()
            value = json.loads(text) if text.startswith("[") else [n for n in _SEPARATORS.split(text) if n]
        flat = _flat(value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        shown = redact(repr(value))[:80]
        raise UsageError(f"{where}: column {name}, row {row}: {shown} is not a list of numbers") from None
    return flat or None


def views_as_text(array: pa.Array) -> pa.Array:
    """Lists of structs, one list per row, as JSON text; nothing, or an empty list, is null."""
    return pa.array([view_text(value) for value in array.to_pylist()], pa.string())


def view_text(value: object) -> str | None:
    """The JSON text of one row's views, without what they leave empty; text stays as it is."""
    if value is None or value == [] or value == "":
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        value = [{k: v for k, v in x.items() if v is not None} if isinstance(x, dict) else x for x in value]
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _flat(value: object) -> list[float]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError
    if any(isinstance(item, bool) or item is None for item in value):
        raise TypeError
    nested = [_flat(item) if isinstance(item, list | tuple) else [float(item)] for item in value]
    return [number for numbers in nested for number in numbers]


def _lists(values: list[list[float] | None]) -> pa.Array:
    return pa.array([value or None for value in values], pa.list_(pa.float64()))


def _is_list(dtype: pa.DataType) -> bool:
    return pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype)
