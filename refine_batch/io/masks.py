"""Where the object is in a picture, from a mask file or an alpha channel, however its levels are meant.

Levels are read in this order:

- Two levels, the lower 0 or well below the other, are a mask of two values, whatever they are: 0 and 1, 16 and 235.
- A mask file of small whole numbers (up to 40, or the indices of a palette that is not grey) is a map of labels: what
  is not 0 is the object, and 255 beside labels is a border of which nothing is known.
- Everything else is a share of full scale, 255 or 65 535; 16 to 235 where it is video's range, and what nearly all of
  the object has where no level comes near it: objects are drawn half transparent, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from refine_batch.io.images import Decoded
from refine_batch.io.resample import SAMPLES, Frame, area, area_of, sharpened, shrunk

# Labels above this are taken for levels of grey.
_HIGHEST_LABEL = 40
_VIDEO = (16, 235)
_COLOURS = 64
# Channels that differ by no more are a grey.
_GREY = 24
# The colour of the border in PASCAL VOC's pictures of labels.
_BORDER = (224, 224, 192)
# Share of a working pixel that may be unknown before it says nothing.
UNKNOWN = 0.05
# Highest level, as a share of full scale, below which full scale was not meant; and of which share of what is not 0
# the level is taken for it.
_FULL, _NEARLY_ALL = 0.85, 0.95
# Of full scale: what is to be left out is marked from here on; rather too much than too little.
_MARKED = 0.1


@dataclass(frozen=True, eq=False)
class Levels:
    """A mask as it stands in its file.

    Parameters
    ----------
    read
        Gives rows [y0, y1), as they are stored, as (y1 − y0, W) whole numbers.
    table : (levels,) float32
        The share of the object that each level stands for; NaN where nothing is known.
    hard
        Whether it says yes or no, and nothing between.
    highest
        The highest level, as a share of full scale.
    """

    decoded: Decoded
    read: Callable[[int, int], np.ndarray]
    table: np.ndarray
    hard: bool
    highest: float

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the file, upright, pixels."""
        return self.decoded.size

    def object(self, threshold: float) -> np.ndarray:
        """(H, W) bool at the file's own size, upright: where the share is above the threshold."""
        inside = np.nan_to_num(self.table) > (0.5 if self.hard else threshold)
        return self.decoded.whole(lambda y0, y1: inside[self.read(y0, y1)])

    def share(self, frame: Frame, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """(size, size) float32, the share of each working pixel that the object covers, and bool, what is known of it.

        A mask of two values that already has the working size stays as it is.
        """
        unknown = np.isnan(self.table)
        known = np.ones((frame.size, frame.size), bool)
        if unknown.any():
            known = self._area(unknown, frame) <= UNKNOWN
        table = np.nan_to_num(self.table)
        if self.hard and frame.pitch >= 1.0:
            return self._area(table, frame).astype(np.float32), known
        width, height = self.size
        if max(width, height) > SAMPLES * frame.size and self.decoded.turn is None:
            # Finer than it is going to be looked at.
            scale = SAMPLES * frame.size / max(width, height)
            size = max(1, round(width * scale)), max(1, round(height * scale))
            soft = shrunk(lambda y0, y1: table[self.read(y0, y1)], (height, width), size).astype(np.float32)
        else:
            soft = self.decoded.whole(lambda y0, y1: table[self.read(y0, y1)])
        return sharpened(soft, frame, 0.5 if self.hard else threshold), known

    def hidden(self, frame: Frame) -> np.ndarray:
        """(size, size) bool: the working pixels that anything marked lies in, if only in part."""
        marked = np.nan_to_num(self.table, nan=1.0) > (0.5 if self.hard else _MARKED)
        return self._area(marked, frame) > UNKNOWN

    def _area(self, table: np.ndarray, frame: Frame) -> np.ndarray:
        if self.decoded.turn is not None:
            return area_of(self.decoded.whole(lambda y0, y1: table[self.read(y0, y1)]), frame)
        width, height = self.decoded.image.size
        return area(lambda y0, y1: table[self.read(y0, y1)], (height, width), frame)


def alpha_levels(decoded: Decoded) -> Levels | None:
    """The alpha channel as a mask; None where the file has no transparency of any kind."""
    if not decoded.transparent:
        return None
    return _levels(decoded, decoded.alpha, 255, labels=False)


def mask_levels(decoded: Decoded) -> Levels:
    """A mask file: its greys, the indices of its palette, its colours where they are few, or its alpha."""
    image, lossless = decoded.image, decoded.lossless
    if image.mode == "1":
        return _levels(decoded, lambda y0, y1: np.asarray(decoded.band(y0, y1)).astype(np.uint8), 1, labels=False)
    full, indices = 65535 if decoded.deep else 255, False
    read = _greys(decoded)
    if image.mode == "P" and not _grey_palette(image):
        read, indices = (lambda y0, y1: np.asarray(decoded.band(y0, y1))), True
    elif lossless and image.mode not in ("L", "LA", "P") and not decoded.deep:
        colours = [c for _, c in image.convert("RGB").getcolors(_COLOURS) or [] if isinstance(c, tuple)]
        if any(max(c) - min(c) > _GREY for c in colours):
            read, indices = _coloured(decoded, several=len(colours) > 2), True
    return _levels(decoded, _with_alpha(decoded, read), full, labels=lossless, indices=indices)


def _levels(
    decoded: Decoded, read: Callable[[int, int], np.ndarray], full: int, *, labels: bool, indices: bool = False
) -> Levels:
    counts = np.zeros(full + 1, np.int64)
    for rows in decoded.rows():
        counts += np.bincount(np.minimum(read(*rows), full).ravel(), minlength=full + 1)
    found = np.flatnonzero(counts)
    highest = float(found[-1] / full)
    levels = np.arange(full + 1)
    table, hard = levels.astype(np.float32) / full, False
    border = 255 if full >= 255 else -1
    below = found[found != border]
    if len(found) == 1:
        table, hard = (levels > 0).astype(np.float32), True
    elif len(found) == 2 and (found[0] == 0 or found[1] - found[0] > full / 4):
        table, hard = (levels == found[1]).astype(np.float32), True
    elif labels and len(below) and (indices or below[-1] <= _HIGHEST_LABEL):
        labelled = counts[below[below > 0]].sum()
        if labelled * 2 >= counts[border] or indices:
            table, hard = (levels > 0).astype(np.float32), True
            if labelled:
                table[border] = np.nan
    elif full == 255 and _is_video(counts):
        table = np.clip((table * 255.0 - _VIDEO[0]) / (_VIDEO[1] - _VIDEO[0]), 0.0, 1.0)
    elif highest < _FULL:
        # An object drawn half transparent, or 8 bits in 16: what nearly all of it has is its full scale.
        seen = np.cumsum(counts[1:]) / max(1, counts[1:].sum())
        scale = 1 + int(np.searchsorted(seen, _NEARLY_ALL))
        table = np.clip(levels.astype(np.float32) / scale, 0.0, 1.0)
    return Levels(decoded, read, table, hard, highest)


def _is_video(counts: np.ndarray) -> bool:
    """Whether nearly all levels lie in 16 to 235, and reach both ends, but for what a lossy file adds."""
    below = np.cumsum(counts) / counts.sum()
    low, high = (int(np.searchsorted(below, share)) for share in (0.005, 0.995))
    return abs(low - _VIDEO[0]) <= 4 and abs(high - _VIDEO[1]) <= 4


def _greys(decoded: Decoded) -> Callable[[int, int], np.ndarray]:
    """The brightest channel."""

    def read(y0: int, y1: int) -> np.ndarray:
        band = decoded.band(y0, y1)
        if decoded.deep:
            return np.clip(np.asarray(band).astype(np.int32), 0, 65535)
        if band.mode in ("L", "LA"):
            return np.asarray(band.getchannel("L"))
        return np.asarray(band.convert("RGBA"))[..., :3].max(axis=2)

    return read


def _coloured(decoded: Decoded, several: bool) -> Callable[[int, int], np.ndarray]:
    """0 on black, 255 on the border of labels, 1 on any other colour."""

    def read(y0: int, y1: int) -> np.ndarray:
        rgb = np.asarray(decoded.band(y0, y1).convert("RGBA"))[..., :3]
        found: np.ndarray = np.where(rgb.any(axis=2), 1, 0).astype(np.uint8)
        if several:
            found[(rgb == _BORDER).all(axis=2)] = 255
        return found

    return read


def _with_alpha(decoded: Decoded, read: Callable[[int, int], np.ndarray]) -> Callable[[int, int], np.ndarray]:
    """Levels that transparency takes away from; alpha alone where the colour is the same everywhere."""
    if not decoded.transparent:
        return read
    extremes = [(int(levels.min()), int(levels.max())) for levels in (read(*rows) for rows in decoded.rows())]
    if min(low for low, _ in extremes) == max(high for _, high in extremes):
        return decoded.alpha
    return lambda y0, y1: np.where(decoded.alpha(y0, y1) > 127, read(y0, y1), 0)


def _grey_palette(image: Image.Image) -> bool:
    colours = [c for _, c in image.convert("RGB").getcolors(256) or [] if isinstance(c, tuple)]
    return all(max(c) - min(c) <= _GREY for c in colours)
