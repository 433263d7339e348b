"""A small dataset, a run over it that something happens to, and what must be true afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from stub_methods import Conduct
from tiny_dataset import result_rows, write_manifest

from refine_batch.config import RefineConfig
from refine_batch.dataset.load import load_instance
from refine_batch.dataset.manifest import Manifest
from refine_batch.dataset.row import ManifestRow
from refine_batch.instance import RefinedInstance
from refine_batch.io.storage import Storage
from refine_batch.job import driver
from refine_batch.job.driver import RunOutcome
from refine_batch.job.options import RunOptions
from refine_batch.job.progress import Reporter
from refine_batch.refinement.pipeline import refine
from refine_batch.results.live import live_rows

ROOT = Path(__file__).parents[2]
BATCH = 2


class Trial:
    """A dataset of little bumpy spheres, each another, refined by the real `large-steps` in batches of two.

    Parameters
    ----------
    seed
        Of the configuration; another for each trial, so that what its actors did is told apart from others'.
    """

    def __init__(self, folder: Path, seed: int, count: int = 8, output: Storage | None = None):
        self.folder, self.ids = folder, [f"i{number:02}" for number in range(count)]
        self.manifest = write_dataset(folder, self.ids)
        self.source = str(self.manifest)
        self.output = output or Storage(str(folder / "out"))
        self.config = RefineConfig(
            method="stub_methods:observed",
            seed=seed,
            steps=2,
            image_size=32,
            figure_samples=100,
            guard=False,
            camera_error="0",
        )
        self.conduct = Conduct(seed)
        self.address: str | None = None

    def upload(self) -> None:
        """Put manifest, meshes and images beside the output, and run from there."""
        inputs = Storage(f"{self.output.uri.rpartition('/')[0]}/inputs", self.output.s3_endpoint)
        for file in filter(Path.is_file, self.folder.iterdir()):
            inputs.write(file.name, file.read_bytes())
        self.source = inputs.path_of(self.manifest.name)

    def options(self, **changes) -> RunOptions:
        settings = {"address": self.address, "batch_size": BATCH, "actors": 2, "instance_timeout": 60.0}
        return RunOptions(**settings | {"s3_endpoint": self.output.s3_endpoint} | changes)

    def run(self, reporter: Reporter | None = None, **options) -> RunOutcome:
        """A whole run in this process."""
        return driver.run(self.source, self.output.uri, self.config, self.options(**options), reporter=reporter)

    def start(self, **options) -> Background:
        """The same in a thread."""
        return Background(lambda: self.run(**options))

    def command(self, *options: str) -> list[str]:
        """The same as a command, for a process of its own."""
        command = [sys.executable, str(ROOT / "jobs" / "refine.py"), self.source, self.output.uri]
        for name in ("method", "seed", "steps", "image_size", "figure_samples"):
            command += [f"--{name.replace('_', '-')}", str(getattr(self.config, name))]
        command += ["--set", "guard=false", "--set", "camera_error=0", "--progress-interval", "0.5"]
        command += ["--address", self.address or "local"]
        command += ["--actors", "2", "--batch-size", str(BATCH), *options]
        if self.output.s3_endpoint and "--s3-endpoint" not in options:
            command += ["--s3-endpoint", self.output.s3_endpoint]
        return command

    def begun(self) -> list[tuple[int, list[str]]]:
        """(process, ids) of every batch that an actor began to refine."""
        return self.conduct.begun()

    def rows(self) -> list[dict]:
        return result_rows(self.output)

    def records(self) -> list[dict]:
        return [json.loads(self.output.read(record.path)) for record in self.output.list("runs")]

    def wait_for_rows(self, number: int) -> None:
        wait_until(lambda: len(self.rows()) >= number, "rows")

    def wait_for_batches(self, number: int) -> list[tuple[int, list[str]]]:
        """Wait until that many batches were begun, and say which."""
        wait_until(lambda: len(self.begun()) >= number, "a batch that is begun")
        return self.begun()

    @cached_property
    def undisturbed(self) -> dict[str, RefinedInstance]:
        """What the method makes of each instance by itself: no cluster, no storage, no batch-mates."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as an actor has
        try:
            config = self.config.model_copy(update={"method": "large-steps"})
            rows = [
                ManifestRow.from_batch(batch, number)
                for batch in Manifest.open(str(self.manifest)).batches()
                for number in range(batch.num_rows)
            ]
            refined = [
                outcome for row in rows for outcome in refine([load_instance(row, config)], config, device="cpu")
            ]
        finally:
            torch.set_num_threads(threads)
        return {outcome.instance_id: outcome for outcome in refined}

    def check(
        self,
        *,
        ids: Iterable[str] | None = None,
        failed: Mapping[str, str] | None = None,
        repeated: int = 0,
        superseded: int = 0,
    ) -> dict[str, dict]:
        """One true row per id, equal to the undisturbed run's but for rounding, and little work done twice.

        Parameters
        ----------
        failed
            Kind of error of the instances that could not be refined.
        repeated
            Rows that may have been refined once more than needed; a batch per actor and fault.
        superseded
            Rows in storage besides the live ones; 0 where no attempt may leave anything behind.
        """
        ids, failed = self.ids if ids is None else list(ids), failed or {}
        live = [row for batch in live_rows(self.output) for row in batch.to_pylist()]
        assert Counter(row["instance_id"] for row in live) == Counter(ids)
        assert len(self.rows()) - len(ids) <= superseded
        rows = {row["instance_id"]: row for row in live}
        lost = {name: row for name, row in rows.items() if row["status"] == "failed"}
        why = "; ".join(f"{name}: {row['error_message']}" for name, row in lost.items())
        assert {name: row["error_kind"] for name, row in lost.items()} == failed, why
        for name in set(ids) - set(failed):
            agree(rows[name], self.undisturbed[name])
        begun = Counter(name for _, some in self.begun() for name in some)
        assert set(begun) <= set(ids) | set(self.ids)
        assert sum(begun.values()) - len(begun) <= repeated, begun
        return rows


def agree(row: dict, refined: RefinedInstance) -> None:
    """A row holds what the method gave, but for rounding, which goes by whom it shared the device with."""
    assert row["status"] == refined.status
    assert refined.mesh is not None
    np.testing.assert_allclose(np.array(row["vertices"], np.float32), refined.mesh.vertices, atol=1e-5)
    np.testing.assert_array_equal(np.array(row["faces"], np.int32), refined.mesh.faces)
    np.testing.assert_allclose(np.array(row["loss_curve"], np.float32), refined.loss_curve, rtol=1e-4)
    assert row["loss_total"] == pytest.approx(refined.loss_total, rel=1e-4)
    assert row["iou_2d_before"] == refined.before.iou_2d
    assert row["iou_2d_after"] == pytest.approx(refined.after.iou_2d, abs=0.01)


class Background:
    """A run in a thread."""

    def __init__(self, work: Callable[[], RunOutcome]):
        self._outcome: RunOutcome | None = None
        self._error: BaseException | None = None

        def go() -> None:
            try:
                self._outcome = work()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=go, daemon=True)
        self._thread.start()

    def outcome(self, timeout: float = 250) -> RunOutcome:
        self._thread.join(timeout)
        if self._error is not None:
            raise self._error
        assert self._outcome is not None, "the run did not end"
        return self._outcome


class Processes:
    """Starts processes, and ends those that are left."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen] = []

    def start(self, command: list[str], **settings) -> subprocess.Popen:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.communicate()


def write_dataset(folder: Path, ids: Collection[str]) -> Path:
    """A manifest whose instances have each a mesh of its own; meshes that are there stay as they are."""
    manifest = write_manifest(folder, ids)
    for number, name in enumerate(ids):
        if (folder / f"{name}.obj").exists():
            continue
        sphere = trimesh.creation.icosphere(subdivisions=1, radius=0.3)
        bumps = np.random.default_rng(number).normal(0, 0.02, sphere.vertices.shape)
        trimesh.Trimesh(sphere.vertices + bumps, sphere.faces, process=False).export(folder / f"{name}.obj")
    lines = manifest.read_text(encoding="utf-8").splitlines()
    lines[1:] = [line.replace("sphere.obj", f"{name}.obj") for name, line in zip(ids, lines[1:], strict=True)]
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


def wait_until(true: Callable[[], bool], what: str, timeout: float = 200) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
