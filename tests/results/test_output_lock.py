"""One run per output: who gets the lock, who is refused, and when it is stale."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from fault_proxy import FaultProxy

from refine_batch.io import local
from refine_batch.io.storage import Storage
from refine_batch.results import lock as lock_module
from refine_batch.results.lock import LOCK, Holder, LockLostError, OutputLock, OutputLockedError, holder_of


@pytest.fixture(params=["local", "s3", "moto"])
def output(request, tmp_path) -> Storage:
    """An output folder: local, on S3 without conditional puts, and on S3 with them."""
    if request.param == "local":
        return Storage(str(tmp_path / "out"))
    return request.getfixturevalue({"s3": "s3_folder", "moto": "moto_folder"}[request.param])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lock_module, "_SETTLE", 0.1)
    monkeypatch.setattr(lock_module, "_POLL", 0.05)


def lock(output, run_id="run", **options):
    """Its time to live is longer than any machine stands still; its heart beats often."""
    return OutputLock(output, run_id, **{"ttl": 60.0, "heartbeat": 0.1} | options)


def until(condition) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def elsewhere(run_id: str, beat_age: float = 0.0, **changes) -> Holder:
    """A holder on another machine, whose process cannot be looked at from here."""
    holder = replace(
        Holder.here(run_id, "run", 60.0), host="far-away", boot="another machine", nonce="theirs", **changes
    )
    return replace(holder, started_at=time.time() - 300, heartbeat_at=time.time() - beat_age)


def test_a_second_run_is_refused_and_told_by_whom(output):
    with lock(output, "first") as held:
        assert not held.lost
        with pytest.raises(OutputLockedError) as caught:
            lock(output, "second").acquire()
        message = str(caught.value)
        assert "in use by run first on " in message
        assert f"process {os.getpid()}" in message
        assert re.search(r"started \d+ s ago", message)
        assert json.loads(output.read(LOCK))["run_id"] == "first"
    assert not output.exists(LOCK)
    with lock(output, "second"):
        pass


def test_the_heartbeat_goes_on(output):
    with lock(output) as held:
        first = json.loads(output.read(LOCK))["heartbeat_at"]
        until(lambda: json.loads(output.read(LOCK))["heartbeat_at"] > first)
        held.check()


def test_one_of_many_gets_it(output, monkeypatch):
    monkeypatch.setattr(lock_module, "_SETTLE", 2.0)  # more than a put takes, on any machine
    barrier = threading.Barrier(6)

    def attempt(n: int) -> OutputLock | None:
        mine = lock(output, f"run{n}", heartbeat=2)
        barrier.wait()
        try:
            return mine.acquire()
        except OutputLockedError:
            return None

    with ThreadPoolExecutor(6) as pool:
        winners = [held for held in pool.map(attempt, range(6)) if held]
    assert len(winners) == 1
    winners[0].release()


def test_a_living_run_elsewhere_is_respected(output):
    output.write(LOCK, elsewhere("far", beat_age=10).dump())
    with pytest.raises(OutputLockedError, match=r"run far on far-away .* started 5 min ago"):
        lock(output).acquire()


def test_a_run_elsewhere_that_stopped_beating_is_taken_over(output):
    output.write(LOCK, elsewhere("far", beat_age=100).dump())
    with lock(output, "mine"):
        assert json.loads(output.read(LOCK))["run_id"] == "mine"


@pytest.mark.parametrize("skew", [-3600, 3600])
def test_a_clock_that_is_wrong_does_not_kill_a_living_run(output, skew, monkeypatch):
    class Meanwhile:
        """Time, in which the holder lives on."""

        time, monotonic = time.time, time.monotonic

        @staticmethod
        def sleep(seconds: float) -> None:
            time.sleep(0.01)
            output.write(LOCK, elsewhere("far", beat_age=skew).dump())

    output.write(LOCK, elsewhere("far", beat_age=skew).dump())
    monkeypatch.setattr(lock_module, "time", Meanwhile)
    with pytest.raises(OutputLockedError, match="run far"):
        lock(output).acquire()


def test_a_killed_process_of_this_machine_holds_nothing(output):
    script = (
        "import sys, time\n"
        "from refine_batch.io.storage import Storage\n"
        "from refine_batch.results.lock import OutputLock\n"
        "OutputLock(Storage(sys.argv[1], sys.argv[2] or None), 'killed', ttl=600, heartbeat=100).acquire()\n"
        "print('held', flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, output.uri, output.s3_endpoint or ""], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OutputLockedError, match="run killed"):
            lock(output).acquire()
        process.send_signal(signal.SIGKILL)
    # To watch for its heartbeat would take hours.
    with lock(output, "mine", heartbeat=10_000):
        assert json.loads(output.read(LOCK))["run_id"] == "mine"


def test_a_recycled_process_number_is_told_apart(output):
    holder = replace(Holder.here("old", "run", 600), process_started="1", nonce="theirs")
    output.write(LOCK, holder.dump())
    with lock(output, heartbeat=100):
        pass


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"run_id": 1}', b"\xff"])
def test_a_file_that_is_no_lock_is_replaced(output, data):
    output.write(LOCK, data)
    with lock(output, "mine"):
        assert json.loads(output.read(LOCK))["run_id"] == "mine"


def test_waiting_for_the_holder_to_end(output):
    held = lock(output, "first").acquire()
    threading.Timer(0.5, held.release).start()
    with lock(output, "second").acquire(wait=100):
        assert json.loads(output.read(LOCK))["run_id"] == "second"


def test_a_run_whose_lock_was_taken_over_knows(output):
    held = lock(output, "first").acquire()
    output.write(LOCK, elsewhere("usurper").dump())
    until(lambda: held.lost)
    with pytest.raises(LockLostError, match="taken over by run usurper on far-away"):
        held.check()
    held.release()
    assert json.loads(output.read(LOCK))["run_id"] == "usurper"  # another's lock is left alone


def test_a_run_that_cannot_renew_knows(tmp_path, monkeypatch):
    output = Storage(str(tmp_path))
    held = lock(output, ttl=0.3).acquire()
    monkeypatch.setattr(Storage, "update", lambda *a: (_ for _ in ()).throw(OSError("no")))
    time.sleep(0.6)
    with pytest.raises(LockLostError, match="could not be renewed"):
        held.check()
    held.release()


def test_release_is_safe_at_any_time(tmp_path):
    output = Storage(str(tmp_path))
    never = lock(output)
    never.release()
    held = lock(output).acquire()
    held.release()
    held.release()
    assert not output.exists(LOCK)


def test_a_run_that_slept_past_its_lock_knows_though_the_other_has_come_and_gone(output, monkeypatch):
    slept = 0.0
    monkeypatch.setattr(lock_module, "_clock", lambda: time.monotonic() + slept)
    with lock(output) as held:
        held.check()
        slept = 3600.0
        output.delete(LOCK)
        time.sleep(0.3)  # some heartbeats, none of which may renew it
        with pytest.raises(LockLostError, match="this run stops"):
            held.check()
        assert not output.exists(LOCK)


def holds_on(held: OutputLock, output: Storage, run_id: str) -> None:
    """Some heartbeats later the lock is still this run's."""
    beat = standing(output).heartbeat_at
    until(lambda: standing(output).heartbeat_at > beat)
    held.check()
    assert standing(output).run_id == run_id


def standing(output: Storage) -> Holder:
    """What the lock says; on some stores a file is gone for a moment while it is written over."""
    found: list[Holder] = []
    until(lambda: found.extend(filter(None, [holder_of(output)])) or found)
    return found[0]


@pytest.mark.parametrize("server", ["moto_folder", "s3_folder"])
def test_a_renewal_that_was_delayed_does_not_end_the_run_that_took_over(server, request):
    output = request.getfixturevalue(server)
    slow = threading.Event()
    fault = lambda method, path, number: "held" if method == "PUT" and slow.is_set() else None  # noqa: E731
    with FaultProxy(output.s3_endpoint, fault) as proxy:
        first = lock(Storage(output.uri, proxy.endpoint), "first", ttl=3).acquire()
        slow.set()
        until(lambda: proxy.held > 0)
        until(lambda: first.lost)
        with lock(output, "second") as second:
            proxy.let_go.set()
            until(lambda: proxy.held == 0)
            if server == "moto_folder":
                assert json.loads(output.read(LOCK))["run_id"] == "second", "the late put changed nothing"
            until(lambda: standing(output).run_id == "second")
            holds_on(second, output, "second")
            assert first.lost
            first.release()
            holds_on(second, output, "second")


def test_a_process_that_stood_still_in_the_middle_of_a_renewal_does_no_harm(tmp_path, monkeypatch):
    output, awake, asleep = Storage(str(tmp_path)), threading.Event(), threading.Event()
    pwrite = os.pwrite

    def slow(*arguments):
        if threading.current_thread() is first._thread:
            asleep.set()
            awake.wait(200)
        return pwrite(*arguments)

    first = lock(output, "first", ttl=3)
    monkeypatch.setattr(local.os, "pwrite", slow)
    first.acquire()
    assert asleep.wait(100)
    until(lambda: first.lost)
    with lock(output, "second") as second:
        awake.set()
        holds_on(second, output, "second")
        first.release()
        holds_on(second, output, "second")


def test_a_renewal_is_given_up_before_the_lock_expires(s3_folder):
    stalls = threading.Event()
    fault = lambda method, path, number: "stall" if stalls.is_set() else None  # noqa: E731
    with (
        FaultProxy(s3_folder.s3_endpoint, fault) as proxy,
        lock(Storage(s3_folder.uri, proxy.endpoint), ttl=12) as held,
    ):
        stalls.set()
        until(lambda: proxy.stalled > 0)
        stalls.clear()
        beat = json.loads(s3_folder.read(LOCK))["heartbeat_at"]
        until(lambda: json.loads(s3_folder.read(LOCK))["heartbeat_at"] > beat)
        held.check()


def test_a_lock_that_somebody_removed_is_made_again(output):
    with lock(output, "mine") as held:
        output.delete(LOCK)
        until(lambda: output.exists(LOCK))
        holds_on(held, output, "mine")
