"""What no repair does to a shape: limits of how a refined mesh may differ from the coarse one."""

from __future__ import annotations

import numpy as np

from refine_batch.mesh import Mesh
from refine_batch.mesh.normals import area_normals
from refine_batch.mesh.stretch import largest_stretch
from refine_batch.mesh.volume import enclosed_volume, signed_volume

# Largest change of an axis' extent: refinement repairs a shape, it does not make another one.
MAX_EXTENT_RATIO = 2.0
# Largest change of a closed mesh's volume.
MAX_VOLUME_RATIO = 8.0
# Volume below which a working mesh encloses nothing, cubed extents.
LEAST_VOLUME = 1e-6
# Largest share of the surface that may turn its back on where it looked before.
MAX_FLIPPED_SHARE = 0.25
# Largest share of the surface whose faces may shrink to next to nothing: to this share of their area.
MAX_COLLAPSED_SHARE = 0.25
COLLAPSED = 0.02
# Largest share of the surface that may become longer by this factor: beyond it is spread over what the coarse mesh has
# not. Of 400 refinements of real shapes and 160 of synthetic ones nine came above, of three shapes: a sheet of which
# half was lost is the worse the more it is spread (1.73 times at worst, 1.15 at half of the way), a gear gains by it.
MAX_STRETCHED_SHARE = 0.08
STRETCHED = 2.0


def implausible(coarse: Mesh, refined: Mesh, told: bool = False) -> str | None:
    """What no repair does to a shape, as a sentence for `kept_reason`; None where all is well.

    `told`: whether more than one outline tells of the surface, hints that bear it out or several views. Then it may be
    stretched.
    """
    before, after = np.ptp(coarse.vertices, axis=0), np.ptp(refined.vertices, axis=0)
    # A flat side may grow a little; it is measured against the whole.
    floor = 0.05 * float(before.max())
    ratio = (after + floor) / (before + floor)
    worst = int(np.argmax(np.abs(np.log(ratio))))
    if not 1.0 / MAX_EXTENT_RATIO <= ratio[worst] <= MAX_EXTENT_RATIO:
        return f"the extent along {'xyz'[worst]} changed too much: times {after[worst] / max(before[worst], 1e-12):.3g}"
    volume = enclosed_volume(coarse)
    # What is flat, or stands there twice, turned round, encloses nothing that could change.
    if volume and volume > LEAST_VOLUME:
        times = abs(signed_volume(refined)) / volume
        if not 1 / MAX_VOLUME_RATIO <= times <= MAX_VOLUME_RATIO:
            return f"the volume changed too much: times {times:.3g}"
    normals = area_normals(coarse), area_normals(refined)
    flipped = flipped_share(*normals)
    if flipped > MAX_FLIPPED_SHARE:
        return f"{flipped:.0%} of the surface turned over"
    collapsed = collapsed_share(*normals)
    if collapsed > MAX_COLLAPSED_SHARE:
        return f"{collapsed:.0%} of the surface collapsed to next to nothing"
    stretched = 0.0 if told else stretched_share(coarse, refined.vertices)
    if stretched > MAX_STRETCHED_SHARE:
        return f"{stretched:.0%} of the surface was stretched to more than {STRETCHED:g} times its length"
    return None


def flipped_share(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the surface whose normal turned by more than 90°, of (F, 3) `area_normals` before and after."""
    area = np.linalg.norm(before, axis=1)
    return _share(area, (before * after).sum(axis=1) < 0)


def collapsed_share(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the surface whose faces lost nearly all of their area, of (F, 3) `area_normals` before and after."""
    areas = np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1)
    return _share(areas[0], areas[1] < COLLAPSED * areas[0])


def stretched_share(coarse: Mesh, vertices: np.ndarray) -> float:
    """Share of the coarse surface that becomes longer in some direction by more than `STRETCHED` times."""
    area = np.linalg.norm(area_normals(coarse), axis=1)
    return _share(area, largest_stretch(coarse.vertices, vertices, coarse.faces) > STRETCHED)


def _share(area: np.ndarray, which: np.ndarray) -> float:
    """Of the (F,) areas the share that these (F,) bool faces have; 0 where there is no surface."""
    return float(area[which].sum() / max(area.sum(), 1e-30))
