"""The input image and the silhouettes over it, as data URIs."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from refine_batch.cameras.camera import Camera
from refine_batch.mesh import Mesh
from refine_batch.refinement.prepare import resize_square
from refine_batch.render import hard_silhouettes

# The paper's working size: what the refinement saw, and enough for a card.
SIZE = 224

# Okabe and Ito's palette, told apart with every kind of colour blindness (Color Universal Design, 2008); each differs
# from the others in lightness too.
MASK, COARSE, REFINED = (0, 158, 115), (230, 159, 0), (0, 114, 178)
_BOTH = (154, 160, 166)


def photo(rgb: np.ndarray, mask: np.ndarray | None) -> str:
    """The image (H, W, 3) uint8, padded to a square; where there is a mask (H, W) bool, the rest is faded."""
    picture = resize_square(rgb.astype(np.float32) / 255.0, SIZE)
    if mask is None:
        return webp(Image.fromarray((picture * 255).round().astype(np.uint8)))
    alpha = 0.25 + 0.75 * resize_square(mask[..., None].astype(np.float32), SIZE)
    if not rgb[~mask].any():  # a cut-out on black: the black says nothing
        alpha = (alpha - 0.25) / 0.75
    return webp(Image.fromarray((np.concatenate([picture, alpha], axis=2) * 255).round().astype(np.uint8)))


def depth(values: np.ndarray) -> str:
    """Depth (H, W), NaN where unknown, as greys: what is near is bright, what is unknown transparent."""
    known = np.isfinite(values)
    low, high = np.quantile(values[known], (0.02, 0.98)) if known.any() else (0.0, 1.0)
    grey = 0.15 + 0.85 * np.clip((high - values) / max(float(high - low), 1e-12), 0.0, 1.0)
    return _hint(np.repeat(grey[..., None], 3, axis=2), known)


def normals(values: np.ndarray) -> str:
    """Normals (H, W, 3), x right, y up, z towards the viewer, as colours; what is unknown (NaN) transparent."""
    return _hint((values + 1.0) / 2.0, np.isfinite(values).all(axis=2))


def _hint(colours: np.ndarray, known: np.ndarray) -> str:
    planes = np.where(known[..., None], np.dstack([colours, known]), 0.0).astype(np.float32)
    square = resize_square(planes, SIZE)
    square[..., :3] /= np.maximum(square[..., 3:], 1e-3)
    return webp(Image.fromarray((square.clip(0.0, 1.0) * 255).round().astype(np.uint8)))


def overlay(mesh: Mesh, camera: Camera, mask: np.ndarray, colour: tuple[int, int, int]) -> str:
    """Mask (H, W) bool against the mesh's silhouette: where both are, and where only one is."""
    square = resize_square(mask[..., None].astype(np.float32), SIZE)[..., 0] >= 0.5
    silhouette = hard_silhouettes(mesh, [camera], SIZE)[0]
    levels = np.zeros((SIZE, SIZE), np.uint8)
    for level, region in enumerate((square & silhouette, square & ~silhouette, silhouette & ~square)):
        levels[region] = level + 1
    image = Image.fromarray(levels, "P")
    image.putpalette([*(0, 0, 0), *_BOTH, *MASK, *colour])
    return _png(image, transparency=0)


def webp(image: Image.Image) -> str:
    """An image as a data URI, a few kilobytes large."""
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=80)
    return _data_uri("webp", stream.getvalue())


def _png(image: Image.Image, **options: int) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True, **options)
    return _data_uri("png", stream.getvalue())


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
