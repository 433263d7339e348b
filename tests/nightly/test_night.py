"""A night's steps, its summary and its verdict, with a driver that writes rows instead of refining."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime, timedelta

import pytest
from result_rows import put, result

from refine_batch.errors import UsageError
from refine_batch.io.storage import Storage, StorageError
from refine_batch.job.driver import RunOutcome
from refine_batch.job.stop import StopRequest
from refine_batch.nightly import night
from refine_batch.nightly.night import nightly
from refine_batch.nightly.options import NightlyOptions
from refine_batch.nightly.summary import NightSummary
from refine_batch.results import compact as compaction
from refine_batch.results.live import live_rows
from refine_batch.results.lock import OutputLock, OutputLockedError
from refine_batch.results.run_record import RunRecord


class Recorder:
    """Keeps what a reporter is told."""

    def __init__(self):
        self.told = []

    def show(self, snapshot): ...

    def say(self, text):
        self.told.append(text)

    def close(self): ...


@pytest.fixture
def nights(tmp_path, monkeypatch):
    """`nights(rows)` spends a night in which the driver writes these rows."""
    output = tmp_path / "out"
    reports = []
    monkeypatch.setattr(night, "write_report", lambda *arguments, **options: reports.append((arguments, options)))

    def spend(rows, options=None, *, outcome="finished", message=None, reporter=None):
        def run(manifest, output, config, options, *, reporter):
            storage = Storage(output)
            run_id = f"2026013{spend.number}T000000Z-{spend.number:06x}"
            spend.number += 1
            if rows:
                put(storage, [row | {"run_id": run_id} for row in rows])
            if spend.signal:
                with StopRequest(100):
                    os.kill(os.getpid(), spend.signal)
            record = RunRecord(
                run_id=run_id,
                manifest=manifest,
                output=output,
                started_at=datetime.now(UTC) - timedelta(minutes=3),
                ended_at=datetime.now(UTC),
                outcome=outcome,
                exit_status=0 if outcome == "finished" and not message else 1,
                message=message,
                rows=len(rows),
                counts={"refined": len(rows)},
            )
            record.write(storage)
            return RunOutcome(record.exit_status, record)

        monkeypatch.setattr(night, "run", run)
        return nightly("manifest.csv", str(output), night=options or NightlyOptions(), reporter=reporter)

    # Sent while the driver is at its last batch.
    spend.signal = None
    spend.number = 1
    spend.output, spend.reports = output, reports
    return spend


def some(count, at, **values):
    return [result(f"i{number:02}", at, **values) for number in range(count)]


def test_a_first_night_and_a_second(nights):
    first = nights(some(12, 1, fingerprint="one", iou_2d_before=0.5, iou_2d_after=0.8))
    assert first.exit_status == 0
    assert first.summary.previous is None
    assert first.summary.changes["new"] == 12

    second = nights(
        [
            *some(3, 10, fingerprint="two", iou_2d_before=0.5, iou_2d_after=0.9),
            result("new", 10, iou_2d_before=0.4, iou_2d_after=0.6),
            result("broken", 10, status="failed", error_kind="mesh_broken", error_message="torn [b]markup[/b]\x1b"),
        ]
    )
    assert second.exit_status == 0
    summary = second.summary
    assert summary.previous == first.record.run_id
    assert summary.changes == {
        "new": 2,
        "changed": 3,
        "redone": 0,
        "unchanged": 9,
        "failed": 1,
        "newly_failed": 1,
        "recovered": 0,
    }
    assert summary.counts == {"refined": 13, "kept": 0, "failed": 1}
    figure = summary.figures["iou_2d"]
    assert figure.last == pytest.approx(0.8)
    assert figure.after == pytest.approx((9 * 0.8 + 3 * 0.9 + 0.6) / 13)
    assert figure.pairs == {"count": 3, "then": pytest.approx(0.8), "now": pytest.approx(0.9)}
    # Compacted: one live row each, nothing superseded is left.
    assert summary.steps["compact"]["rows_dropped"] == 3
    assert len(list(Storage(str(nights.output)).list("results"))) == 1
    assert sum(batch.num_rows for batch in live_rows(Storage(str(nights.output)), ["instance_id"])) == 14


def test_one_record_tells_of_the_whole_night(nights):
    spent = nights(some(2, 1))
    [file] = (nights.output / "runs").glob("*.json")
    record = json.loads(file.read_text())
    assert (record["command"], record["outcome"], record["exit_status"]) == ("nightly", "finished", 0)
    assert list(record["night"]["steps"]) == ["refine", "compare", "measure", "compact"]
    written = nights.output / record["night"]["summary"]
    assert NightSummary.model_validate_json(written.read_text()) == spent.summary
    assert written.with_suffix(".txt").read_text() == spent.summary.text() + "\n"


def test_the_text_is_one_page_whatever_the_dataset_holds(nights):
    nights(some(12, 1, fingerprint="one", iou_2d_before=0.5, iou_2d_after=0.9))
    rows = [
        result(f"i{n:02}", 9, fingerprint="two", iou_2d_before=0.5, iou_2d_after=0.5, category="x") for n in range(12)
    ]
    evil = "../\x1b[31m<script>\n" * 40
    rows += [result(f"{evil}{n}", 9, status="failed", error_kind=f"kind{n}", error_message=evil) for n in range(30)]
    lines = nights(rows).summary.text().splitlines()
    assert len(lines) <= 60
    assert all(len(line) <= 100 and line.isprintable() for line in lines)
    assert sum(line.startswith("ALERT") for line in lines) == 3


def test_a_quiet_night(nights):
    nights(some(3, 1, iou_2d_before=0.5, iou_2d_after=0.8))
    quiet = nights([])
    assert quiet.exit_status == 0
    assert quiet.summary.changes["unchanged"] == 3
    assert quiet.summary.figures["iou_2d"].last == quiet.summary.figures["iou_2d"].after


def test_the_report_is_written_where_it_was_asked_for(nights):
    spent = nights(some(2, 1), NightlyOptions(report="s3://bucket/report.html", report_sample=7))
    [((output, destination), options)] = nights.reports
    assert (output, destination) == (str(nights.output), "s3://bucket/report.html")
    assert options == {"sample": 7, "s3_endpoint": None}
    assert spent.summary.steps["report"]["written_to"] == "s3://bucket/report.html"


@pytest.mark.parametrize(
    "error", [StorageError("cannot write s3://user:password@bucket/report.html: access denied"), KeyError("password=x")]
)
def test_a_step_that_fails_is_an_alert_and_the_others_are_done(nights, monkeypatch, error):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr(night, "write_report", refuse)
    spent = nights(some(2, 1), NightlyOptions(report="report.html"))
    assert spent.exit_status == 1
    [alert] = spent.summary.alerts
    assert "report failed" in alert
    assert "user:password" not in alert
    assert "password=x" not in alert
    assert "compact" in spent.summary.steps
    assert spent.record.message == alert


@pytest.mark.parametrize(
    ("then", "now", "options", "alert"),
    [
        ({"iou_2d_after": 0.8}, {"iou_2d_after": 0.7}, {}, "12.5% worse"),
        ({"iou_2d_after": 0.8}, {"iou_2d_after": 0.7}, {"max_regression": 0.2}, None),
        ({"iou_2d_after": 0.7}, {"iou_2d_after": 0.8}, {}, None),
        ({"chamfer_l2_after": 4.0}, {"chamfer_l2_after": 5.0}, {}, "25.0% worse"),
        ({"chamfer_l2_after": 5.0}, {"chamfer_l2_after": 4.0}, {}, None),
        ({}, {"iou_2d_after": 0.8}, {"figure_limits": "iou_2d=0.85"}, "below its limit of 0.85"),
        ({}, {"iou_2d_after": 0.8}, {"figure_limits": "iou_2d=0.75"}, None),
        ({}, {"chamfer_l2_after": 8.0}, {"figure_limits": "chamfer_l2=6"}, "above its limit of 6"),
        ({}, {"iou_2d_after": 0.8}, {"figure_limits": "emd=1"}, "no instance has that figure"),
        ({}, {"status": "failed"}, {}, "20 of the 20 rows done since the last night failed (100%)"),
        ({}, {"status": "failed"}, {"max_increment_failed": 1.0}, None),
    ],
)
def test_limits(nights, then, now, options, alert):
    def values(given):
        known = {name.replace("_after", "_before"): value for name, value in given.items() if name.endswith("_after")}
        return known | given

    nights(some(20, 1, fingerprint="one", **values(then)))
    spent = nights(some(20, 9, fingerprint="two", **values(now)), NightlyOptions(**options))
    assert spent.exit_status == (1 if alert else 0), spent.summary.alerts
    assert all(alert and alert in told for told in spent.summary.alerts)
    assert spent.summary.verdict == ("alert" if alert else "ok")


def test_a_few_instances_do_not_make_an_alert(nights):
    nights(some(5, 1, fingerprint="one", iou_2d_before=0.5, iou_2d_after=0.8))
    assert nights(some(5, 9, fingerprint="two", iou_2d_before=0.5, iou_2d_after=0.6)).exit_status == 0


def test_what_the_run_says_of_its_failed_share_is_an_alert(nights):
    spent = nights(some(2, 1), message="2 of 3 rows failed (67%), more than --max-failed-fraction 0.1 allows")
    assert spent.exit_status == 1
    assert spent.summary.alerts == [spent.record.message]


def test_a_night_that_was_stopped_writes_no_summary_and_the_next_covers_it(nights):
    nights(some(2, 1))
    stopped = nights([result("late", 5)], outcome="stopped", message="stopped by SIGTERM")
    assert (stopped.exit_status, stopped.summary) == (1, None)
    assert stopped.record.command == "nightly"
    after = nights([result("later", 9)])
    assert after.summary.changes["new"] == 2


@pytest.mark.parametrize("moment", ["driver", "compaction"])
def test_a_signal_during_the_night_ends_it(nights, monkeypatch, moment):
    """One that comes while the last batch is in hand, which the driver finishes; one in the middle of a compaction."""
    before = nights(some(2, 1), NightlyOptions(compact=False))
    if moment == "driver":
        nights.signal = signal.SIGTERM
    else:
        merged = compaction._merged

        def interrupted(*arguments):
            os.kill(os.getpid(), signal.SIGTERM)
            return merged(*arguments)

        monkeypatch.setattr(compaction, "_merged", interrupted)
    stopped = nights(some(2, 9))
    assert (stopped.exit_status, stopped.summary) == (1, None)
    assert stopped.record.outcome == "stopped"
    assert list(stopped.record.night["steps"])[-1] == ("refine" if moment == "driver" else "compact")
    output = Storage(str(nights.output))
    assert len(output.list("results")) == 2, "nothing is half done"
    assert NightSummary.last(output) == before.summary
    assert sorted(path.name for path in nights.output.iterdir()) == ["nightly", "results", "runs"]


def test_nights_do_not_overlap(nights):
    lock = OutputLock(Storage(str(nights.output)).child("nightly"), "somebody", purpose="nightly run").acquire()
    try:
        with pytest.raises(OutputLockedError, match="nightly run somebody"):
            nights(some(1, 1), NightlyOptions(lock_wait=0))
        reporter = Recorder()
        with pytest.raises(UsageError, match="somebody"):
            nights(some(1, 1), NightlyOptions(lock_wait=0.2), reporter=reporter)
        assert "waiting 0.2 s" in reporter.told[0]
    finally:
        lock.release()
    assert not (nights.output / "runs").exists()
    assert nights(some(1, 1)).exit_status == 0


def test_the_lock_goes_with_the_night_even_where_nothing_could_be_started(tmp_path):
    for _ in range(2):
        with pytest.raises(UsageError, match="nowhere"):
            nightly(str(tmp_path / "nowhere.csv"), str(tmp_path / "out"), night=NightlyOptions(lock_wait=0))


def test_summaries_of_other_versions_are_passed_over(nights):
    nights(some(1, 1))
    (nights.output / "nightly" / "zzz.json").write_text("{}")
    assert nights([]).summary.previous is not None


@pytest.mark.parametrize("text", ["iou_2d", "iou_2d=high", "iou_2d=nan", "iou=0.5", "iou_2d=0.8;emd=2"])
def test_limits_that_cannot_be_read_are_refused(text):
    with pytest.raises(ValueError, match=r"FIGURE=NUMBER|there is no figure"):
        NightlyOptions(figure_limits=text)
