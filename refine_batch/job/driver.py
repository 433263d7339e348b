"""A run from its arguments to its exit status."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from refine_batch.config import RefineConfig
from refine_batch.dataset.manifest import Manifest
from refine_batch.errors import RefineBatchError, UsageError
from refine_batch.io.storage import Storage, StorageError, redact
from refine_batch.io.uri import normalise
from refine_batch.job.assignment import Assignment
from refine_batch.job.cluster import connect
from refine_batch.job.code_folder import code_digest, extend_path, search_path
from refine_batch.job.encoder import encoder_stamp, provide_encoder
from refine_batch.job.options import RunOptions
from refine_batch.job.plan import Plan
from refine_batch.job.progress import Reporter, Silent, Snapshot
from refine_batch.job.quiet import Quiet
from refine_batch.job.stop import StopRequest
from refine_batch.job.watch import ClusterLostError, Watch
from refine_batch.methods.base import load_method
from refine_batch.results.committed import CommittedIndex
from refine_batch.results.compact import finish
from refine_batch.results.lock import OutputLock
from refine_batch.results.run_record import RunRecord, new_run_id
from refine_batch.results.versions import code_version, versions

if TYPE_CHECKING:
    from refine_batch.job.dispatch import Dispatch

# Seconds past the grace period after which a Ray that does not answer is given up.
UNANSWERED = 5.0


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: the process's exit status, and its record as it stands in `runs/`.

    `abandoned` says that a Ray was left that is lost: the process had better end now, without waiting for it.
    """

    exit_status: int
    record: RunRecord
    abandoned: bool = False


def run(
    manifest_uri: str,
    output_uri: str,
    config: RefineConfig | None = None,
    options: RunOptions | None = None,
    *,
    reporter: Reporter | None = None,
) -> RunOutcome:
    """Refine every row of a manifest that the output does not hold yet.

    Parameters
    ----------
    manifest_uri, output_uri
        Local paths or fsspec URIs.
    reporter
        Is told of the progress; by default nobody is.

    Raises
    ------
    UsageError
        The manifest, the configuration or the output cannot be used, or another run holds the output: nothing was
        started and no row written.
    """
    config, options, reporter = config or RefineConfig(), options or RunOptions(), reporter or Silent()
    _load_method(config.method)
    provide_encoder(config.encoder_weights, options.s3_endpoint)
    manifest = Manifest.open(manifest_uri, options.s3_endpoint)
    if manifest.ignored_columns:
        reporter.say(f"columns that mean nothing here are ignored: {', '.join(manifest.ignored_columns)}")
    for note in manifest.notes:
        reporter.say(note)
    rows = manifest.check_ids()
    rows = min(rows, options.limit) if options.limit else rows
    storage = Storage(normalise(output_uri), options.s3_endpoint)
    record = RunRecord(
        run_id=new_run_id(),
        manifest=redact(manifest.uri),
        manifest_fingerprint=manifest.fingerprint(),
        output=redact(storage.uri),
        config=config.model_dump(mode="json"),
        config_hash=config.config_hash(),
        options=options.model_dump(mode="json"),
        versions=versions(),
        host=socket.gethostname(),
        started_at=datetime.now(UTC),
        rows=rows,
    )
    try:
        lock = OutputLock(storage, record.run_id).acquire()
    except StorageError as error:
        raise UsageError(f"the output {redact(storage.uri)} cannot be written: {error}") from error
    try:
        with StopRequest(options.grace_period) as stop:
            return _Run(manifest, storage, config, options, reporter, record, lock, stop).go()
    finally:
        lock.release()
        reporter.close()


class _Run:
    """The part of a run that happens under the output's lock."""

    def __init__(
        self,
        manifest: Manifest,
        storage: Storage,
        config: RefineConfig,
        options: RunOptions,
        reporter: Reporter,
        record: RunRecord,
        lock: OutputLock,
        stop: StopRequest,
    ):
        self._manifest, self._storage, self._config, self._options = manifest, storage, config, options
        self._reporter, self._record, self._lock, self._stop = reporter, record, lock, stop
        # A compaction that was killed is brought to its end before anything is counted.
        finish(storage)
        self._index = CommittedIndex.load(storage)
        self._plan = Plan(
            manifest,
            self._index,
            config.config_hash() + encoder_stamp(config.encoder_weights, options.s3_endpoint),
            rows=record.rows or 0,
            limit=options.limit,
            retry_failed=options.retry_failed,
            transient_attempts=options.transient_attempts,
            force=options.force,
            s3_endpoint=options.s3_endpoint,
        )
        self._dispatch: Dispatch | None = None
        self._abandoned = False

    def go(self) -> RunOutcome:
        problem: str | None = None
        try:
            self._plan.start()
            if self._plan.wait(until=lambda: bool(self._stop)) and not self._stop:
                self._refine()
        except RefineBatchError as error:
            if isinstance(error, UsageError) and self._dispatch is None:
                raise
            problem = redact(str(error))
        except BaseException as error:
            self._conclude(redact(f"{type(error).__name__}: {error}"))
            raise
        finally:
            self._plan.cancel()
        return self._conclude(problem)

    def _refine(self) -> None:
        quiet = Quiet().__enter__()
        try:
            self._refine_quietly()
        finally:
            if not self._abandoned:
                quiet.__exit__()

    def _refine_quietly(self) -> None:
        cluster = connect(self._options.address, self._reporter.say)
        # Ray is imported by `connect` first, and only where there is work.
        from refine_batch.job.dispatch import Dispatch

        answers = True
        try:
            watch = Watch(cluster.own, cluster.address)
            # Ray sets handlers of its own.
            self._stop.install()
            request = cluster.request(self._options)
            self._record.cluster = cluster.summary()
            self._record.write(self._storage)
            assignment = Assignment(
                run_id=self._record.run_id,
                output=self._storage,
                config=self._config,
                code_version=code_version(),
                s3_endpoint=self._options.s3_endpoint,
                part_bytes=int(self._options.part_size * 1e6),
                loaders=self._options.loaders,
                max_pixels=self._options.max_pixels,
                threads=max(1, int(request.cpus)),
                cores=max(1, int(request.cpus)),
                batch_size=None if self._options.batch_size == "auto" else self._options.batch_size,
                device="auto" if request.gpus else "cpu",
                not_before=self._index.newest,
                code_digest=code_digest(),
                search_path=search_path() if ":" in self._config.method else (),
            )
            self._dispatch = Dispatch(
                plan=self._plan,
                cluster=cluster,
                request=request,
                assignment=assignment,
                options=self._options,
                rows=self._record.rows or 0,
                lock=self._lock,
                stop=self._stop,
                reporter=self._reporter,
            )
            answers = self._attend(self._dispatch, watch)
        except ClusterLostError:
            answers = False
            raise
        finally:
            if answers:
                cluster.close()
            else:
                self._abandoned = True
                cluster.abandon()

    def _attend(self, dispatch: Dispatch, watch: Watch) -> bool:
        """Let the work go on in a thread while this one, the only one that gets signals, listens for them.

        False where it did not end though it was asked to: a signal to the whole process group also ends a local Ray,
        and a call into a Ray that is gone does not return.
        """
        errors: list[BaseException] = []

        def work() -> None:
            try:
                dispatch.run()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work, name="dispatch", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
            if self._stop.overdue_by > UNANSWERED:
                return False
            if not self._stop:
                watch.check()
        if errors:
            raise watch.explain(errors[0]) or errors[0]
        return True

    def _conclude(self, problem: str | None) -> RunOutcome:
        record, plan = self._record, self._plan
        counts: dict[str, int] = {}
        if self._dispatch is not None:
            ledger, tally = self._dispatch.ledger, self._dispatch.tally
            counts = {status: ledger.counts[status] for status in ("refined", "kept", "failed")}
            record.figures = tally.means()
            record.totals = {"seconds": round(tally.seconds, 3), "faults": ledger.faults.total()}
            record.totals |= {f"seconds_{name}": round(seconds, 3) for name, seconds in tally.stages.items()}
            record.totals["doubtful"] = tally.doubtful
            record.totals |= {"device_busy": round(tally.busy, 3), "device_idle": round(tally.idle, 3)}
            if ledger.unwritten and problem is None:
                problem = f"{ledger.unwritten} rows could not be written to the output; the next run does them"
                if ledger.why_unwritten:
                    problem += f". The last: {ledger.why_unwritten}"
        record.counts = counts
        record.skipped = plan.skipped
        if plan.ended and problem is None and not self._stop and self._options.limit is None:
            record.not_in_manifest = self._index.not_in_manifest()
        failed = counts.get("failed", 0) + plan.skipped_failed
        rows = record.rows or 0
        if self._stop and sum(counts.values()) + plan.skipped < rows:
            record.outcome, record.exit_status = "stopped", 1
            record.message = f"stopped by {self._stop.signal}; the same command goes on from here"
        elif problem is not None:
            record.outcome, record.exit_status, record.message = "failed", 1, problem
        elif sum(counts.values()) + plan.skipped != rows:
            left = rows - sum(counts.values()) - plan.skipped
            record.outcome, record.exit_status = "failed", 1
            record.message = f"{left} rows were left undone; the same command does them"
        else:
            record.outcome = "finished"
            within = failed <= self._options.max_failed_fraction * rows
            record.exit_status = 0 if within else 1
            if not within:
                record.message = (
                    f"{failed} of {rows} rows failed ({failed / rows:.0%}), more than "
                    f"--max-failed-fraction {self._options.max_failed_fraction:g} allows"
                )
        record.ended_at = datetime.now(UTC)
        self._reporter.show(self._final_snapshot())
        try:
            self._index.keep(self._storage)
            record.write(self._storage)
        except StorageError as error:
            self._reporter.say(f"the run record could not be written: {error}")
            record.exit_status = 1
        return RunOutcome(record.exit_status or 0, record, self._abandoned)

    def _final_snapshot(self) -> Snapshot:
        if self._dispatch is not None:
            return self._dispatch.snapshot()
        return Snapshot(rows=self._record.rows or 0, skipped=self._plan.skipped, stopping=bool(self._stop))


def _load_method(name: str) -> None:
    """Fail early on an unknown method; `module:function` may be in the working directory, where actors look last."""
    if ":" in name:
        extend_path((os.getcwd(),))
    try:
        load_method(name)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"method {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
