import os
import signal

import pytest

from refine_batch.job.stop import StopRequest, default_grace


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_and_what_was_there_before_comes_back(number):
    before = signal.getsignal(number)
    with StopRequest(grace_period=100) as stop:
        stop.install()
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.signal == signal.Signals(number).name
        assert not stop.overdue
    assert signal.getsignal(number) is before


def test_work_that_is_part_of_other_work_hands_its_signal_on():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest(grace_period=100) as outer:
        with StopRequest(grace_period=100) as inner:
            inner.install()
            os.kill(os.getpid(), signal.SIGTERM)
        assert inner.signal == outer.signal == "SIGTERM"
    with StopRequest(grace_period=100) as outer:
        with StopRequest(grace_period=100) as inner:
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert outer
        assert not inner
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_signal_ends_the_grace(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("refine_batch.job.stop.time.monotonic", lambda: now[0])
    with StopRequest(grace_period=30) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert not stop.overdue, "one Ctrl-C can arrive twice"
        now[0] += 2
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.overdue


def test_the_grace_runs_out(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("refine_batch.job.stop.time.monotonic", lambda: now[0])
    with StopRequest(grace_period=30) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        now[0] += 29
        assert not stop.overdue
        now[0] += 2
        assert stop.overdue


def test_a_submitted_job_leaves_time_to_end_before_ray_kills_it(monkeypatch):
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert default_grace() == 30
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    for wait, grace in [("60", 48.0), ("5", 3.0), ("1", 0.5), ("soon", 1.0)]:
        monkeypatch.setenv("RAY_JOB_STOP_WAIT_TIME_S", wait)
        assert default_grace() == grace
