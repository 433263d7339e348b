"""Images and masks from bytes: PNG, JPEG and WebP, nothing else."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from refine_batch.errors import ErrorKind, InstanceError

MAX_IMAGE_BYTES = 256 * 1024 * 1024
# 8192²: above any camera's useful resolution for a 224-pixel working image, below Pillow's own alarm.
MAX_IMAGE_PIXELS = 1 << 26

_FORMATS = ("PNG", "JPEG", "WEBP")
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


def parse_image(
    data: bytes, uri: str, *, max_pixels: int = MAX_IMAGE_PIXELS, max_bytes: int = MAX_IMAGE_BYTES
) -> tuple[np.ndarray, np.ndarray | None]:
    """The colours of an image and where it is not transparent.

    The image is turned upright by its own EXIF orientation. Greys and palettes become RGB, 16 bits become 8; colours
    under a transparent pixel stay as they are in the file.

    Returns
    -------
    rgb : (H, W, 3) uint8
    opaque : (H, W) bool or None
        alpha > 0; None where the file has no transparency of any kind.

    Raises
    ------
    InstanceError
        IMAGE_TOO_LARGE, known from the header before anything is decoded, or IMAGE_BROKEN.
    """
    image = _decode(data, uri, "image", max_pixels, max_bytes)
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        opaque = levels != image.info["transparency"] if isinstance(image.info.get("transparency"), int) else None
        grey = np.clip(levels >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2), opaque
    if not image.has_transparency_data:
        return np.array(image.convert("RGB")), None
    rgba = np.array(image.convert("RGBA"))
    return np.ascontiguousarray(rgba[:, :, :3]), rgba[:, :, 3] > 0


def parse_mask(
    data: bytes, uri: str, *, max_pixels: int = MAX_IMAGE_PIXELS, max_bytes: int = MAX_IMAGE_BYTES
) -> np.ndarray:
    """(H, W) bool: where a mask image is above 0, in any channel and, where it has transparency, not transparent.

    Turned upright by its own EXIF orientation, as images are. Raises what `parse_image` raises.
    """
    image = _decode(data, uri, "mask", max_pixels, max_bytes)
    if image.mode in ("1", "L") and not image.has_transparency_data:
        return np.asarray(image) > 0
    if image.mode[0] in "IF":
        return np.asarray(image) > 0
    rgba = np.asarray(image.convert("RGBA"))
    return (rgba[:, :, :3] > 0).any(axis=2) & (rgba[:, :, 3] > 0)


def object_mask(
    rgb: np.ndarray, opaque: np.ndarray | None, mask: np.ndarray | None, image_uri: str, mask_uri: str | None
) -> np.ndarray:
    """(H, W) bool, True on the object: the mask image where one is given, else alpha > 0.

    Transparency that hides nothing (alpha above 0 everywhere) is what many tools write by default and does not say
    where the object is: without a mask image it counts as no mask at all.

    Raises
    ------
    InstanceError
        MASK_MISSING, MASK_EMPTY or SIZE_MISMATCH.
    """
    if mask is None:
        if opaque is None:
            raise InstanceError(
                ErrorKind.MASK_MISSING,
                f"{image_uri}: the image has no alpha channel; give one, or a mask image in the column mask_uri",
            )
        if opaque.all():
            raise InstanceError(
                ErrorKind.MASK_MISSING,
                f"{image_uri}: the alpha channel is above 0 everywhere, so it does not show the object; make the "
                "background transparent, or give a mask image in the column mask_uri",
            )
        mask, source = opaque, image_uri
    else:
        source = mask_uri or "the mask"
        if mask.shape != rgb.shape[:2]:
            turned = mask.shape[::-1] == rgb.shape[:2]
            hint = " (one of them may lack the other's EXIF orientation)" if turned else ""
            raise InstanceError(
                ErrorKind.SIZE_MISMATCH,
                f"{source}: the mask is {_size(mask)} pixels, its image {image_uri} is {_size(rgb)}; "
                f"they must be the same{hint}",
            )
    if not mask.any():
        raise InstanceError(ErrorKind.MASK_EMPTY, f"{source}: the mask marks no pixel as the object")
    return mask


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}×{array.shape[0]}"


def _decode(data: bytes, uri: str, what: str, max_pixels: int, max_bytes: int) -> Image.Image:
    """The decoded image, upright; for an animation its first frame."""
    if len(data) > max_bytes:
        raise InstanceError(
            ErrorKind.IMAGE_TOO_LARGE, f"{uri}: the {what} has {len(data)} bytes; the limit is {max_bytes}"
        )
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        width, height = image.size
        if width * height > max_pixels:
            raise InstanceError(
                ErrorKind.IMAGE_TOO_LARGE,
                f"{uri}: the {what} is {width}×{height} = {width * height} pixels; the limit is {max_pixels}",
            )
        image.load()
        return _upright(image)
    except (InstanceError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InstanceError(
            ErrorKind.IMAGE_TOO_LARGE, f"{uri}: the {what} has more than {max_pixels} pixels, the limit"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise InstanceError(ErrorKind.IMAGE_BROKEN, f"{uri}: the {what} is not a PNG, JPEG or WebP file") from error
    except Exception as error:  # whatever a decoder raises on hostile bytes
        raise InstanceError(ErrorKind.IMAGE_BROKEN, f"{uri}: the {what} cannot be decoded: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # broken metadata of a sound image
        return image
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    if turn is None:
        return image
    upright = image.transpose(turn)
    upright.info = image.info
    return upright
