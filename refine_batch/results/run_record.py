"""`runs/<run_id>.json`: what was run and how it ended."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from refine_batch.io.storage import Storage

RUNS = "runs"


def new_run_id() -> str:
    """An id that sorts by time and is a safe file name: `20260131T120501Z-6f3a9c`."""
    raise NotImplementedError


class RunRecord(BaseModel):
    """One run. Credentials are removed on writing."""

    model_config = ConfigDict(extra="allow")

    run_id: str
    record_version: int = 1
    command: str = "run"
    manifest: str | None = None
    manifest_fingerprint: str | None = None
    output: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    config_hash: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    cluster: dict[str, Any] = Field(default_factory=dict)
    host: str | None = None
    started_at: datetime
    ended_at: datetime | None = None
    outcome: Literal["running", "finished", "stopped", "failed"] = "running"
    exit_status: int | None = None
    message: str | None = None
    rows: int | None = Field(None, description="rows of the manifest")
    skipped: int = Field(0, description="rows the output already held")
    not_in_manifest: int = Field(0, description="instances of the output that the manifest does not name")
    counts: dict[str, int] = Field(default_factory=dict, description="rows written by this run, by status")
    totals: dict[str, float] = Field(default_factory=dict)
    figures: dict[str, Any] = Field(default_factory=dict, description="means before and after, over this run's rows")

    def write(self, storage: Storage) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, storage: Storage, run_id: str) -> RunRecord:
        """Raises FileNotFoundError, or UsageError for one that cannot be read."""
        raise NotImplementedError

    @classmethod
    def load_all(cls, storage: Storage) -> list[RunRecord]:
        """Every readable record, oldest first."""
        raise NotImplementedError
