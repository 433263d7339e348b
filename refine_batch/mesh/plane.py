"""The plane in which an object is its own mirror image."""

from __future__ import annotations

from typing import Literal

# Normal of the plane; `none` where there is no plane.
SymmetryAxis = Literal["x", "y", "z", "none"]
