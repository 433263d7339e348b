"""When a program looks for garbage, seen from within one that only imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import gc
plain = gc.get_threshold()
from refine_batch.{} import {}
print("seldom", gc.get_threshold()[0] > 10 * plain[0])
from refine_batch.job.garbage import as_usual
as_usual()
print("as usual", gc.get_threshold() == plain, gc.get_freeze_count() > 1000)
"""


@pytest.mark.parametrize(("module", "name"), [("cli", "main"), ("job.crew", "Crew")])
def test_a_program_looks_seldom_while_it_imports(module, name):
    program = PROGRAM.format(module, name)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["seldom True", "as usual True True"]
