"""What native code writes stays away from the terminal, and what this program says gets there."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, sys
from refine_batch.job.quiet import Quiet
print("before", file=sys.stderr)
with Quiet() as quiet:
    os.write(1, b"native out\\n"); os.write(2, b"native err\\n")
    print("ours", file=sys.stderr); print("ours too")
    assert quiet.said() == "native out\\nnative err\\n", quiet.said()
    with Quiet() as inner:
        os.write(2, b"deeper\\n")
        print("still ours", file=sys.stderr)
        assert inner.said() == "deeper\\n"
    os.write(2, b"native again\\n")
print("after", file=sys.stderr)
os.write(2, b"native after\\n")
"""


def test_only_ours_reaches_the_terminal():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == "ours too\n"
    assert done.stderr == "before\nours\nstill ours\nafter\nnative after\n"
