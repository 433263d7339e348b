"""Building blocks of the synthetic objects: closed solids, y up, by constructive solid geometry (manifold3d)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from manifold3d import CrossSection, Manifold


@dataclass(frozen=True)
class Part:
    """A piece of an object that a reconstruction can get right or wrong on its own.

    `essential` parts are never missing; `tone` tells parts of one material from those of another.
    """

    solid: Manifold
    essential: bool = False
    tone: int = 0

    def changed(self, solid: Manifold) -> Part:
        return replace(self, solid=solid)


def box(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float]) -> Manifold:
    """The axis-aligned box between the given ends."""
    size = (x[1] - x[0], y[1] - y[0], z[1] - z[0])
    return Manifold.cube(size).translate((x[0], y[0], z[0]))


def slab(length: float, y: tuple[float, float], width: float) -> Manifold:
    """A box centred in x and z."""
    return box((-length / 2, length / 2), y, (-width / 2, width / 2))


def prism(outline: list[tuple[float, float]], width: float) -> Manifold:
    """A counter-clockwise outline in x and y, drawn out along z to `width`, centred."""
    return CrossSection([outline]).extrude(width).translate((0.0, 0.0, -width / 2))


def revolved(profile: list[tuple[float, float]], segments: int = 32) -> Manifold:
    """A counter-clockwise outline in (radius, y), turned about the y axis; 4·n segments keep symmetries."""
    return CrossSection([profile]).revolve(segments).rotate((-90.0, 0.0, 0.0))


def rod(start, end, radius: float, end_radius: float | None = None, segments: int = 12) -> Manifold:
    """A cylinder or cone frustum from one point to another."""
    start, end = np.asarray(start, dtype=float), np.asarray(end, dtype=float)
    axis = end - start
    length = float(np.linalg.norm(axis))
    z = axis / length
    x = np.cross([0.0, 0.0, 1.0] if abs(z[2]) < 0.9 else [1.0, 0.0, 0.0], z)
    x /= np.linalg.norm(x)
    frame = np.column_stack([x, np.cross(z, x), z, start])
    return Manifold.cylinder(length, radius, radius if end_radius is None else end_radius, segments).transform(frame)


def ellipsoid(centre, radii, segments: int = 24) -> Manifold:
    return Manifold.sphere(1.0, segments).scale(tuple(radii)).translate(tuple(centre))


def ring(radius: float, thickness: float, squash: float = 1.0, segments: int = 40) -> Manifold:
    """A torus about the y axis: radius of its core, radius of its tube, the tube's height over its width."""
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    return revolved([(radius + thickness * np.cos(t), squash * thickness * np.sin(t)) for t in turn], segments)


def both(solid: Manifold) -> Manifold:
    """The solid and its mirror image in the plane z = 0."""
    return solid + solid.mirror((0.0, 0.0, 1.0))


def painted(parts: list[Part]) -> tuple[Manifold, dict[int, int]]:
    """One closed surface round all parts that remembers them: each part's original id in it, and the part's tone."""
    originals = [part.changed(part.solid.as_original()) for part in parts]
    return union(originals), {part.solid.original_id(): part.tone for part in originals}


def union(parts: list[Part]) -> Manifold:
    """One closed surface round all parts."""
    whole = parts[0].solid
    for part in parts[1:]:
        whole = whole + part.solid
    return whole
