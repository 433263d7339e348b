"""The object in a picture on a ground of one colour."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# Largest distance from the ground's colour, of 255, at which a pixel of the border still is ground.
_NEAR = 16.0
# Share of the border that must be ground.
_UNIFORM = 0.6
_LEAST_TOLERANCE, _MOST_TOLERANCE = 6.0, 24.0
# Pixels that a mixed edge is wide, and how far from a hole its rim is looked at: near, and beyond that.
_EDGE, _RIM, _BEYOND = 2, 2, 5
# Of the colours beyond, what a hole's rim has reached already: a highlight's is still on its way.
_SHARP = 0.75
_SMALLEST_HOLE = 12
# A piece that is smaller, as a share of the largest, is dust.
_DUST = 0.01
_EIGHT = np.ones((3, 3), bool)


def object_on_ground(rgb: np.ndarray) -> np.ndarray | None:
    """(H, W) float32: the share of each pixel that the object covers; None where the ground is not of one colour.

    The ground's colour is the border's median. What has it and is connected to the border is ground, and so are holes:
    enclosed pixels as even as the ground with a sharp rim, which tells them from highlights, whose rim is not. At the
    object's edge, where colours mix, the share is how far a pixel's colour is on its way from the ground's to that of
    the object beside it.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    """
    border = np.ones(rgb.shape[:2], bool)
    border[1:-1, 1:-1] = False
    colour = np.median(rgb[border], axis=0)
    apart = np.abs(rgb.astype(np.float32) - colour.astype(np.float32)).max(axis=2)
    near = apart[border] <= _NEAR
    if near.mean() < _UNIFORM:
        return None
    noise = float(np.quantile(apart[border][near], 0.99))
    tolerance = float(np.clip(2.0 * noise + 2.0, _LEAST_TOLERANCE, _MOST_TOLERANCE))
    ground = _ground(apart, tolerance, noise, border)
    found = ~ground
    pieces, count = ndimage.label(found, _EIGHT)
    if count > 1:
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        found &= (sizes >= _DUST * sizes.max())[pieces]
    return _mixed(apart, found, noise)


def _ground(apart: np.ndarray, tolerance: float, noise: float, border: np.ndarray) -> np.ndarray:
    """(H, W) bool: what is of the ground's colour and connected to the border, and holes."""
    pieces, count = ndimage.label(apart <= tolerance)
    outside = np.zeros(count + 1, bool)
    outside[np.unique(pieces[border])] = True
    outside[0] = False
    for label, where in enumerate(ndimage.find_objects(pieces), start=1):
        if outside[label] or where is None:
            continue
        wide = tuple(slice(max(0, axis.start - _BEYOND), axis.stop + _BEYOND) for axis in where)
        hole, values = pieces[wide] == label, apart[wide]
        if hole.sum() < _SMALLEST_HOLE or np.quantile(values[hole], 0.75) > noise + 2.0:
            continue
        rings = [_ring(hole, distance) for distance in (_RIM, _BEYOND)]
        if all(ring.any() for ring in rings):
            rim, beyond = (np.median(values[ring]) for ring in rings)
            outside[label] = rim > tolerance and rim >= _SHARP * beyond
    return outside[pieces]


def _ring(hole: np.ndarray, distance: int) -> np.ndarray:
    """(h, w) bool: the pixels so many steps away from a hole."""
    return ndimage.binary_dilation(hole, _EIGHT, distance) & ~ndimage.binary_dilation(hole, _EIGHT, distance - 1)


def _mixed(apart: np.ndarray, found: np.ndarray, noise: float) -> np.ndarray:
    """(H, W) float32: 1 within the object, a share along its edge."""
    within = ndimage.binary_erosion(found, _EIGHT, _EDGE, border_value=1)
    edge = found & ~within
    reach = 2 * _EDGE + 1
    beside = ndimage.maximum_filter(np.where(within, apart, 0.0), reach)
    beside = np.where(beside > 0.0, beside, ndimage.maximum_filter(apart, reach))
    share = np.clip((apart - noise) / np.maximum(beside - noise, 1.0), 0.0, 1.0)
    return np.where(edge, share, found).astype(np.float32)
