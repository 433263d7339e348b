"""Pictures brought to the square working image: area-true, padded, and the edges of soft masks kept in their place."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import sparse
from scipy.ndimage import gaussian_filter

# Rows are taken in bands of about this many values.
_BAND = 1 << 22
# Samples a side in each working pixel, from which the share that a sharpened mask covers is counted.
SAMPLES = 4
# An edge softer than this (standard deviation, pixels) is blurred, not anti-aliased.
_BLURRED = 0.8
_DEBLURRINGS = 10


@dataclass(frozen=True)
class Frame:
    """Where a picture of `width` × `height` pixels lies in the square working image of `size` pixels.

    It is centred, padded on both sides as far as it is not square, and never stretched.
    """

    width: int
    height: int
    size: int

    @property
    def pitch(self) -> float:
        """Pixels of the picture in one of the working image."""
        return max(self.width, self.height) / self.size

    @property
    def left(self) -> float:
        """The picture's left edge in the working image, pixels."""
        return ((max(self.width, self.height) - self.width) // 2) / self.pitch

    @property
    def top(self) -> float:
        return ((max(self.width, self.height) - self.height) // 2) / self.pitch

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom edge in the working image, pixels."""
        return self.left, self.top, self.left + self.width / self.pitch, self.top + self.height / self.pitch

    @property
    def fills(self) -> bool:
        """Whether the picture already is a working image."""
        return self.width == self.height == self.size


Band = Callable[[int, int], np.ndarray]


def area(band: Band, shape: tuple[int, int], frame: Frame, extent: tuple[float, float] | None = None) -> np.ndarray:
    """Means of a picture over the pixels of the working image, by area; the padding counts as 0.

    Parameters
    ----------
    band
        Gives rows [y0, y1) of the picture as (y1 − y0, W) or (y1 − y0, W, C) numbers.
    shape
        Rows and columns that the picture has.
    extent
        Width and height that these span, in the frame's pixels; by default all of it.

    Returns
    -------
    (size, size) or (size, size, C) float64
    """
    rows, columns = shape
    width, height = extent or (frame.width, frame.height)
    down = _overlap(rows, frame.top, frame.top + height / frame.pitch, frame.size)
    return _means(band, down, _overlap(columns, frame.left, frame.left + width / frame.pitch, frame.size))


def shrunk(band: Band, shape: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """(height, width) float64: means of a picture of `shape` (rows, columns) over as many blocks of like size."""
    width, height = size
    return _means(band, _overlap(shape[0], 0.0, height, height), _overlap(shape[1], 0.0, width, width))


def _means(band: Band, down: sparse.csr_matrix, across: sparse.csr_matrix) -> np.ndarray:
    rows, columns = down.shape[1], across.shape[1]
    found: np.ndarray | None = None
    step = max(1, _BAND // max(columns, 1))
    for y0 in range(0, rows, step):
        y1 = min(y0 + step, rows)
        values = np.asarray(band(y0, y1))
        channels = values.shape[2] if values.ndim == 3 else 1
        planes = np.moveaxis(values.reshape(y1 - y0, columns, channels), 2, 0).reshape(-1, columns)
        narrowed = (across @ planes.T.astype(np.float64)).T.reshape(channels, y1 - y0, across.shape[0])
        part = np.stack([down[:, y0:y1] @ plane for plane in narrowed], axis=2)
        found = part if found is None else found + part
    assert found is not None
    return found if channels > 1 or values.ndim == 3 else found[..., 0]


def area_of(pixels: np.ndarray, frame: Frame, extent: tuple[float, float] | None = None) -> np.ndarray:
    """The same of a picture as an array (H, W) or (H, W, C)."""
    return area(lambda y0, y1: pixels[y0:y1], pixels.shape[:2], frame, extent)


def sharpened(
    share: np.ndarray, frame: Frame, threshold: float, extent: tuple[float, float] | None = None
) -> np.ndarray:
    """(size, size) float32: the share of each working pixel inside the contour at `threshold` of a soft mask.

    The contour runs between the mask's pixels as bilinear interpolation has it. At a threshold of one half a mask that
    was blurred is deblurred first: a contour of a blurred shape rounds its corners and drops what is thin.

    Parameters
    ----------
    share : (h, w) float32
        In [0, 1].
    extent
        As in `area`.
    """
    if threshold == 0.5:
        share = deblurred(share, at_least=frame.size)
    longest = max(share.shape)
    more = max(1, -(-SAMPLES * frame.size // longest))
    if extent is None and share.shape[0] == share.shape[1] and longest * more % frame.size == 0:
        return _block_means(share, more, threshold, frame.size)
    return area_of(_enlarged(share, more) > threshold, frame, extent).astype(np.float32)


def _enlarged(share: np.ndarray, more: int) -> np.ndarray:
    """So many times as many rows and columns."""
    if more == 1:
        return share
    height, width = share.shape
    return np.asarray(Image.fromarray(share).resize((width * more, height * more), Image.Resampling.BILINEAR))


def _block_means(share: np.ndarray, more: int, threshold: float, size: int) -> np.ndarray:
    """(size, size) float32: the part of each block of a square mask, once it is enlarged, that is above the threshold:
    counted, which needs no weights, and only about where the mask is not 0."""
    found = np.zeros((size, size), np.float32)
    rows, columns = (np.flatnonzero((share > 0).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return found
    side = len(share) * more // size
    # One row or column more to interpolate from, and no block cut in two.
    step = side // math.gcd(more, side)
    (top, bottom), (left, right) = (
        (max(0, one[0] - 1) // step * step, min(len(share), -(-(one[-1] + 2) // step) * step))
        for one in (rows, columns)
    )
    counts = (_enlarged(np.ascontiguousarray(share[top:bottom, left:right]), more) > threshold).astype(np.uint32)
    down = np.add.reduce([counts[k::side] for k in range(side)])
    blocks = np.add.reduce([down[:, k::side] for k in range(side)])
    top, left = top * more // side, left * more // side
    means = blocks.astype(np.float32) / np.float32(side * side)
    found[top : top + len(blocks), left : left + blocks.shape[1]] = means
    return found


def deblurred(share: np.ndarray, at_least: int = 1) -> np.ndarray:
    """A soft mask (h, w) with the blur of its edges undone, as far as it had any.

    The blur is taken for a Gaussian, its width from the steepest of the mask's edges. Then the shares in [0, 1] are
    sought that give the mask when blurred so, by projected Landweber iterations (Landweber 1951). A mask that is much
    blurred is halved first, while its longer side has twice `at_least` pixels: it holds no more than that shows.
    """
    width = edge_width(share)
    if width < _BLURRED:
        return share
    while width > 4.0 * _BLURRED and max(share.shape) >= 2 * at_least and min(share.shape) >= 2:
        half = (share.shape[1] // 2, share.shape[0] // 2)
        share, width = np.asarray(Image.fromarray(share).resize(half, Image.Resampling.BOX)), width / 2.0
    found = share
    for _ in range(_DEBLURRINGS):
        found = np.clip(found + share - gaussian_filter(found, width, mode="nearest"), 0.0, 1.0)
    return found


def edge_width(share: np.ndarray) -> float:
    """Standard deviation in pixels of the blur of a mask's edges; 0 where it has none.

    Of a straight edge that was blurred by σ the slope at its middle is 1 / (σ√(2π)); the steepest tenth counts, since
    corners and thin parts are less steep.
    """
    if min(share.shape) < 2:
        return 0.0
    slope_y, slope_x = np.gradient(share)
    edge = np.abs(share - 0.5) < 0.15
    steepest = np.quantile(np.hypot(slope_x[edge], slope_y[edge]), 0.9) if edge.any() else 0.0
    return float(1.0 / (steepest * np.sqrt(2.0 * np.pi))) if steepest > 0 else 0.0


def _overlap(count: int, start: float, end: float, size: int) -> sparse.csr_matrix:
    """(size, count): the share of each of `size` pixels that each of `count` rows (or columns) covers.

    The rows are of like height and reach from `start` to `end`, counted in those pixels.
    """
    ends = np.linspace(start, end, count + 1)
    first = np.clip(np.floor(ends[:-1] + 1e-9).astype(np.int64), 0, size - 1)
    last = np.clip(np.ceil(ends[1:] - 1e-9).astype(np.int64) - 1, first, size - 1)
    repeats = last - first + 1
    source = np.repeat(np.arange(count), repeats)
    target = first[source] + np.arange(len(source)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    share = np.minimum(ends[source + 1], target + 1) - np.maximum(ends[source], target)
    return sparse.csr_matrix((np.clip(share, 0.0, 1.0), (target, source)), shape=(size, count))
