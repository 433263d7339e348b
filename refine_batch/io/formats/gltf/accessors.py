"""Accessors: typed arrays in buffer views, plain, normalised or sparse. Counts are checked before memory is taken."""

from __future__ import annotations

from typing import Any

import numpy as np

from refine_batch.io.formats.common import MeshFormatError, MeshTooLargeError
from refine_batch.io.formats.gltf.buffers import Buffers
from refine_batch.io.formats.gltf.document import whole

COMPONENTS: dict[int, np.dtype] = {
    5120: np.dtype("<i1"),
    5121: np.dtype("<u1"),
    5122: np.dtype("<i2"),
    5123: np.dtype("<u2"),
    5125: np.dtype("<u4"),
    5126: np.dtype("<f4"),
}
FLOAT = 5126
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


def accessor_array(buffers: Buffers, index: int, *, limit: int) -> np.ndarray:
    """(count, width) as it is stored: a view into the file's own data where nothing has to be decoded.

    `limit` is the most rows: without a buffer view an accessor is all zeros, and a few bytes can claim billions.
    """
    accessor = buffers.description["accessors"][whole(index)]
    dtype, width = layout(accessor)
    count = whole(accessor["count"])
    if count > limit:
        raise MeshTooLargeError(f"it has an array of {count} rows; the limit is {limit}")
    if "bufferView" in accessor:
        values = _rows(buffers, accessor, count, dtype, width)
    elif "sparse" in accessor or not accessor.get("extensions"):
        values = np.zeros((count, width), dtype=dtype)
    else:
        name = str(next(iter(accessor["extensions"])))[:60]
        raise MeshFormatError(f"its data is kept by the extension {name!a}, which is not understood")
    return _sparse(buffers, accessor["sparse"], values, limit) if "sparse" in accessor else values


def decoded(values: np.ndarray, accessor: dict[str, Any]) -> np.ndarray:
    """float64 values of an accessor's array: whole numbers that are normalised stand for −1 to 1 or 0 to 1.

    As in the specification, section 3.11: c / 127 at least −1 for signed bytes, c / 255 for unsigned ones, and so on.
    """
    if values.dtype.kind == "f" or not accessor.get("normalized", False):
        return values.astype(np.float64)
    return np.maximum(values.astype(np.float64) / np.iinfo(values.dtype).max, -1.0)


def layout(accessor: dict[str, Any]) -> tuple[np.dtype, int]:
    """The type of an accessor's components and how many each row has."""
    component, kind = accessor["componentType"], accessor["type"]
    if component not in COMPONENTS or kind not in WIDTHS:
        raise MeshFormatError(f"an accessor's type is {str(component)[:20]!a} {str(kind)[:20]!a}, which means nothing")
    return COMPONENTS[component], WIDTHS[kind]


def _rows(buffers: Buffers, place: dict[str, Any], count: int, dtype: np.dtype, width: int) -> np.ndarray:
    data, stride = buffers.view(whole(place["bufferView"]))
    start, size = whole(place.get("byteOffset", 0)), width * dtype.itemsize
    stride = size if stride is None else stride
    if count == 0:
        return np.zeros((0, width), dtype=dtype)
    if stride < size or start + stride * (count - 1) + size > len(data):
        raise MeshFormatError("an accessor reaches past its data")
    return np.ndarray((count, width), dtype, data, start, (stride, dtype.itemsize))


def _sparse(buffers: Buffers, sparse: dict[str, Any], base: np.ndarray, limit: int) -> np.ndarray:
    """A copy of `base` with some of its rows replaced."""
    count = whole(sparse["count"])
    if count > min(limit, len(base)):
        raise MeshFormatError(f"an accessor of {len(base)} rows replaces {count} of them")
    kind = COMPONENTS.get(sparse["indices"]["componentType"])
    if kind is None or kind.kind != "u":
        raise MeshFormatError("the indices of a sparse accessor are not unsigned whole numbers")
    rows = _rows(buffers, sparse["indices"], count, kind, 1)[:, 0]
    if len(rows) and int(rows.max()) >= len(base):
        raise MeshFormatError(f"a sparse accessor of {len(base)} rows replaces row {int(rows.max())}")
    values = base.copy()
    values[rows] = _rows(buffers, sparse["values"], count, base.dtype, base.shape[1])
    return values
