"""Which Ray a run goes to, in processes of their own: clusters of others, notes of dead ones, folders without room."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tiny_dataset import write_manifest

from refine_batch.errors import UsageError
from refine_batch.job import address as addresses
from refine_batch.job.address import Address, choose
from refine_batch.job.neighbours import Neighbours
from refine_batch.job.ray_folder import LONGEST, check_folder, why_not_started

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"


@pytest.fixture
def folder():
    """A short folder, because socket paths have to be."""
    made = Path(tempfile.mkdtemp(prefix="rb-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def environment(folder, tmp_path):
    """A machine on which Ray was never used: no token, no note of a cluster."""
    (tmp_path / "home").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTEST"))}
    paths = os.pathsep.join([str(ROOT), str(TESTS)])
    return kept | {"HOME": str(tmp_path / "home"), "RAY_TMPDIR": str(folder), "PYTHONPATH": paths}


def note(folder: Path, text: str) -> None:
    """What `ray start` leaves."""
    (folder / "ray").mkdir(exist_ok=True)
    (folder / "ray" / "ray_current_cluster").write_text(text)


def unused() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"127.0.0.1:{closed.getsockname()[1]}"


def command(manifest, output, *options, method="stub_methods:swell"):
    plain = ["--method", method, "--image-size", "32", "--figure-samples", "100", "--actors", "1"]
    return [sys.executable, str(ROOT / "jobs" / "refine.py"), str(manifest), str(output), *plain, *options]


def check_lines(log: str) -> None:
    """Every line is this program's own."""
    for word in ("Ray\t", "gcs_client", "raylet", "WARNING", "INFO", "Traceback", "[33m", "worker.py", "core_worker"):
        assert word not in log, log


def test_a_note_of_a_cluster_is_followed_and_a_private_ray_leaves_none(monkeypatch, folder):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    assert choose(None) is None
    with pytest.raises(UsageError, match="--address auto: no cluster was started on this machine"):
        choose("auto")
    note(folder, "10.1.2.3:6379")
    assert choose(None) == Address("10.1.2.3:6379", None)
    assert choose("auto") == Address("10.1.2.3:6379", "--address auto:")
    assert choose("local") == "local"
    assert choose("head:6379") == Address("head:6379", "--address")
    monkeypatch.setenv("RAY_ADDRESS", "other:6379")
    assert choose(None) == Address("other:6379", "RAY_ADDRESS")


def test_what_listens_and_is_no_ray_is_told_from_one(monkeypatch):
    monkeypatch.setattr(addresses, "PROBE_WITHIN", 8.0)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(addresses.Refused, match="no Ray cluster"):
        Address(f"127.0.0.1:{listener.getsockname()[1]}", "--address").check()


def test_a_dead_address_is_named_as_whoever_named_it(tmp_path, environment):
    manifest, address = write_manifest(tmp_path, ["a"]), unused()
    done = subprocess.run(
        command(manifest, tmp_path / "out"),
        env=environment | {"RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"Error: RAY_ADDRESS {address}: nothing answers there" in done.stderr
    check_lines(done.stdout + done.stderr)


@pytest.mark.slow
def test_the_note_of_a_dead_cluster_and_a_folder_full_of_impostors_cost_nothing(tmp_path, folder, environment):
    """Ray's note leads nowhere; in the working directory lie modules of the names of what the workers need."""
    address = unused()
    note(folder, address)
    for name in ("numpy", "warp", "torch", "ray", "refine_batch"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('this is not what was asked for')\n")
    (tmp_path / "mine.py").write_text("from stub_methods import swell\n")
    manifest = write_manifest(tmp_path, ["a", "b"])
    done = subprocess.run(
        command(manifest, tmp_path / "out", method="mine:swell"),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert f"the Ray cluster {address} that was started on this machine is not used: nothing answers there" in text
    assert "2 of 2 rows" in text
    check_lines(text)


@pytest.mark.slow
def test_a_cluster_that_wants_another_token_is_left_alone(tmp_path, folder, environment):
    """`ray start` by somebody else, with a token that this process does not have."""
    token = secrets.token_hex(16)
    (tmp_path / "theirs").mkdir()
    theirs = environment | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "HOME": str(tmp_path / "theirs")}
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--port=0", "--num-cpus=1", "--block"]
    start += ["--include-dashboard=false", "--disable-usage-stats", f"--object-store-memory={80 << 20}"]
    head = subprocess.Popen(start, env=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    noted = folder / "ray" / "ray_current_cluster"
    try:
        while not noted.exists() or not noted.read_text():
            assert head.poll() is None
        address = noted.read_text()
        manifest = write_manifest(tmp_path, ["a", "b"])
        for options, status, sentence in (
            ((), 0, f"the Ray cluster {address} that was started on this machine is not used: it asks for a token"),
            (("--address", "auto"), 2, f"Error: --address auto: {address}: it asks for a token that this process"),
        ):
            done = subprocess.run(
                command(manifest, tmp_path / "out", *options),
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            text = done.stdout + done.stderr
            assert (done.returncode, text.count(sentence)) == (status, 1), text
            check_lines(text)
            if status == 0:
                (tmp_path / "out").rename(tmp_path / "done")
        done = subprocess.run(
            command(manifest, tmp_path / "out"), env=theirs, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "is not used" not in done.stderr
    finally:
        head.terminate()
        head.wait()


@pytest.mark.slow
def test_runs_side_by_side_all_finish_and_share_the_cores(tmp_path, environment):
    """Each has a Ray of its own, which ends with it and with nobody else's run."""
    runs = []
    for number in range(3):
        manifest = write_manifest(tmp_path / f"{number}", [f"i{k}" for k in range(4 + 4 * number)])
        line = command(manifest, tmp_path / f"out-{number}", "--actors", "auto", method="stub_methods:slow")
        runs.append(
            subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    for number, run in enumerate(runs):
        text = run.communicate(timeout=250)[0]
        assert run.returncode == 0, text
        assert f"{4 + 4 * number} of {4 + 4 * number} rows" in text
        check_lines(text)


def test_runs_of_one_machine_count_each_other(tmp_path):
    first = Neighbours(tmp_path).join()
    assert first.count() == 1
    second = Neighbours(tmp_path).join()
    assert second.count() == 2
    first.leave()
    # One that was killed: the system has let go of its lock, and its file lies there.
    (tmp_path / "dead").touch()
    third = Neighbours(tmp_path).join()
    assert third.count() == 2
    second.leave()
    third.leave()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_ray_cannot_be_started_in_is_named_with_what_to_do(folder):
    check_folder(str(folder / "not there yet"))
    with pytest.raises(UsageError, match=rf"path is longer than {LONGEST} bytes: name a shorter one by RAY_TMPDIR"):
        check_folder("/tmp/" + "x" * LONGEST)
    with pytest.raises(UsageError, match=r"cannot be started in the temporary folder /proc/1.*RAY_TMPDIR"):
        check_folder("/proc/1")
    assert "it is full" in why_not_started("/tmp", OSError(28, "No space left on device"))
    assert "it went wrong" in why_not_started("/tmp", RuntimeError("it\nwent wrong"))


@pytest.mark.parametrize(("options", "said"), [("size=1m", "1 MB left and 52 are needed"), ("ro", "cannot be written")])
def test_a_full_or_read_only_folder_is_one_sentence(tmp_path, environment, options, said):
    """A real file system, in a namespace of its own."""
    can = shutil.which("unshare") and subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    if not can or can.returncode:
        pytest.skip("this system does not let its users mount")
    manifest, place = write_manifest(tmp_path, ["a"]), environment["RAY_TMPDIR"]
    run = shlex.join(command(manifest, tmp_path / "out", "--address", "local"))
    script = f"mount -t tmpfs -o {options} tmpfs {place} && exec {run}"
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-ec", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"cannot be started in the temporary folder {place}: " in done.stderr
    assert said in done.stderr
    assert "RAY_TMPDIR" in done.stderr
    check_lines(done.stdout + done.stderr)
