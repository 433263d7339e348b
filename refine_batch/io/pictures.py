"""An image and its mask at their own size, for those who cut, turn or show pictures."""

from __future__ import annotations

import numpy as np

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.io.images import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS, decode
from refine_batch.io.masks import alpha_levels, mask_levels

NO_ALPHA = (
    "{uri}: the image has no alpha channel; give one, or a mask image in the column mask_uri, or, where the ground is "
    "of one colour, --mask-from background"
)
ALPHA_HIDES_NOTHING = (
    "{uri}: the alpha channel hides nothing, so it does not show the object; make the background transparent, or give "
    "a mask image in the column mask_uri, or, where the ground is of one colour, --mask-from background"
)


def parse_image(
    data: bytes,
    uri: str,
    *,
    threshold: float = 0.5,
    max_pixels: int = MAX_IMAGE_PIXELS,
    max_bytes: int = MAX_IMAGE_BYTES,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The colours of an image and where it is opaque, turned upright by its own EXIF orientation.

    Greys and palettes become RGB, 16 bits become 8; colours under a transparent pixel stay as they are in the file.

    Returns
    -------
    rgb : (H, W, 3) uint8
    opaque : (H, W) bool or None
        Where alpha is above `threshold` of full scale (of an alpha of two values the higher); None where the file has
        no transparency of any kind.

    Raises
    ------
    InstanceError
        IMAGE_TOO_LARGE, known from the header before anything is decoded, or IMAGE_BROKEN.
    """
    decoded = decode(data, uri, "image", max_pixels=max_pixels, max_bytes=max_bytes)
    levels = alpha_levels(decoded)
    return decoded.colours(), None if levels is None else levels.object(threshold)


def parse_mask(
    data: bytes,
    uri: str,
    *,
    threshold: float = 0.5,
    max_pixels: int = MAX_IMAGE_PIXELS,
    max_bytes: int = MAX_IMAGE_BYTES,
) -> np.ndarray:
    """(H, W) bool: where a mask image shows the object, its levels understood as `io.masks` says.

    Turned upright by its own EXIF orientation, as images are. Raises what `parse_image` raises.
    """
    return mask_levels(decode(data, uri, "mask", max_pixels=max_pixels, max_bytes=max_bytes)).object(threshold)


def object_mask(
    rgb: np.ndarray, opaque: np.ndarray | None, mask: np.ndarray | None, image_uri: str, mask_uri: str | None
) -> np.ndarray:
    """(H, W) bool, True on the object: the mask image where one is given, else the alpha channel.

    Transparency that hides nothing is what many tools write by default and does not say where the object is: without a
    mask image it counts as no mask at all.

    Raises
    ------
    InstanceError
        MASK_MISSING, MASK_EMPTY or SIZE_MISMATCH.
    """
    if mask is None:
        if opaque is None:
            raise InstanceError(ErrorKind.MASK_MISSING, NO_ALPHA.format(uri=image_uri))
        if opaque.all():
            raise InstanceError(ErrorKind.MASK_MISSING, ALPHA_HIDES_NOTHING.format(uri=image_uri))
        mask, source = opaque, image_uri
    else:
        source = mask_uri or "the mask"
        same_size(mask.shape[::-1], rgb.shape[1::-1], source, image_uri)
    if not mask.any():
        raise InstanceError(ErrorKind.MASK_EMPTY, f"{source}: the mask marks no pixel as the object")
    return mask


def same_size(mask: tuple[int, ...], image: tuple[int, ...], mask_uri: str, image_uri: str, what: str = "mask") -> None:
    """Raise `InstanceError` (SIZE_MISMATCH) unless a mask and its image have as many pixels; (width, height) each."""
    if mask == image:
        return
    hint = " (one of them may lack the other's EXIF orientation)" if mask == image[::-1] else ""
    raise InstanceError(
        ErrorKind.SIZE_MISMATCH,
        f"{mask_uri}: the {what} is {mask[0]}×{mask[1]} pixels, its image {image_uri} is {image[0]}×{image[1]}; "
        f"they must be the same{hint}",
    )
