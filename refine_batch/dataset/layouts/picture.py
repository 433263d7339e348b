"""Pictures read from a dataset, and written for a manifest with the mask joined in as alpha."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from refine_batch.cameras.picture import Picture
from refine_batch.dataset.layouts.entry import LeftOutError, Reason
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.io.pictures import parse_image, parse_mask
from refine_batch.io.storage import FileTooLargeError, Storage, StorageError


def read_picture(source: Storage, image: str, mask: str | None, masks: Storage | None = None) -> tuple:
    """(rgb, mask) of an image of `source` and its mask, in `masks` or the image's alpha channel.

    Raises
    ------
    LeftOutError
        Either is missing, broken or does not fit the other.
    """
    rgb, opaque = parsed(source, image, "image")
    if mask is None:
        if opaque is None or opaque.all():
            raise LeftOutError(Reason.MASK_MISSING, f"{image} has no alpha channel that shows the object, nor a mask")
        found = opaque
    else:
        found = parsed(masks or source, mask, "mask")
        if found.shape != rgb.shape[:2]:
            sizes = f"{found.shape[1]}×{found.shape[0]}", f"{rgb.shape[1]}×{rgb.shape[0]}"
            raise LeftOutError(Reason.MASK_UNUSABLE, f"{mask} is {sizes[0]} pixels and {image} is {sizes[1]}")
    if not found.any():
        raise LeftOutError(Reason.MASK_UNUSABLE, f"the mask of {image} marks no pixel as the object")
    return rgb, found


def parsed(storage: Storage, path: str, what: str):
    """(rgb, opaque) of an `image`, or the pixels of a `mask`. Raises LeftOutError."""
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
