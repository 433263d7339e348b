"""A night from its arguments to its exit status: refine, look at what changed, compact, report, one record."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from refine_batch.config import RefineConfig
from refine_batch.errors import RefineBatchError
from refine_batch.io.storage import Storage, redact
from refine_batch.io.uri import normalise
from refine_batch.job.driver import run
from refine_batch.job.options import RunOptions
from refine_batch.job.progress import Reporter, Silent
from refine_batch.job.stop import StopRequest
from refine_batch.nightly.changes import Changes, changes_since
from refine_batch.nightly.limits import crossed
from refine_batch.nightly.options import NightlyOptions
from refine_batch.nightly.summary import NIGHTS, FigureNow, NightSummary
from refine_batch.report import write_report
from refine_batch.results.compact import compact
from refine_batch.results.lock import OutputLock, OutputLockedError
from refine_batch.results.run_record import RunRecord, new_run_id
from refine_batch.results.summary import Summary, summarise


@dataclass(frozen=True)
class Night:
    """How a night ended. `summary` is None where it did not come to its end; the next one covers it too. `abandoned`
    as of `RunOutcome`."""

    exit_status: int
    record: RunRecord
    summary: NightSummary | None
    abandoned: bool = False


def nightly(
    manifest_uri: str,
    output_uri: str,
    config: RefineConfig | None = None,
    options: RunOptions | None = None,
    night: NightlyOptions | None = None,
    *,
    reporter: Reporter | None = None,
) -> Night:
    """Refine what is missing, compact and report, and summarise what changed since the last night.

    Raises
    ------
    UsageError
        The manifest, the configuration or the output cannot be used, or another night or run holds the output: nothing
        was started.
    """
    config, options, night = config or RefineConfig(), options or RunOptions(), night or NightlyOptions()
    reporter = reporter or Silent()
    storage = Storage(normalise(output_uri), options.s3_endpoint)
    # Beside the output's own lock, which refining and compacting take and give back in turn.
    lock = _locked(storage, night.lock_wait, reporter)
    try:
        with StopRequest(options.grace_period) as stop:
            outcome = run(manifest_uri, output_uri, config, options, reporter=reporter)
            record = outcome.record.model_copy(update={"command": "nightly"})
            if record.outcome != "finished":
                record.write(storage)
                return Night(outcome.exit_status or 1, record, None, outcome.abandoned)
            return _Rest(storage, options, night, reporter, stop, lock).go(record)
    finally:
        lock.release()
        reporter.close()


def _locked(storage: Storage, wait: float, reporter: Reporter) -> OutputLock:
    lock = OutputLock(storage.child(NIGHTS), new_run_id(), purpose="nightly run")
    try:
        return lock.acquire()
    except OutputLockedError as error:
        if not wait:
            raise
        reporter.say(f"{error}; waiting {wait:g} s for it (--lock-wait)")
    return lock.acquire(wait)


class _Rest:
    """What follows the refining."""

    def __init__(
        self,
        storage: Storage,
        options: RunOptions,
        night: NightlyOptions,
        reporter: Reporter,
        stop: StopRequest,
        lock: OutputLock,
    ):
        self._storage, self._options, self._night = storage, options, night
        self._reporter, self._stop, self._lock = reporter, stop, lock
        self._alerts: list[str] = []
        self._steps: dict[str, dict[str, Any]] = {}

    def go(self, record: RunRecord) -> Night:
        verdict = record.message
        seconds = (record.ended_at - record.started_at).total_seconds() if record.ended_at else 0.0
        self._steps["refine"] = {"seconds": round(seconds, 1), **record.counts, "already_done": record.skipped}
        # Until the night's end, lest a night that is killed in between look like one that came through.
        record = record.model_copy(update={"outcome": "running", "exit_status": None, "ended_at": None})
        record.write(self._storage)
        previous = NightSummary.last(self._storage)
        # Compaction drops the rows that this compares with.
        changes = self._step("compare", lambda: changes_since(self._storage, previous.as_of if previous else None))
        now = self._step("measure", lambda: summarise(self._storage))
        if self._night.compact:
            self._step("compact", self._compact)
        if self._night.report:
            self._step("report", self._report)
        if self._stop or self._lock.lost:
            reason = f"stopped by {self._stop.signal}" if self._stop else "another night took the output over"
            return self._end(record, "stopped", f"{reason}; the next night does the rest", None)
        if verdict:
            self._alerts.append(verdict)
        if changes is None or now is None:
            return self._end(record, "failed", "; ".join(self._alerts), None)
        summary = self._summary(record, previous, changes, now)
        summary.write(self._storage)
        return self._end(record, "finished", "; ".join(summary.alerts) or None, summary)

    def _step(self, name: str, work: Callable[[], Any]) -> Any:
        """The step's answer; None, and an alert, where it failed, which is no reason to leave the others out."""
        if self._stop:
            return None
        begun = time.monotonic()
        self._reporter.say(f"nightly: {name}")
        try:
            answer = work()
        except Exception as error:
            expected = isinstance(error, (RefineBatchError, OSError))
            self._alerts.append(redact(f"{name} failed: {error if expected else f'{type(error).__name__}: {error}'}"))
            answer = None
        step = {"seconds": round(time.monotonic() - begun, 1)}
        self._steps[name] = step | answer if isinstance(answer, dict) else step
        return answer

    def _compact(self) -> dict[str, Any]:
        try:
            target = int(self._night.target_size * 1e6)
            done = compact(self._storage, target_bytes=target, stop=lambda: bool(self._stop))
        except OutputLockedError as error:
            self._alerts.append(f"compact was left out: {error}")
            return {}
        return {"files_before": done.parts_before, "files_after": done.parts_after, "rows_dropped": done.rows_dropped}

    def _report(self) -> dict[str, Any]:
        destination = self._night.report
        assert destination is not None
        endpoint = self._options.s3_endpoint
        write_report(self._storage.uri, destination, sample=self._night.report_sample, s3_endpoint=endpoint)
        return {"written_to": redact(destination)}

    def _summary(
        self, record: RunRecord, previous: NightSummary | None, changes: Changes, now: Summary
    ) -> NightSummary:
        figures = {
            name: FigureNow(
                count=figure.count,
                before=figure.before,
                after=figure.after,
                last=previous.figures[name].after if previous and name in previous.figures else None,
                pairs=asdict(changes.pairs[name]) if name in changes.pairs else None,
            )
            for name, figure in now.overall.figures.items()
        }
        alerts = self._alerts + crossed(self._night, changes, figures)
        counted = ("new", "changed", "redone", "unchanged", "failed", "newly_failed", "recovered")
        return NightSummary(
            run_id=record.run_id,
            previous=previous.run_id if previous else None,
            manifest=record.manifest,
            output=record.output,
            started_at=record.started_at,
            ended_at=datetime.now(UTC),
            as_of=changes.as_of,
            verdict="alert" if alerts else "ok",
            alerts=alerts,
            rows=record.rows,
            not_in_manifest=record.not_in_manifest,
            counts=now.overall.counts,
            changes={name: getattr(changes, name) for name in counted},
            failures=[
                {
                    "kind": kind,
                    "count": count,
                    "examples": [{"instance_id": one, "message": redact(text)} for one, text in examples],
                }
                for kind, count, examples in changes.failures
            ],
            figures=figures,
            worst=[asdict(moved) for moved in changes.worst],
            steps=self._steps,
        )

    def _end(self, record: RunRecord, outcome: str, message: str | None, summary: NightSummary | None) -> Night:
        exit_status = 0 if outcome == "finished" and not message else 1
        record = record.model_copy(
            update={
                "outcome": outcome,
                "exit_status": exit_status,
                "message": message,
                "ended_at": datetime.now(UTC),
                "night": {"steps": self._steps, "summary": f"{NIGHTS}/{record.run_id}.json" if summary else None},
            }
        )
        record.write(self._storage)
        return Night(exit_status, record, summary)
