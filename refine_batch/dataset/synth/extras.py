"""What makes a synthetic picture hard: soft edges, something before the object, a frame that cuts it off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from refine_batch.cameras.camera import Camera
from refine_batch.mesh import Mesh
from refine_batch.render import hard_silhouettes

_SAMPLES = 8
_MOST_BLUR = 2.5
# Shares of the silhouette that are hidden or cut off.
HIDDEN, CUT = (0.15, 0.35), (0.1, 0.3)


def soft(image: np.ndarray, mesh: Mesh, camera: Camera, random: np.random.Generator) -> np.ndarray:
    """The picture (H, H, 4) with the share of each pixel that the object covers as alpha, every other time blurred."""
    size = len(image)
    fine = hard_silhouettes(mesh, [camera], _SAMPLES * size)[0]
    share = fine.reshape(size, _SAMPLES, size, _SAMPLES).mean(axis=(1, 3))
    if random.random() < 0.5:
        share = ndimage.gaussian_filter(share, random.uniform(0.5, _MOST_BLUR))
    nearest = ndimage.distance_transform_edt(image[..., 3] == 0, return_distances=False, return_indices=True)
    # What is only partly covered has the colour beside it.
    colours = image[..., :3][tuple(nearest)]
    return np.dstack([colours * (share > 0)[..., None], np.round(share * 255)]).astype(np.uint8)


def occluded(image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The picture (H, H, 4) with a bar or a disc before the object, and (H, H) bool, where that is."""
    y, x = np.mgrid[: len(image), : len(image)]
    on = image[..., 3] > 127
    rows, columns = np.nonzero(on)
    angle = random.uniform(0, 2 * np.pi)
    if random.random() < 0.5:
        along = np.cos(angle) * x + np.sin(angle) * y
    else:
        at = random.integers(len(rows))
        along = np.hypot(x - columns[at], y - rows[at])
    low, high = HIDDEN
    hidden = along <= np.quantile(along[on], random.uniform(low, high))
    found = image.copy()
    found[hidden] = (*random.integers(40, 216, 3), 0)
    return found, hidden


def cutting(camera: Camera, silhouette: np.ndarray, random: np.random.Generator) -> Camera:
    """The camera with its principal point moved until the frame cuts off a share of the silhouette (H, H)."""
    size = len(silhouette)
    share = random.uniform(*CUT)
    sideways = random.random() < 0.5
    counts = np.cumsum(silhouette.sum(axis=0 if sideways else 1)) / silhouette.sum()
    if random.random() < 0.5:
        by = -float(np.searchsorted(counts, share))
    else:
        by = float(size - np.searchsorted(counts, 1.0 - share))
    # NDC: +x is left and +y up, where pixels count to the right and down.
    offset = round(-2.0 * by / size, 4)
    return replace(camera, offset_x=offset) if sideways else replace(camera, offset_y=offset)
