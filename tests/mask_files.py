"""Picture files and shapes for tests of masks."""

import functools
import io

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from refine_batch.dataset.synth import make_instance
from refine_batch.render import hard_silhouettes


def encode(pixels: np.ndarray | Image.Image, file_format: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, file_format, **options)
    return stream.getvalue()


@functools.cache
def silhouette(index: int, size: int) -> np.ndarray:
    """(size, size) bool: the true outline of a synthetic object."""
    instance = make_instance(index, seed=11, image_size=32)
    return hard_silhouettes(instance.ground_truth, [instance.camera], size)[0]


def blurred(mask: np.ndarray, sigma: float) -> np.ndarray:
    """(H, W) uint8 levels of a mask whose edges were made soft."""
    return np.round(gaussian_filter(mask.astype(np.float32), sigma) * 255).astype(np.uint8)


def iou(share: np.ndarray, true: np.ndarray) -> float:
    found = share >= 0.5
    return float((found & true).sum() / (found | true).sum())
