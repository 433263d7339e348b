"""Depth and normals of a picture from bytes: PNG, or NPY without pickles. What cannot be meant is told as such."""

from __future__ import annotations

import io

import numpy as np
from scipy import ndimage

from refine_batch.errors import InstanceError
from refine_batch.io.images import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS, decode
from refine_batch.io.resample import Frame, area_of

# Share of the object's pixels that a hint must know.
_LEAST_KNOWN = 0.2
# A pixel whose depths spread this much more than the usual one's, and by this share of their range, lies on an edge.
_EDGE, _EDGE_RANGE = 4.0, 0.02
# Length of a vector from which it is a normal, and of a mean of normals below which they belong to several surfaces.
_NORMAL, _ONE_SURFACE = 0.5, 0.7
# Pixels along the outline in which normals point outwards, and the mean below which they do not.
_RIM, _INWARDS = 4, -0.1


class HintError(Exception):
    """A hint that cannot be meant; the message is one sentence for a person."""


def parse_depth(data: bytes, uri: str, *, scale: float = 1.0, max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
    """(H, W) float32: depth times `scale`; NaN where it is not known: not finite and, of a PNG, 0.

    Raises
    ------
    HintError
        Neither a PNG of one channel nor an NPY file of shape (H, W).
    """
    if _is_npy(data):
        values = _array(data, max_pixels)
        if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
            values = values.reshape([n for n in values.shape if n != 1] if values.size > 1 else (1, 1))
        if values.ndim != 2:
            raise HintError(f"depth must have the shape (H, W), not {values.shape}")
        values = values.astype(np.float32)
    else:
        decoded = _picture(data, uri, max_pixels)
        if not (decoded.deep or decoded.image.mode == "L"):
            raise HintError(f"a depth picture must be a PNG of one channel, not {decoded.image.mode}")
        values = decoded.upright(np.asarray(decoded.image)).astype(np.float32)
        values[values <= 0] = np.nan
    return np.where(np.isfinite(values), values, np.nan).astype(np.float32) * np.float32(scale)


def parse_normals(data: bytes, uri: str, *, axes: str = "opengl", max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
    """(H, W, 3) float32 unit vectors, x right, y up, z towards the viewer; NaN where nothing is known.

    A picture's channels run from −1 at 0 to 1 at 255; black, grey and what is transparent are not known. `axes` opencv
    means x right, y down, z away from the viewer.

    Raises
    ------
    HintError
        Neither a picture of three channels nor an NPY file of shape (H, W, 3).
    """
    if _is_npy(data):
        values = _array(data, max_pixels).astype(np.float32)
        if values.ndim == 3 and values.shape[2] != 3 and values.shape[0] == 3:
            values = np.moveaxis(values, 0, 2)
        if values.ndim != 3 or values.shape[2] != 3:
            raise HintError(f"normals must have the shape (H, W, 3), not {values.shape}")
        values = np.where(np.isfinite(values).all(axis=2, keepdims=True), values, 0.0)
    else:
        decoded = _picture(data, uri, max_pixels)
        if decoded.deep or decoded.image.mode in ("1", "L", "LA"):
            raise HintError("normals must be a picture of three channels, not of greys")
        levels = decoded.colours()
        values = levels.astype(np.float32) / 127.5 - 1.0
        hidden = ~levels.any(axis=2)
        if decoded.transparent:
            hidden |= decoded.whole(decoded.alpha) < 128
        values[hidden] = 0.0
    length = np.linalg.norm(values, axis=2, keepdims=True)
    values = np.where((length > _NORMAL) & (length < 1.0 / _NORMAL), values / np.maximum(length, 1e-6), np.nan)
    return (values * ([1.0, -1.0, -1.0] if axes == "opencv" else 1.0)).astype(np.float32)


def depth_in(frame: Frame, depth: np.ndarray) -> np.ndarray:
    """(size, size) float32: depth brought to the working image, NaN where most of a pixel is unknown.

    Means by area; a pixel in which depths of several surfaces meet has none.
    """
    known = np.isfinite(depth)
    values = _as_fine(np.where(known, depth, 0.0), frame)
    weight = _as_fine(known.astype(np.float32), frame)
    centre = float(np.median(depth[known])) if known.any() else 0.0
    away = np.where(weight > 0, values - centre * weight, 0.0)
    first, second, share = np.moveaxis(area_of(np.dstack([away, away**2, weight]), frame), 2, 0)
    held = np.maximum(share, 1e-9)
    mean = first / held
    spread = np.sqrt(np.maximum(second / held - mean**2, 0.0))
    sure = share >= 0.5
    if sure.any():
        low, high = np.quantile(mean[sure], (0.05, 0.95))
        sure &= spread <= max(_EDGE * float(np.median(spread[sure])), _EDGE_RANGE * float(high - low))
    return np.where(sure, mean + centre, np.nan).astype(np.float32)


def normals_in(frame: Frame, normals: np.ndarray) -> np.ndarray:
    """(size, size, 3) float32: normals brought to the working image; NaN where unknown or of several surfaces."""
    known = np.isfinite(normals).all(axis=2)
    planes = np.dstack([np.where(known[..., None], normals, 0.0), known])
    found = area_of(_as_fine(planes.astype(np.float32), frame), frame)
    share = found[..., 3:]
    mean = found[..., :3] / np.maximum(share, 1e-9)
    length = np.linalg.norm(mean, axis=2, keepdims=True)
    return np.where((share >= 0.5) & (length > _ONE_SURFACE), mean / np.maximum(length, 1e-9), np.nan).astype(
        np.float32
    )


def check_depth(depth: np.ndarray, on: np.ndarray, kind: str) -> None:
    """Raise `HintError` where a depth (S, S) cannot be that of the object, whose pixels are `on` (S, S) bool."""
    known = np.isfinite(depth) & on
    _check_known(known, on)
    low, high = np.quantile(depth[known], (0.02, 0.98))
    if not high - low > 1e-6 * max(abs(low), abs(high)):
        raise HintError("it is the same everywhere on the object")
    if kind == "metric" and low <= 0:
        raise HintError(f"metric depth must be above 0, and is {low:g} on the object")


def check_normals(normals: np.ndarray, on: np.ndarray, known: np.ndarray) -> None:
    """Raise `HintError` where normals (S, S, 3) cannot be those of the object, whose pixels are `on`.

    What is seen faces the viewer, and along the outline it turns outwards; the outline counts only where `known`.
    """
    found = np.isfinite(normals).all(axis=2) & on
    _check_known(found, on)
    if np.median(normals[found][:, 2]) < 0:
        raise HintError("they look away from the viewer; are they of other axes than normals_axes says?")
    if np.ptp(normals[found], axis=0).max() < 1e-3:
        raise HintError("they are the same everywhere on the object")
    distance = ndimage.distance_transform_edt(on)
    inwards_y, inwards_x = np.gradient(ndimage.gaussian_filter(distance, 1.0))
    rim = found & (distance <= _RIM) & ~ndimage.binary_dilation(~known, iterations=_RIM)
    if not rim.any():
        return
    for name, mean in (
        ("left and right", -(normals[..., 0] * inwards_x)[rim].mean()),
        ("up and down", (normals[..., 1] * inwards_y)[rim].mean()),
    ):
        if mean < _INWARDS:
            raise HintError(f"{name} are exchanged in them; are they of other axes than normals_axes says?")


def _check_known(known: np.ndarray, on: np.ndarray) -> None:
    share = known.sum() / max(int(on.sum()), 1)
    if share < _LEAST_KNOWN:
        raise HintError(f"it says something of {share:.0%} of the object's pixels only")


def _as_fine(pixels: np.ndarray, frame: Frame) -> np.ndarray:
    """(h, w, …) at least as fine as the working image, between its pixels bilinear."""
    more = -(-frame.size // max(pixels.shape[:2]))
    if more == 1:
        return pixels
    planes = pixels.reshape(*pixels.shape[:2], -1)
    height, width = (side * more for side in planes.shape[:2])
    rows, columns = ((np.arange(n) + 0.5) / more - 0.5 for n in (height, width))
    grid = np.meshgrid(rows, columns, indexing="ij")
    finer = [ndimage.map_coordinates(planes[..., i], grid, order=1, mode="nearest") for i in range(planes.shape[2])]
    return np.stack(finer, axis=2).reshape(height, width, *pixels.shape[2:])


def _is_npy(data: bytes) -> bool:
    return data.startswith(b"\x93NUMPY")


def _array(data: bytes, max_pixels: int) -> np.ndarray:
    """The array of an NPY file; its size is known from the header before anything is made of it."""
    try:
        stream = io.BytesIO(data)
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if dtype.kind not in "fiu":
            raise HintError(f"an NPY file must hold numbers, not {dtype}")
        if np.prod([float(n) for n in shape]) > 4.0 * max_pixels:
            raise HintError(f"an NPY file of shape {shape} has more than {max_pixels} pixels, the limit (--max-pixels)")
        return np.load(io.BytesIO(data), allow_pickle=False)
    except (HintError, MemoryError):
        raise
    except Exception as error:  # whatever hostile bytes bring about
        raise HintError(f"the NPY file cannot be read: {error}") from error


def _picture(data: bytes, uri: str, max_pixels: int):
    try:
        return decode(data, uri, "hint", max_pixels=max_pixels, max_bytes=MAX_IMAGE_BYTES)
    except InstanceError as error:
        raise HintError(error.message) from error
