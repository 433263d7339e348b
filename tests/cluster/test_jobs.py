"""Both jobs as operators run them: submitted to a running cluster, followed, stopped midway, resubmitted, finished."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
import urllib.request

import pytest
from cluster_files import ROOT
from fault_proxy import FaultProxy
from ray_head import ENVIRONMENT, ray_head
from stub_methods import Conduct
from tiny_dataset import result_rows, write_manifest

from refine_batch.config import RefineConfig
from refine_batch.io.storage import Storage
from refine_batch.job.metrics import ALL
from refine_batch.job.options import RunOptions
from refine_batch.nightly.summary import NightSummary
from refine_batch.results.run_record import RunRecord

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    # How Ray's client calls aiohttp when it follows a job's log.
    pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning"),
]
# Seconds: a busy machine takes minutes to import what an actor needs.
PATIENCE = 600.0
# Seconds an instance: time enough to stop a run midway, and batches that end within what a stop leaves them.
PACE = 2.0
HELD = 10_000.0
IDS = [f"i{number:03}" for number in range(120)]
SEEDS = itertools.count(os.getpid() * 1000)
OPTIONS = "--method stub_methods:paced --image-size 32 --figure-samples 100 --actors 2 --batch-size 4"


@pytest.fixture(scope="module")
def head(aws_environment, importable_stubs):
    """A cluster of one node that takes jobs and tells its metrics every second."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        with ray_head(system_config={"metrics_report_interval_ms": 1000}) as head:
            yield head


class Jobs:
    """The job server of a cluster."""

    def __init__(self, url):
        from ray.job_submission import JobSubmissionClient

        deadline = time.monotonic() + 120
        while True:
            try:
                self.client = JobSubmissionClient(url)
                return
            except Exception:
                assert time.monotonic() < deadline, "the head's job server does not answer"
                time.sleep(1)

    def submit(self, script, *arguments):
        entrypoint = " ".join([sys.executable, script, *map(str, arguments), OPTIONS, "--progress-interval 1"])
        environment = {
            "working_dir": str(ROOT),
            "excludes": [".git", ".venv", ".*_cache", "tests", "docs", "demo", "benchmarks", "*.egg-info"],
            # What `ray job stop` leaves a job to end in.
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "30", "PYTHONPATH": str(ROOT / "tests")},
        }
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self.client.submit_job(entrypoint=entrypoint, runtime_env=environment)
            except RuntimeError as error:
                # The job server answers before the agents that start jobs have reported to it.
                if "No available agent" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def ended(self, job, timeout=PATIENCE):
        deadline = time.monotonic() + timeout
        while not (status := self.client.get_job_status(job)).is_terminal():
            assert time.monotonic() < deadline, self.client.get_job_logs(job)
            time.sleep(0.5)
        return str(status)

    def followed(self, job):
        """Every line of a job's log, as it is told, to its end."""

        async def follow():
            return [text async for text in self.client.tail_job_logs(job)]

        return "".join(asyncio.run(asyncio.wait_for(follow(), PATIENCE)))


@pytest.fixture(params=["local", "s3"])
def output(request, tmp_path):
    return Storage(str(tmp_path / "out")) if request.param == "local" else request.getfixturevalue("s3_folder")


@pytest.mark.parametrize("script", ["jobs/refine.py", "jobs/nightly.py"])
def test_a_job_is_followed_stopped_midway_resubmitted_and_finishes(tmp_path, head, output, script):
    jobs, manifest = Jobs(head.jobs), write_manifest(tmp_path, IDS)
    conduct = Conduct(next(SEEDS))
    conduct.set(pace=PACE)
    arguments = [manifest, repr(output.uri), "--seed", conduct.seed]
    if output.s3_endpoint:
        arguments += ["--s3-endpoint", output.s3_endpoint]
    nightly = script == "jobs/nightly.py"
    if nightly:
        arguments += ["--report", repr(output.path_of("report.html"))]

    stopped = jobs.submit(script, *arguments)
    deadline = time.monotonic() + PATIENCE
    while not output.list("results"):
        assert time.monotonic() < deadline, jobs.client.get_job_logs(stopped)
        time.sleep(0.2)
    if nightly and output.local:
        conduct.set(pace=HELD)
        overlapping = jobs.submit(script, *arguments, "--lock-wait 0")
        assert jobs.ended(overlapping) == "FAILED"
        assert "is in use by nightly run" in jobs.client.get_job_logs(overlapping)
        conduct.set(pace=PACE)
    jobs.client.stop_job(stopped)
    assert jobs.ended(stopped) == "STOPPED"
    [record] = RunRecord.load_all(output)
    assert (record.outcome, record.exit_status) == ("stopped", 1)
    assert 0 < len(result_rows(output)) < len(IDS)

    conduct.set(pace=0.0)
    finished = jobs.submit(script, *arguments)
    followed = jobs.followed(finished)
    assert jobs.ended(finished) == "SUCCEEDED", followed
    assert " rows" in followed
    log = jobs.client.get_job_logs(finished)
    assert f"{len(IDS)}/{len(IDS)} rows" in log
    assert sorted(row["instance_id"] for row in result_rows(output)) == IDS
    records = RunRecord.load_all(output)
    assert [record.outcome for record in records] == ["stopped", "finished"]
    assert {record.command for record in records} == {"nightly" if nightly else "run"}
    if nightly:
        check_night(output, records[-1], log)
    else:
        idle = jobs.submit(script, *arguments)
        assert jobs.ended(idle) == "SUCCEEDED"
        assert "Nothing to do" in jobs.client.get_job_logs(idle)


def check_night(output, record, log):
    night = NightSummary.last(output)
    assert night.run_id == record.run_id
    assert night.verdict == "ok"
    # The rows of the night that was stopped are new since the last one that came to its end.
    assert night.changes["new"] == len(IDS)
    assert output.read(f"nightly/{record.run_id}.txt").decode().strip() in log
    assert len(output.list("results")) == 1, "compacted"
    assert b"<html" in output.read("report.html")[:2000].lower()
    assert json.loads(output.read(f"nightly/{record.run_id}.json"))["steps"].keys() == {
        *("refine", "compare", "measure", "compact", "report"),
    }


def test_every_metric_is_visible_on_the_endpoint(tmp_path, head, rclone):
    from refine_batch.job import driver

    bucket = rclone.make_bucket("metrics")
    # One instance takes its process down, and every seventh request is turned away.
    manifest = write_manifest(tmp_path, ["exit-0", *IDS[:16]])
    numbers = itertools.count(1)
    seen: dict[str, str] = {}

    class Scraper:
        """Reads the endpoint whenever it is shown the progress."""

        due = 0.0

        def show(self, snapshot):
            if time.monotonic() > self.due:
                self.due = time.monotonic() + 1
                text = urllib.request.urlopen(head.metrics, timeout=10).read().decode()
                seen.update(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("ray_refine_batch_"))

        def say(self, text): ...

        def close(self): ...

    def turned_away(method, path, number):
        return "503" if next(numbers) % 7 == 0 else None

    with FaultProxy(rclone.endpoint, turned_away) as proxy:
        options = RunOptions(
            address=head.address, actors=2, batch_size=2, s3_endpoint=proxy.endpoint, max_failed_fraction=0.2
        )
        config = RefineConfig(method="stub_methods:slow", image_size=32, figure_samples=100)
        outcome = driver.run(str(manifest), f"{bucket}/out", config, options, reporter=Scraper())
    assert outcome.exit_status == 0, outcome.record.message

    names = {
        series.partition("{")[0].removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for series in seen
    }
    assert {metric.exported for metric in ALL} <= names
    ours = {series: float(value) for series, value in seen.items() if f'run="{outcome.record.run_id}"' in series}

    def total(name, label=""):
        return sum(value for series, value in ours.items() if series.startswith(name + "{") and label in series)

    assert 0 < total("ray_refine_batch_rows_total", 'status="refined"') <= 16
    assert total("ray_refine_batch_faults_total", 'kind="process_died"') >= 1
    assert total("ray_refine_batch_storage_retries_total") >= 1
    assert total("ray_refine_batch_step_seconds_count", 'method="stub_methods:slow"') >= 1
    # Half a second an instance, in three steps.
    assert total("ray_refine_batch_stage_seconds_total", 'stage="optimise"') > 1
    assert total("ray_refine_batch_device_seconds_total", 'state="busy"') > 1
