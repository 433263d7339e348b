"""Outcomes as rows of the results table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from refine_batch.dataset.row import ManifestRow
from refine_batch.errors import ErrorKind

if TYPE_CHECKING:
    from refine_batch.instance import RefinedInstance


@dataclass(frozen=True)
class RowContext:
    """What a row says besides its outcome.

    Parameters
    ----------
    attempts
        How often the instance was tried, this time included.
    batch
        Name of the batch it was refined in.
    not_before
        `refined_at` is at least this (UTC): with `CommittedIndex.newest`, a node whose clock is behind cannot write
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
    not_before: datetime | None = None


def row_of(refined: RefinedInstance, row: ManifestRow, context: RowContext) -> dict[str, Any]:
    """The row of one outcome, whatever its status. Meshes stay numpy arrays; URIs and messages are redacted."""
    raise NotImplementedError


def failed_row(row: ManifestRow, kind: ErrorKind, message: str, context: RowContext, **values: Any) -> dict[str, Any]:
    """The row of an instance that gave no outcome at all; `values` fills further columns (`seconds`, `device`)."""
    raise NotImplementedError


def table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table of RESULT_SCHEMA; columns a row leaves out are null."""
    raise NotImplementedError
