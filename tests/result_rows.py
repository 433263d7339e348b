"""Rows and parts of results for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from refine_batch.io.storage import Storage
from refine_batch.results.parts import part_name, write_part
from refine_batch.results.rows import table_of

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
TRIANGLE = np.array([[0, 1, 2]], np.int32)


def result(instance_id: str, at: int = 0, *, fingerprint: str = "f", status: str = "refined", **values: Any) -> dict:
    """A row refined `at` seconds after the start, whose mesh tells it apart from every other."""
    vertices = np.array([[at, len(instance_id), 0], [0, 1, 0], [0, 0, 1]], np.float32)
    return {
        "instance_id": instance_id,
        "fingerprint": fingerprint,
        "status": status,
        "refined_at": START + timedelta(seconds=at),
        "run_id": f"run{at}",
        "vertices": None if status == "failed" else vertices,
        "faces": None if status == "failed" else TRIANGLE,
    } | values


def put(storage: Storage, rows: list[dict], name: str | None = None) -> str:
    """Write rows as one part; its path."""
    return write_part(storage, table_of(rows), name or part_name(rows[0]["run_id"], [r["instance_id"] for r in rows]))
