"""A run on a terminal: shown live, stopped by one Ctrl-C, and told how to go on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiny_dataset import result_rows, write_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
# Runs its arguments on a pseudo-terminal, as their controlling one: what is typed comes from standard input.
ON_A_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
CTRL_C = b"\x03"
OPTIONS = "--method stub_methods:slow --address local --actors 2 --batch-size 2 --image-size 32 --figure-samples 100"


def test_a_run_is_shown_live_and_stopped_by_one_ctrl_c(tmp_path, ray_folder, importable_stubs):
    manifest = write_manifest(tmp_path, [f"i{n:03}" for n in range(200)])
    command = [str(Path(sys.executable).parent / "refine-batch"), "run", str(manifest), str(tmp_path / "out")]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    terminal = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, *command, *OPTIONS.split()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    assert terminal.stdin is not None
    assert terminal.stdout is not None
    watchdog = threading.Timer(300, terminal.kill)
    watchdog.start()
    shown, pressed = b"", False
    with terminal.stdin, terminal.stdout:
        while piece := os.read(terminal.stdout.fileno(), 65536):
            shown += piece
            if not pressed and b"2D IoU" in shown:
                terminal.stdin.write(CTRL_C)
                terminal.stdin.flush()
                pressed = True
    status = terminal.wait()
    watchdog.cancel()
    text = " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", " ", shown.decode()).split())
    assert pressed, text
    assert "/200 rows" in text
    assert "\x1b[" in shown.decode(), "drawn again and again"
    assert text.count("Stopping: what is in hand is finished first. Ctrl-C once more drops it.") == 1
    assert "Stopped by SIGINT; the same command goes on from here." in text
    assert "Traceback" not in text
    assert status == 1
    rows = result_rows(tmp_path / "out")
    assert 0 < len(rows) < 200
    assert f"{len(rows)} of 200 rows" in text
