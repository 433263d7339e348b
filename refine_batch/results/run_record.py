"""`runs/<run_id>.json`: what was run and how it ended."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from refine_batch.errors import UsageError
from refine_batch.io.storage import Storage
from refine_batch.io.uri import redact, redact_uri, scheme

RUNS = "runs"
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def new_run_id() -> str:
    """An id that sorts by time and is a safe file name: `20260131T120501Z-6f3a9c`."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


class RunRecord(BaseModel):
    """One run. Credentials are removed by `to_json` and on writing; fields of a later version are kept."""

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

    @field_validator("run_id")
    @classmethod
    def _safe_name(cls, run_id: str) -> str:
        if not _SAFE.fullmatch(run_id):
            raise ValueError("a run id has letters, digits, '.', '_' and '-' only")
        return run_id

    def to_json(self) -> str:
        """The record as it may be shown: indented, without credentials."""
        shown = RunRecord.model_construct(**_redacted(self.model_dump()))
        return shown.model_dump_json(indent=2, warnings=False)

    def write(self, storage: Storage) -> None:
        """Put the record at `runs/<run_id>.json` of the output folder, over an earlier state of it."""
        storage.write(_path(self.run_id), self.to_json().encode() + b"\n")

    @classmethod
    def load(cls, storage: Storage, run_id: str) -> RunRecord:
        """Raises FileNotFoundError, or UsageError for one that cannot be read."""
        return cls._parsed(storage, _path(run_id))

    @classmethod
    def load_all(cls, storage: Storage) -> list[RunRecord]:
        """Every readable record, oldest first."""
        records = []
        for file in storage.list(RUNS):
            if file.path.endswith(".json"):
                try:
                    records.append(cls._parsed(storage, file.path))
                except (UsageError, FileNotFoundError):
                    continue
        return sorted(records, key=lambda record: (record.started_at, record.run_id))

    @classmethod
    def load_latest(cls, storage: Storage, count: int) -> list[RunRecord]:
        """The last `count` readable records, newest first; no more are read than that takes."""
        records: list[RunRecord] = []
        # Names sort by time.
        for file in sorted(storage.list(RUNS), key=lambda file: file.path, reverse=True):
            if len(records) == count:
                break
            if file.path.endswith(".json"):
                try:
                    records.append(cls._parsed(storage, file.path))
                except (UsageError, FileNotFoundError):
                    continue
        return records

    @classmethod
    def _parsed(cls, storage: Storage, path: str) -> RunRecord:
        try:
            return cls.model_validate_json(storage.read(path))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise UsageError(
                f"{redact_uri(storage.path_of(path))} is not a run record: {where}: {first['msg']}"
            ) from error


def _path(run_id: str) -> str:
    return f"{RUNS}/{run_id}.json"


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        # A URI by itself may hold spaces, which end one that stands in a text.
        return redact(redact_uri(value)) if scheme(value) else redact(value)
    if isinstance(value, dict):
        return {name: _redacted(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted(inner) for inner in value]
    return value
