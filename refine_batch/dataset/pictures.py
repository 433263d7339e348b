"""The pictures of a row, from their files to the working image: colours, mask, what is known of it, and the camera."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image

from refine_batch.cameras.camera import Camera, UnknownCamera
from refine_batch.config import PictureOptions
from refine_batch.dataset.picture_row import PictureRow, picture_camera
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.instance import Depth, DepthKind
from refine_batch.io.ground import object_on_ground
from refine_batch.io.hints import (
    HintError,
    check_depth,
    check_normals,
    depth_in,
    normals_in,
    parse_depth,
    parse_normals,
)
from refine_batch.io.images import Decoded, decode
from refine_batch.io.masks import Levels, alpha_levels, mask_levels
from refine_batch.io.pictures import ALPHA_HIDES_NOTHING, NO_ALPHA, same_size
from refine_batch.io.resample import SAMPLES, Frame, area_of, sharpened
from refine_batch.refinement.known import known_pixels
from refine_batch.refinement.mask_checks import check_mask

if TYPE_CHECKING:
    from refine_batch.dataset.load import Files


@dataclass(frozen=True, eq=False)
class LoadedPicture:
    """One picture at the working size, in the middle of a square.

    Parameters
    ----------
    image : (S, S, 3) uint8
        None where there is only a mask.
    mask : (S, S) float32
        The share of each pixel that the object covers.
    known : (S, S) bool
        False behind what is ignored, on borders between labels, and where the silhouette reaches the picture's edge.
    frame
        Where the picture lies in the square.
    depth, normals
        As in `PictureView`; None where there are none, or `notes` say why they are left out.
    """

    image: np.ndarray | None
    mask: np.ndarray
    known: np.ndarray
    camera: Camera | UnknownCamera
    frame: Frame
    depth: Depth | None = None
    normals: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def whole_picture(row: PictureRow, files: Files, options: PictureOptions) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 and (H, W) bool: a picture and its mask at the file's own size. Raises as `load_picture`."""
    image = _decode(files, "image_uri", "image", None)
    source = _source(row, files, options)
    if source == "background":
        share = _ground(image.colours(), files.name("image_uri"))
        return image.colours(), share > 0.5
    levels = mask_levels(_decode(files, "mask_uri", "mask", None)) if source == "mask" else alpha_levels(image)
    if levels is None:
        raise InstanceError(ErrorKind.MASK_MISSING, NO_ALPHA.format(uri=files.name("image_uri")))
    if source == "mask":
        same_size(levels.size, image.size, files.name("mask_uri"), files.name("image_uri"))
    mask = levels.object(options.mask_threshold)
    if source == "alpha" and mask.all():
        raise InstanceError(ErrorKind.MASK_MISSING, ALPHA_HIDES_NOTHING.format(uri=files.name("image_uri")))
    name = files.name("mask_uri" if source == "mask" else "image_uri")
    check_mask(mask, np.ones(mask.shape, bool), (0.0, 0.0, *image.size), name)
    return image.colours(), mask


def load_picture(
    row: PictureRow, files: Files, image_size: int, options: PictureOptions, centre: np.ndarray | None = None
) -> LoadedPicture:
    """Fetch, decode and bring to the working size what a row's columns name; `centre` (3,) is the object's.

    Raises
    ------
    InstanceError
        Of the kind that fits, naming the redacted URI.
    """
    image = alpha = mask = None
    source = _source(row, files, options)
    if row.image_uri:
        image = _decode(files, "image_uri", "image", image_size * (SAMPLES if source == "background" else 2))
        alpha = alpha_levels(image) if source == "alpha" else None
    if source == "mask":
        mask = mask_levels(_decode(files, "mask_uri", "mask", 2 * SAMPLES * image_size))
        if image is not None:
            same_size(mask.size, image.size, files.name("mask_uri"), files.name("image_uri"))
    size = image.size if image is not None else mask.size if mask is not None else (1, 1)
    camera, picture_size = picture_camera(row, *size, centre)
    frame = Frame(*picture_size, image_size)
    colours = None
    if image is not None:
        colours = _coloured(image, frame, 2 * image_size)
    if source == "background" and image is not None:
        share, known = _on_ground(image, frame, files.name("image_uri"))
    else:
        levels = mask if source == "mask" else alpha
        if levels is None:
            raise InstanceError(ErrorKind.MASK_MISSING, NO_ALPHA.format(uri=files.name("image_uri")))
        share, known = levels.share(frame, options.mask_threshold)
        _check_levels(levels, share, frame, files, source, options.mask_threshold)
    del image, mask, alpha
    if row.ignore_uri:
        known &= ~_ignored(files, size, frame)
    name = files.name("mask_uri" if source == "mask" else "image_uri")
    check_mask(share, known, frame.box, name)
    known &= known_pixels(share, frame.box)
    loaded = LoadedPicture(colours, share, known, camera, frame)
    return _with_hints(loaded, row, files, size) if row.depth_uri or row.normals_uri else loaded


def _source(row: PictureRow, files: Files, options: PictureOptions) -> str:
    """Where the mask comes from: mask, alpha or background."""
    source = options.mask_from
    if source == "auto":
        source = "mask" if row.mask_uri else "alpha"
    if source == "mask" and not row.mask_uri:
        raise InstanceError(
            ErrorKind.MASK_MISSING, f"{files.name('image_uri')}: there is no mask_uri, which --mask-from mask needs"
        )
    if source != "mask" and not row.image_uri:
        raise InstanceError(
            ErrorKind.MASK_MISSING, f"{files.name('mask_uri')}: there is no image_uri, which --mask-from {source} needs"
        )
    return source


def _decode(files: Files, column: str, what: str, at_least: int | None) -> Decoded:
    limits = files.limits
    return decode(
        files.fetch(column, limits.image_bytes, ErrorKind.IMAGE_TOO_LARGE),
        files.name(column),
        what,
        at_least=at_least,
        max_pixels=limits.image_pixels,
        max_bytes=limits.image_bytes,
    )


def _reduced(image: Decoded, frame: Frame, at_least: int) -> tuple[np.ndarray, tuple[float, float]]:
    """Colours (h, w, 3) uint8 of at least so many pixels on the longer side, as far as there are, and their extent."""
    reduce = max(1, max(image.image.size) // at_least)
    rgb = image.colours(reduce)
    # Pixels of the file in one of these: a JPEG may have been decoded at a fraction of its size.
    block = reduce * max(1, round(max(image.size) / max(image.image.size)))
    width, height = image.size
    return rgb, (
        rgb.shape[1] * block * frame.width / width if block > 1 else frame.width,
        rgb.shape[0] * block * frame.height / height if block > 1 else frame.height,
    )


def _coloured(image: Decoded, frame: Frame, at_least: int) -> np.ndarray:
    """(S, S, 3) uint8."""
    rgb, extent = _reduced(image, frame, at_least)
    if frame.fills and rgb.shape[:2] == (frame.size, frame.size):
        return rgb
    if max(rgb.shape) < frame.size:
        more = -(-frame.size // max(rgb.shape))
        size = rgb.shape[1] * more, rgb.shape[0] * more
        rgb = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))
    return np.round(area_of(rgb, frame, extent)).clip(0, 255).astype(np.uint8)


def _on_ground(image: Decoded, frame: Frame, uri: str) -> tuple[np.ndarray, np.ndarray]:
    rgb, extent = _reduced(image, frame, SAMPLES * frame.size)
    return sharpened(_ground(rgb, uri), frame, 0.5, extent), np.ones((frame.size, frame.size), bool)


def _ground(rgb: np.ndarray, uri: str) -> np.ndarray:
    share = object_on_ground(rgb)
    if share is None:
        raise InstanceError(
            ErrorKind.MASK_MISSING,
            f"{uri}: the image's border is not of one colour, so --mask-from background finds no ground; give a mask "
            "image in the column mask_uri",
        )
    return share


def _check_levels(levels: Levels, share: np.ndarray, frame: Frame, files: Files, source: str, threshold: float) -> None:
    """Raise InstanceError where the levels themselves tell what is wrong."""
    if source == "alpha" and share.sum() * frame.pitch**2 > frame.width * frame.height * (1.0 - 1e-6):
        raise InstanceError(ErrorKind.MASK_MISSING, ALPHA_HIDES_NOTHING.format(uri=files.name("image_uri")))
    if not share.any() and 0.0 < levels.highest <= threshold:
        what, column = ("mask", "mask_uri") if source == "mask" else ("alpha channel", "image_uri")
        raise InstanceError(
            ErrorKind.MASK_EMPTY,
            f"{files.name(column)}: the {what} reaches {levels.highest:.0%} of full scale, and only what is above "
            f"{threshold:.0%} counts as the object (--mask-threshold)",
        )


def _with_hints(picture: LoadedPicture, row: PictureRow, files: Files, size: tuple[int, int]) -> LoadedPicture:
    """The picture with its depth and normals; one that cannot be meant is left out, and a note says why."""
    on = (picture.mask >= 0.5) & picture.known
    notes: list[str] = []
    depth = normals = None
    limits = files.limits
    for column in ("depth_uri", "normals_uri"):
        if not getattr(row, column):
            continue
        data = files.fetch(column, limits.image_bytes, ErrorKind.IMAGE_TOO_LARGE)
        try:
            if column == "depth_uri":
                depth = _depth(data, row, files, picture.frame, on, size)
            else:
                axes = row.normals_axes or "opengl"
                found = parse_normals(data, files.name(column), axes=axes, max_pixels=limits.image_pixels)
                _same_shape(found, size)
                normals = normals_in(picture.frame, found)
                check_normals(normals, on, picture.known)
        except HintError as error:
            notes.append(f"{files.prefix}{column} left out: {files.name(column)}: {error}")
            if column == "normals_uri":
                normals = None
    return replace(picture, depth=depth, normals=normals, notes=tuple(notes))


def _depth(data: bytes, row: PictureRow, files: Files, frame: Frame, on: np.ndarray, size: tuple[int, int]) -> Depth:
    """Raises HintError."""
    kind = row.depth_kind or "relative"
    if kind == "metric" and row.depth_scale is None and not data.startswith(b"\x93NUMPY"):
        raise HintError("metric depth from a picture needs depth_scale, the object units of one of its levels")
    scale = row.depth_scale or 1.0
    values = parse_depth(data, files.name("depth_uri"), scale=scale, max_pixels=files.limits.image_pixels)
    _same_shape(values, size)
    values = depth_in(frame, values)
    check_depth(values, on, kind)
    return Depth(values, cast(DepthKind, kind))


def _same_shape(hint: np.ndarray, size: tuple[int, int]) -> None:
    """Raise HintError unless the hint's sides are in the picture's ratio; it may have fewer pixels, or more."""
    height, width = hint.shape[:2]
    if abs(width * size[1] - height * size[0]) > 1.5 * max(size):
        raise HintError(f"it is {width}×{height} pixels, its picture {size[0]}×{size[1]}; their shapes differ")


def _ignored(files: Files, size: tuple[int, int], frame: Frame) -> np.ndarray:
    """(S, S) bool: what the ignore mask marks."""
    levels = mask_levels(_decode(files, "ignore_uri", "ignore mask", 2 * SAMPLES * frame.size))
    same_size(
        levels.size, size, files.name("ignore_uri"), files.name("image_uri") or files.name("mask_uri"), "ignore mask"
    )
    return levels.hidden(frame)
