"""Images from bytes: PNG, JPEG and WebP, nothing else; decoded no larger than they are needed."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import jpeg_factory
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from refine_batch.errors import ErrorKind, InstanceError

MAX_IMAGE_BYTES = 256 * 1024 * 1024
# 8192²: above any camera's useful resolution for a 224-pixel working image, below Pillow's own alarm.
MAX_IMAGE_PIXELS = 1 << 26

_BAND_ROWS = 512
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded image, not yet upright.

    Parameters
    ----------
    image
        Of a JPEG perhaps at a fraction of its size.
    size : (width, height)
        Of the file, upright, pixels.
    lossless
        Whether its pixels are what was written: a JPEG's are not.
    """

    image: Image.Image
    size: tuple[int, int]
    lossless: bool
    turn: Image.Transpose | None = None

    @property
    def transparent(self) -> bool:
        """Whether the file has transparency of any kind."""
        return self.image.has_transparency_data

    @property
    def deep(self) -> bool:
        """Whether it holds one channel of 16 bits."""
        return self.image.mode.startswith("I")

    def alpha(self, y0: int, y1: int) -> np.ndarray:
        """(y1 − y0, W) uint8 of rows as they are stored; all 255 where there is no transparency."""
        band = self.band(y0, y1)
        if not self.transparent:
            return np.full(band.size[::-1], 255, np.uint8)
        if self.deep:
            return np.where(np.asarray(band) == self.image.info.get("transparency"), 0, 255).astype(np.uint8)
        if self.image.mode in ("RGBA", "LA"):
            return np.asarray(band.getchannel("A"))
        return np.asarray(band.convert("RGBA"))[..., 3]

    def colours(self, reduce: int = 1) -> np.ndarray:
        """(h, w, 3) uint8, upright, each side divided by `reduce` (a rest counts as a pixel).

        Greys and palettes become RGB, 16 bits become 8; colours under a transparent pixel stay as they are.
        """
        image = self.image
        if self.deep:
            image = Image.fromarray(np.concatenate([_eight_bits(self.band(*rows)) for rows in self.rows()]))
        if reduce > 1:
            # Palettes cannot be averaged; what else has few levels can.
            image = image if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr") else image.convert("RGB")
            image = image.reduce(reduce)
        if image.mode != "RGB":
            image = image.convert("RGBA").convert("RGB") if image.mode != "L" else image.convert("RGB")
        return np.array(upright(image, self.turn))

    def upright(self, pixels: np.ndarray) -> np.ndarray:
        """An array (h, w, …) of rows as they are stored, upright."""
        return pixels if self.turn is None else np.ascontiguousarray(_TURNED[self.turn](pixels))

    def whole(self, read: Callable[[int, int], np.ndarray]) -> np.ndarray:
        """(H, W) of what `read` gives of all rows, upright."""
        return self.upright(np.concatenate([read(*rows) for rows in self.rows()]))

    def rows(self) -> list[tuple[int, int]]:
        """First and last row (not included) of bands that are small beside the whole."""
        height = self.image.size[1]
        return [(y0, min(y0 + _BAND_ROWS, height)) for y0 in range(0, height, _BAND_ROWS)]

    def band(self, y0: int, y1: int) -> Image.Image:
        return self.image.crop((0, y0, self.image.size[0], y1))


def _eight_bits(deep: Image.Image) -> np.ndarray:
    return np.clip(np.asarray(deep).astype(np.int32) >> 8, 0, 255).astype(np.uint8)


_TURNED: dict[Image.Transpose, Callable[[np.ndarray], np.ndarray]] = {
    Image.Transpose.FLIP_LEFT_RIGHT: lambda a: a[:, ::-1],
    Image.Transpose.FLIP_TOP_BOTTOM: lambda a: a[::-1],
    Image.Transpose.ROTATE_180: lambda a: a[::-1, ::-1],
    Image.Transpose.ROTATE_90: lambda a: np.rot90(a),
    Image.Transpose.ROTATE_270: lambda a: np.rot90(a, -1),
    Image.Transpose.TRANSPOSE: lambda a: np.swapaxes(a, 0, 1),
    Image.Transpose.TRANSVERSE: lambda a: np.swapaxes(a[::-1, ::-1], 0, 1),
}


def upright(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    return image if turn is None else image.transpose(turn)


def decode(
    data: bytes,
    uri: str,
    what: str,
    *,
    at_least: int | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
    max_bytes: int = MAX_IMAGE_BYTES,
) -> Decoded:
    """The decoded image; of an animation its first frame.

    Parameters
    ----------
    what
        Names it in messages: image, mask.
    at_least
        Pixels that its longer side needs: a JPEG is decoded at the smallest eighth, quarter or half that has as many.

    Raises
    ------
    InstanceError
        IMAGE_TOO_LARGE, known from the header before anything is decoded, or IMAGE_BROKEN.
    """
    if len(data) > max_bytes:
        raise InstanceError(
            ErrorKind.IMAGE_TOO_LARGE, f"{uri}: the {what} has {len(data)} bytes; the limit is {max_bytes}"
        )
    try:
        opened = _open(data)
        if opened is None:
            raise InstanceError(ErrorKind.IMAGE_BROKEN, f"{uri}: the {what} is not a PNG, JPEG or WebP file")
        image, lossless = opened
        width, height = image.size
        if width * height > max_pixels:
            raise InstanceError(
                ErrorKind.IMAGE_TOO_LARGE,
                f"{uri}: the {what} is {width}×{height} = {width * height} pixels; the limit is {max_pixels} "
                "(--max-pixels)",
            )
        if not lossless and at_least is not None:
            scale = max(width, height) / at_least
            image.draft(None, (int(width / scale), int(height / scale)))
        image.load()
        turn = _turn(image)
        turned = turn is not None and _TURNED[turn](np.empty((1, 2))).shape == (2, 1)
        return Decoded(image, (height, width) if turned else (width, height), lossless, turn)
    except (InstanceError, MemoryError):
        raise
    except Exception as error:  # whatever a decoder raises on hostile bytes
        raise InstanceError(ErrorKind.IMAGE_BROKEN, f"{uri}: the {what} cannot be decoded: {error}") from error


def _open(data: bytes) -> tuple[Image.Image, bool] | None:
    """The image, its header read and no more, and whether its format loses nothing; None where it is of no known one.

    Not by `Image.open`, whose limit of pixels is the process', where this one's is the caller's.
    """
    stream = io.BytesIO(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImageFile(stream), True
    if data.startswith(b"\xff\xd8\xff"):
        return jpeg_factory(stream), False
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WebPImageFile(stream), data[12:16] != b"VP8 "
    return None


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # broken metadata of a sound image
        return None
    return _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
