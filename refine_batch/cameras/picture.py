"""A picture and the camera that took it; cut out and turned together, so that each stays true to the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from refine_batch.cameras.pinhole import SAME_PIXEL, Pinhole, invalid, moved_pixels, turned_to_origin

# Widest picture that is resampled; far above any working size.
_WIDEST = 4096
# A ray this near to a right angle from the old axis is not in the old picture.
_SHALLOWEST = 0.05


@dataclass(frozen=True, eq=False)
class Picture:
    """`rgb` (H, W, 3) uint8, `mask` (H, W) bool with at least one pixel set, and the camera that took them."""

    rgb: np.ndarray
    mask: np.ndarray
    pinhole: Pinhole


def needs_turn(pinhole: Pinhole) -> bool:
    """Whether its picture has to be resampled before a look-at camera can have taken it. Raises InstanceError."""
    return not moved_pixels(pinhole, turned_to_origin(pinhole)[1]) < SAME_PIXEL


def cut_out(picture: Picture, *, margin: float, largest: int, turn: bool = True) -> Picture:
    """The square picture of the object alone, by a camera that looks at the origin, or without `turn` as it did.

    Parameters
    ----------
    margin
        Room around the mask's box, as a share of its longer side, on each side.
    largest
        Pixels a side; a larger cut-out is reduced to it.

    Raises
    ------
    InstanceError
        CAMERA_INVALID: the camera cannot be turned to the object.
    """
    turned, homography, resample = _turned(picture) if turn else (picture.pinhole, np.eye(3), False)
    low, high = _box(picture.mask, homography)
    side = int(np.ceil((high - low).max() * (1.0 + 2.0 * margin)))
    left, top = (int(value) for value in np.floor((low + high - side) / 2.0))
    camera = turned.window(left, top, side, side)
    if resample or side > _WIDEST:
        cut = resampled(picture, camera)
    else:
        cut = Picture(_window(picture.rgb, left, top, side), _window(picture.mask, left, top, side), camera)
    return cut if cut.pinhole.width <= largest else _reduced(cut, largest)


def resampled(picture: Picture, camera: Pinhole) -> Picture:
    """What another camera at the same place sees of the picture: bilinear, nothing (0) where the picture ends.

    Wider than 4096 pixels it is made narrower, and the camera with it.
    """
    if camera.width > _WIDEST or camera.height > _WIDEST:
        scale = _WIDEST / max(camera.width, camera.height)
        camera = camera.resized(max(1, int(camera.width * scale)), max(1, int(camera.height * scale)))
    size = camera.width, camera.height
    # From a pixel of the new picture to the old one's that sees the same ray: both cameras stand at one place.
    rays = picture.pinhole.rotation @ camera.rotation.T @ np.linalg.inv(camera.intrinsics)
    corners = np.array([[0, 0, 1], [size[0], 0, 1], [0, size[1], 1], [*size, 1]], np.float64) @ rays.T
    if (corners[:, 2] < _SHALLOWEST * np.linalg.norm(corners, axis=1)).any():
        raise invalid("the object lies too far off the camera's axis to turn its picture there")
    back = picture.pinhole.intrinsics @ rays
    coefficients = tuple((back / back[2, 2]).reshape(-1)[:8])

    def warp(pixels: np.ndarray) -> np.ndarray:
        image = Image.fromarray(pixels)
        return np.array(image.transform(size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR))

    return Picture(warp(picture.rgb), warp(_levels(picture.mask)) >= 128, camera)


def _levels(mask: np.ndarray) -> np.ndarray:
    return np.round(mask.astype(np.float32) * 255.0).astype(np.uint8)


def _turned(picture: Picture) -> tuple[Pinhole, np.ndarray, bool]:
    """The camera that looks at the origin, the homography to its picture, and whether that moves anything."""
    turned, homography = turned_to_origin(picture.pinhole)
    resample = not moved_pixels(picture.pinhole, homography) < SAME_PIXEL
    return turned, homography if resample else np.eye(3), resample


def _box(mask: np.ndarray, homography: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the box around the mask's pixels after a homography: (2,) lowest and highest x, y."""
    rows = np.flatnonzero(mask.any(axis=1))
    first, last = mask[rows].argmax(axis=1), mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    # A row of pixels is spanned by the corners of its ends.
    corners = [(x, y) for y in (rows, rows + 1) for x in (first, last)]
    points = np.concatenate([np.column_stack([x, y, np.ones(len(rows))]) for x, y in corners]) @ homography.T
    if (points[:, 2] <= 0).any():
        raise invalid("part of the mask lies behind the camera that looks at the object")
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


def _reduced(picture: Picture, size: int) -> Picture:
    def shrink(pixels: np.ndarray) -> np.ndarray:
        return np.array(Image.fromarray(pixels).resize((size, size), Image.Resampling.BOX))

    mask = shrink(_levels(picture.mask)) >= 128
    return Picture(shrink(picture.rgb), mask, picture.pinhole.resized(size, size))
