"""How often Python looks for garbage that stands in cycles.

torch, Warp and SciPy are hundreds of thousands of objects that stay to a program's end. By default Python looks through
them again and again while they are imported: near half of what it then costs to begin. At the end it looks again, or
solvers and solids that stand in cycles would be reported as leaked.
"""

from __future__ import annotations

import gc

# Objects that are made and still there before Python looks.
SELDOM = 50_000
USUAL = gc.get_threshold()


def seldom() -> None:
    """For programs, while they import: look seldom."""
    gc.set_threshold(SELDOM, *USUAL[1:])


def as_usual() -> None:
    """All that has been imported stays and is not looked through; what is made from now on is, as ever."""
    gc.freeze()
    gc.set_threshold(*USUAL)
