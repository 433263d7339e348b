"""Outcomes as rows of the results table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from refine_batch.dataset.row import ManifestRow
from refine_batch.dataset.views import without_credentials
from refine_batch.errors import ErrorKind
from refine_batch.io.uri import redact, redact_uri
from refine_batch.results.schema import FIGURES, LOSSES, RESULT_SCHEMA, STAGES
from refine_batch.results.transient import runs_failed

if TYPE_CHECKING:
    from refine_batch.instance import RefinedInstance
    from refine_batch.mesh import Mesh

_LONGEST_MESSAGE = 2000
_CAMERA = ("azimuth", "elevation", "distance", "fov", "roll", "offset_x", "offset_y")
_SAID = (*_CAMERA, "projection")
_URIS = ("mesh_uri", "image_uri", "mask_uri", "ground_truth_uri", "ignore_uri", "depth_uri", "normals_uri", "views_uri")


@dataclass(frozen=True)
class RowContext:
    """What a row says besides its outcome.

    Parameters
    ----------
    attempts
        How often the instance was tried, this time included.
    batch
        Name of the batch it was refined in.
    transient_runs
        Runs before this one in which the same work failed for a reason that may pass.
    not_before
        `refined_at` is later than this (UTC): with `CommittedIndex.newest`, a node whose clock is behind cannot write
        a row that looks older than the one it replaces.
    """

    run_id: str
    method: str
    config_hash: str
    code_version: str
    fingerprint: str
    attempts: int = 1
    node: str | None = None
    batch: str | None = None
    transient_runs: int = 0
    not_before: datetime | None = None


def row_of(refined: RefinedInstance, row: ManifestRow, context: RowContext) -> dict[str, Any]:
    """The row of one outcome, whatever its status. Meshes stay numpy arrays; URIs and messages are redacted."""
    values = _common(row, context) | {
        "status": refined.status,
        **_failure(refined.error_kind, refined.error_message, context),
        "kept_reason": _message(refined.kept_reason),
        "preparation": refined.preparation,
        "steps": refined.steps,
        "seconds": _finite(refined.seconds),
        **{f"seconds_{name}": _finite(refined.stages.get(name)) for name in STAGES},
        "device": refined.device,
        "loss_total": _finite(refined.loss_total),
        "loss_curve": refined.loss_curve,
        "symmetry_confidence": refined.symmetry_confidence,
        "camera_source": refined.camera_source,
        "notes": [_message(note) for note in refined.notes] or None,
        "symmetry_axis": refined.symmetry_axis,
        "symmetry_plane": refined.symmetry_plane,
        "intrinsics": refined.intrinsics,
        "extrinsics": refined.extrinsics,
        "iou_2d_given": _finite(refined.iou_2d_given),
        "iou_2d_refused": _finite(refined.iou_2d_refused),
        "known_share": _finite(refined.known_share),
        "share": _finite(refined.share),
        "risk": _finite(refined.risk),
    }
    if refined.camera is not None:
        values |= {name: getattr(refined.camera, name) for name in _SAID}
        if any(refined.camera.target):
            # Of one that looks past the origin the angles alone say another camera.
            values |= dict.fromkeys(("azimuth", "elevation", "distance"))
    if refined.mesh is not None:
        values |= {"vertices": refined.mesh.vertices, "faces": refined.mesh.faces}
    for figure in FIGURES:
        values[f"{figure}_before"] = _finite(getattr(refined.before, figure))
        values[f"{figure}_after"] = _finite(getattr(refined.after, figure))
    values["content"] = refined.content
    values |= {f"loss_{name}": _finite(value) for name, value in refined.losses.items() if name in LOSSES}
    others = [{"name": n, "value": _finite(value)} for n, value in refined.losses.items() if n not in LOSSES]
    return values | {"other_losses": others or None}


def failed_row(row: ManifestRow, kind: ErrorKind, message: str, context: RowContext, **values: Any) -> dict[str, Any]:
    """The row of an instance that gave no outcome at all; `values` fills further columns (`seconds`, `device`)."""
    failure = {"status": "failed"} | _failure(kind, message, context)
    # The camera that was asked for helps to find the fault, but NaN is no value to hand on.
    camera = {name: _finite(getattr(row, name)) for name in _CAMERA} | {"projection": row.projection}
    return _common(row, context) | camera | values | failure


def _failure(kind: str | None, message: str | None, context: RowContext) -> dict[str, Any]:
    """The columns that say why a row failed; all null where it did not."""
    runs = runs_failed(kind, context.transient_runs)
    return {
        "error_kind": None if kind is None else str(kind),
        "error_message": _message(message),
        "retry": None if kind is None else runs > 0,
        "transient_runs": runs or None,
    }


def _common(row: ManifestRow, context: RowContext) -> dict[str, Any]:
    now = datetime.now(UTC)
    values = asdict(context)
    not_before = values.pop("not_before")
    del values["transient_runs"]
    uris = {name: None if (uri := getattr(row, name)) is None else redact_uri(uri) for name in _URIS}
    return (
        {"instance_id": row.instance_id, "category": row.category, "symmetry_axis": row.axis()}
        | values
        | uris
        | {"views": None if row.views is None else without_credentials(row.views)}
        | {"refined_at": now if not_before is None else max(now, not_before + timedelta(microseconds=1))}
    )


def _message(text: str | None) -> str | None:
    if text is None:
        return None
    text = redact(text).encode("utf-8", "replace").decode()
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table of RESULT_SCHEMA; columns a row leaves out are null.

    `vertices` and `faces` are (N, 3) arrays, `symmetry_confidence` and `loss_curve` (N,) arrays or what numpy makes
    such of.

    Raises
    ------
    ValueError
        A row has a column that the schema lacks, or an array of another shape.
    """
    unknown = {name for row in rows for name in row} - set(RESULT_SCHEMA.names)
    if unknown:
        raise ValueError(f"table_of: no such columns: {', '.join(sorted(unknown))}")
    columns = []
    for field in RESULT_SCHEMA:
        values = [row.get(field.name) for row in rows]
        inner = field.type.value_type if pa.types.is_list(field.type) else None
        if inner is not None and not (pa.types.is_string(inner) or pa.types.is_struct(inner)):
            columns.append(_lists(field, values))
        else:
            columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=RESULT_SCHEMA)


def mesh_of(batch: pa.RecordBatch, index: int) -> Mesh | None:
    """The mesh of a row, of a batch that has the columns `vertices` and `faces`; None where the row has none."""
    from refine_batch.mesh import Mesh  # and torch with it, which most readers of rows do without

    cells = [batch.column(name)[index] for name in ("vertices", "faces")]
    if not all(cell.is_valid for cell in cells):
        return None
    return Mesh(*(cell.values.flatten().to_numpy(zero_copy_only=False).reshape(-1, 3) for cell in cells))


def _lists(field: pa.Field, values: Sequence[Any]) -> pa.Array:
    """A list column straight from numpy, without a Python object per number."""
    inner = field.type.value_type
    width = inner.list_size if pa.types.is_fixed_size_list(inner) else 1
    dtype = (inner.value_type if width > 1 else inner).to_pandas_dtype()
    shape = (-1, width) if width > 1 else (-1,)
    arrays = [np.empty(0, dtype) if v is None else np.ascontiguousarray(v, dtype=dtype) for v in values]
    for array, value in zip(arrays, values, strict=True):
        if value is not None and (array.ndim != len(shape) or (width > 1 and array.shape[1] != width)):
            raise ValueError(f"table_of: {field.name}: expected shape {('N', *shape[1:])}, got {array.shape}")
    flat = pa.array(np.concatenate([a.reshape(-1) for a in arrays]) if arrays else np.empty(0, dtype))
    items = pa.FixedSizeListArray.from_arrays(flat, type=inner) if width > 1 else flat
    offsets = np.cumsum([0, *(a.size // width for a in arrays)], dtype=np.int64)
    if offsets[-1] >= 2**31:
        raise ValueError(f"table_of: {field.name}: {offsets[-1]} values do not fit into one table; write fewer rows")
    mask = pa.array([v is None for v in values], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items, type=field.type, mask=mask)
