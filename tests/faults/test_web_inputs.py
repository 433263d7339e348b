"""Inputs on a web server that is away for a while, or for a whole run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from trial import Trial

from refine_batch.job import ledger, outage

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_connection")]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def web(trial: Trial) -> Iterator[FaultProxy]:
    """A web server with the trial's meshes and images, which its manifest names there."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(trial.folder)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    with FaultProxy(f"http://127.0.0.1:{server.server_address[1]}") as proxy:
        lines = trial.manifest.read_text(encoding="utf-8").splitlines()
        names = {file.name for file in trial.folder.iterdir() if file.is_file()}
        rows = [
            ",".join(f"{proxy.endpoint}/{cell}" if cell in names else cell for cell in line.split(","))
            for line in lines[1:]
        ]
        trial.manifest.write_text("\n".join([lines[0], *rows]) + "\n", encoding="utf-8")
        yield proxy
    server.shutdown()
    server.server_close()


def test_a_web_server_that_is_away_in_the_middle_of_a_run_fails_no_row(trial, web, monkeypatch):
    """From the first result on, for longer than a request is repeated."""
    monkeypatch.setattr(outage, "LOOK_EVERY", 2.0)
    monkeypatch.setattr(ledger, "PUT_OFF", 2.0)
    away_since: list[float] = []

    def away(method, path, _):
        if not away_since and any(Path(trial.output.uri).glob("results/**/*.parquet")):
            away_since.append(time.monotonic())
        return "503" if away_since and time.monotonic() - away_since[0] < 25 else None

    web.fault = away
    outcome = trial.run(actors=1)
    assert any(fault == "503" for *_, fault in web.requests)
    assert outcome.exit_status == 0, outcome.record.message
    assert outcome.record.counts == {"refined": len(trial.ids), "kept": 0, "failed": 0}
    web.fault = lambda *_: None
    trial.check()


def test_what_lies_on_a_web_server_that_is_away_for_a_whole_run_is_done_by_the_next_plain_one(trial, web, monkeypatch):
    monkeypatch.setattr(ledger, "PUT_OFF", 0.1)
    web.fault = lambda *_: "reset"
    outcome = trial.run(storage_patience=1.0)
    assert outcome.exit_status == 1
    web.fault = lambda *_: None
    second = trial.run()
    assert second.exit_status == 0, second.record.message
    assert second.record.counts == {"refined": len(trial.ids), "kept": 0, "failed": 0}
    trial.check(superseded=len(trial.ids))
