"""Run records."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from refine_batch.errors import UsageError
from refine_batch.results.run_record import RunRecord, new_run_id

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_round_trip_and_order(storage):
    late = RunRecord(
        run_id="a", started_at=NOW + timedelta(hours=1), counts={"refined": 3}, figures={"iou_2d": [0.1, 0.2]}
    )
    early = RunRecord(run_id="b", started_at=NOW)
    late.write(storage)
    early.write(storage)
    assert RunRecord.load(storage, "a") == late
    assert RunRecord.load_all(storage) == [early, late]
    late.model_copy(update={"outcome": "finished", "exit_status": 0}).write(storage)
    assert RunRecord.load(storage, "a").outcome == "finished"
    assert len(RunRecord.load_all(storage)) == 2
    assert json.loads(storage.read("runs/a.json"))["counts"] == {"refined": 3}


def test_no_credentials_are_written_or_shown(storage, monkeypatch):
    monkeypatch.setenv("MY_SECRET_TOKEN", "abcdefgh")
    record = RunRecord(
        run_id="a",
        started_at=NOW,
        manifest="https://u:pass1@h/my file.csv?X-Amz-Signature=pass2",
        options={"s3_endpoint": "http://u:pass3@localhost", "list": ["password=pass4"]},
        message="failed with abcdefgh",
        extra="https://h/?token=pass5",
    )
    record.write(storage)
    for text in (storage.read("runs/a.json").decode(), record.to_json()):
        assert not re.search("pass[1-5]|abcdefgh", text)
        assert "my file.csv" in text


def test_what_cannot_be_read(storage):
    with pytest.raises(FileNotFoundError):
        RunRecord.load(storage, "none")
    storage.write("runs/bad.json", b"{")
    storage.write("runs/worse.json", b'{"run_id": "x"}')
    for name in ("bad", "worse"):
        with pytest.raises(UsageError, match=rf"runs/{name}\.json is not a run record"):
            RunRecord.load(storage, name)
    assert RunRecord.load_all(storage) == []


def test_fields_of_a_later_version_are_kept(storage):
    storage.write("runs/x.json", b'{"run_id": "x", "started_at": "2026-01-31T12:00:00Z", "novel": 1}')
    assert RunRecord.load(storage, "x").model_dump()["novel"] == 1


def test_run_ids():
    ids = {new_run_id() for _ in range(50)}
    assert len(ids) == 50
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", i) for i in ids)
    for bad in ("../x", "a/b", "", ".hidden", "x" * 200):
        with pytest.raises(ValidationError):
            RunRecord(run_id=bad, started_at=NOW)
