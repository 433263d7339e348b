"""Pictures that a manifest can name: cut out, turned towards the object, the mask joined in as alpha."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from refine_batch.dataset.layouts.entry import LeftOutError, Reason
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.io.images import parse_image, parse_mask
from refine_batch.io.storage import FileTooLargeError, Storage, StorageError
from refine_batch.pinhole import SAME_PIXEL, Pinhole, moved_pixels, turned_to_origin

# Widest picture that is resampled; far above any working size.
_WIDEST = 4096
# A ray this near to a right angle from the old axis is not in the old picture.
_SHALLOWEST = 0.05


@dataclass(frozen=True, eq=False)
class Picture:
    """`rgb` (H, W, 3) uint8, `mask` (H, W) bool or None, and the camera that took it."""

    rgb: np.ndarray
    mask: np.ndarray
    pinhole: Pinhole


def read_picture(source: Storage, image: str, mask: str | None, masks: Storage | None = None) -> tuple:
    """(rgb, mask) of an image of `source` and its mask, in `masks` or the image's alpha channel.

    Raises
    ------
    LeftOutError
        Either is missing, broken or does not fit the other.
    """
    rgb, opaque = _parsed(source, image, "image")
    if mask is None:
        if opaque is None or opaque.all():
            raise LeftOutError(Reason.MASK_MISSING, f"{image} has no alpha channel that shows the object, nor a mask")
        found = opaque
    else:
        found = _parsed(masks or source, mask, "mask")
        if found.shape != rgb.shape[:2]:
            sizes = f"{found.shape[1]}×{found.shape[0]}", f"{rgb.shape[1]}×{rgb.shape[0]}"
            raise LeftOutError(Reason.MASK_UNUSABLE, f"{mask} is {sizes[0]} pixels and {image} is {sizes[1]}")
    if not found.any():
        raise LeftOutError(Reason.MASK_UNUSABLE, f"the mask of {image} marks no pixel as the object")
    return rgb, found


def _parsed(storage: Storage, path: str, what: str):
    missing, broken = (
        (Reason.IMAGE_MISSING, Reason.IMAGE_BROKEN) if what == "image" else (Reason.MASK_MISSING, Reason.MASK_UNUSABLE)
    )
    try:
        data = storage.read(path)
        return parse_image(data, path) if what == "image" else parse_mask(data, path)
    except FileNotFoundError:
        raise LeftOutError(missing, f"there is no {what} {path}") from None
    except FileTooLargeError as error:
        raise LeftOutError(broken, str(error)) from None
    except StorageError as error:
        raise LeftOutError(Reason.STORAGE, str(error)) from None
    except InstanceError as error:
        raise LeftOutError(broken, error.message) from None


def needs_turn(pinhole: Pinhole) -> bool:
    """Whether its picture has to be resampled before a look-at camera can have taken it."""
    return not moved_pixels(pinhole, turned_to_origin(pinhole)[1]) < SAME_PIXEL


def cut_out(picture: Picture, *, margin: float, largest: int) -> Picture:
    """The square picture of the object alone, by a camera that looks at the origin.

    Parameters
    ----------
    margin
        Room around the mask's box, as a share of the larger side, on each side.
    largest
        Pixels a side; a larger cut-out is reduced to it.

    Raises
    ------
    LeftOutError
        CAMERA_INVALID: the camera cannot be turned to the object.
    """
    try:
        turned, homography = turned_to_origin(picture.pinhole)
    except InstanceError as error:
        raise LeftOutError(Reason.CAMERA_INVALID, error.message) from None
    resample = not moved_pixels(picture.pinhole, homography) < SAME_PIXEL
    low, high = _box(picture.mask, homography if resample else np.eye(3))
    side = math.ceil(float((high - low).max()) * (1.0 + 2.0 * margin))
    left, top = (math.floor(value) for value in (low + high - side) / 2.0)
    if not resample:
        window = (left, top, side)
        cut = Picture(
            _window(picture.rgb, *window), _window(picture.mask, *window), turned.window(left, top, side, side)
        )
    else:
        cut = _resampled(picture, turned.window(left, top, side, side), homography, left, top)
    return cut if side <= largest else _reduced(cut, largest)


def _box(mask: np.ndarray, homography: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the box around the mask's pixels after a homography: (2,) lowest and highest x, y."""
    rows = np.flatnonzero(mask.any(axis=1))
    first, last = mask[rows].argmax(axis=1), mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    # A row of pixels is spanned by the corners of its ends.
    corners = [(x, y) for x, y in ((first, rows), (last, rows), (first, rows + 1), (last, rows + 1))]
    points = np.concatenate([np.column_stack([x, y, np.ones(len(rows))]) for x, y in corners]) @ homography.T
    if (points[:, 2] <= 0).any():
        raise LeftOutError(Reason.CAMERA_INVALID, "part of the mask lies behind the camera that looks at the object")
    flat = points[:, :2] / points[:, 2:]
    return flat.min(axis=0), flat.max(axis=0)


def _window(pixels: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """A square of an image, zeros where it reaches beyond."""
    height, width = pixels.shape[:2]
    square = np.zeros((side, side, *pixels.shape[2:]), pixels.dtype)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if x0 < x1 and y0 < y1:
        square[y0 - top : y1 - top, x0 - left : x1 - left] = pixels[y0:y1, x0:x1]
    return square


def _resampled(picture: Picture, camera: Pinhole, homography: np.ndarray, left: int, top: int) -> Picture:
    """The picture of `camera`, a window of the turned one; narrower where it would be huge."""
    if camera.width > _WIDEST:
        camera = camera.resized(_WIDEST, _WIDEST)
    size = camera.width
    # From a pixel of the new picture back to one of the old: rays are shared, so it is a homography.
    old, new = picture.pinhole, camera
    turn = old.rotation @ new.rotation.T
    back = old.intrinsics @ turn @ np.linalg.inv(new.intrinsics)
    corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]], np.float64)
    rays = corners @ (turn @ np.linalg.inv(new.intrinsics)).T
    if (rays[:, 2] < _SHALLOWEST * np.linalg.norm(rays, axis=1)).any():
        raise LeftOutError(Reason.CAMERA_INVALID, "the object lies too far off the camera's axis to be turned to")
    coefficients = tuple((back / back[2, 2]).reshape(-1)[:8])

    def warp(pixels: np.ndarray) -> np.ndarray:
        image = Image.fromarray(pixels)
        return np.array(
            image.transform((size, size), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)
        )

    return Picture(warp(picture.rgb), warp(picture.mask.astype(np.uint8) * 255) >= 128, camera)


def _reduced(picture: Picture, size: int) -> Picture:
    def shrink(pixels: np.ndarray) -> np.ndarray:
        return np.array(Image.fromarray(pixels).resize((size, size), Image.Resampling.BOX, reducing_gap=None))

    mask = shrink(picture.mask.astype(np.uint8) * 255) >= 128
    return Picture(shrink(picture.rgb), mask, picture.pinhole.resized(size, size))


def png_of(picture: Picture) -> bytes:
    """RGBA; alpha is the mask, colours stay under it.

    Raises
    ------
    LeftOutError
        MASK_UNUSABLE: nothing is left of the mask.
    """
    if not picture.mask.any():
        raise LeftOutError(Reason.MASK_UNUSABLE, "nothing is left of the mask in the cut-out")
    stream = io.BytesIO()
    rgba = np.dstack([picture.rgb, picture.mask.astype(np.uint8) * 255])
    Image.fromarray(rgba).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


@dataclass(frozen=True)
class Probe:
    """What an image's header tells: its size in pixels, upright, and whether it has transparency."""

    width: int
    height: int
    transparent: bool


def probe(storage: Storage, path: str) -> Probe:
    """Read no more than the header of an image.

    Raises
    ------
    LeftOutError
        IMAGE_MISSING or IMAGE_BROKEN.
    """
    try:
        with storage.open(path, buffer=1 << 14) as file, Image.open(file, formats=("PNG", "JPEG", "WEBP")) as image:
            width, height = image.size
            if image.getexif().get(0x0112) in (5, 6, 7, 8):
                width, height = height, width
            return Probe(width, height, image.has_transparency_data)
    except FileNotFoundError:
        raise LeftOutError(Reason.IMAGE_MISSING, f"there is no image {path}") from None
    except StorageError as error:
        raise LeftOutError(Reason.STORAGE, str(error)) from None
    except Exception as error:  # whatever a decoder raises on hostile bytes
        kind = "is not a PNG, JPEG or WebP file" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise LeftOutError(Reason.IMAGE_BROKEN, f"{path}: {kind}") from None


def invalid_camera(error: InstanceError) -> LeftOutError:
    """An error of a conversion as the reason to leave an entry out."""
    return LeftOutError(
        Reason.CAMERA_INVALID if error.kind is ErrorKind.CAMERA_INVALID else Reason.ENTRY_BROKEN, error.message
    )
