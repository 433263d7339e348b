"""The plane in which an object is its own mirror image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

# Normal of the plane; `none` where there is no plane.
SymmetryAxis = Literal["x", "y", "z", "none"]

AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


@dataclass(frozen=True)
class SymmetryPlane:
    """The points p with p·normal = offset.

    Parameters
    ----------
    normal
        Of unit length.
    offset
        Signed distance of the plane from the origin, in the units of the mesh it belongs to.
    trust
        How far it is believed, from 0 (not at all) to 1.
    free
        Found in a mesh, and to follow it as it changes; else it stays where it is.
    """

    normal: tuple[float, float, float]
    offset: float = 0.0
    trust: float = 1.0
    free: bool = False

    @property
    def axis(self) -> SymmetryAxis | None:
        """The axis it is perpendicular to, None for an oblique plane."""
        for name, along in zip(AXES, self.normal, strict=True):
            if abs(abs(along) - 1.0) < 1e-6:
                return name  # type: ignore[return-value]
        return None

    def reflect(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) float64 mirror images of (N, 3) points."""
        normal = np.asarray(self.normal, np.float64)
        points = np.asarray(points, np.float64)
        return points - 2.0 * (points @ normal - self.offset)[:, None] * normal
