"""COLMAP's cameras and images, text and binary, as colmap.github.io/format.html has them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from refine_batch.dataset.layouts.entry import LeftOutError, Reason

# Number and name of each model in COLMAP's own order, and how many parameters it has.
MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
}
_COUNTS = dict(MODELS.values())
_LONGEST_NAME = 4096


@dataclass(frozen=True)
class ColmapCamera:
    """One line of cameras.txt; sizes and parameters in pixels."""

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class ColmapImage:
    """One image: quaternion (w, x, y, z) and translation, world to camera, OpenCV's axes."""

    name: str
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]
    camera: int


def read_cameras(stream: BinaryIO, *, binary: bool) -> dict[int, ColmapCamera]:
    """By number. Raises LeftOutError where the file is damaged."""
    return dict(_cameras_binary(stream) if binary else _cameras_text(stream))


def read_images(stream: BinaryIO, *, binary: bool) -> Iterator[ColmapImage]:
    """The images in the file's order.

    Raises
    ------
    LeftOutError
        CUT_SHORT, after the last image that is whole.
    """
    return _images_binary(stream) if binary else _images_text(stream)


def _cameras_text(stream: BinaryIO) -> Iterator[tuple[int, ColmapCamera]]:
    for number, line in enumerate(stream, 1):
        fields = line.decode("utf-8", "replace").split()
        if fields and not fields[0].startswith("#"):
            try:
                key, model, width, height = int(fields[0]), fields[1], int(fields[2]), int(fields[3])
                parameters = tuple(map(float, fields[4:]))
            except (ValueError, IndexError):
                raise LeftOutError(Reason.CUT_SHORT, f"cameras.txt breaks at line {number}") from None
            _check_count(model, parameters)
            yield key, ColmapCamera(model, width, height, parameters)


def _check_count(model: str, parameters: tuple[float, ...]) -> None:
    if len(parameters) != _COUNTS.get(model, len(parameters)):
        raise LeftOutError(Reason.CUT_SHORT, f"cameras.txt: a {model} camera has {len(parameters)} parameters")


def _cameras_binary(stream: BinaryIO) -> Iterator[tuple[int, ColmapCamera]]:
    (count,) = _unpacked(stream, "<Q", "cameras.bin")
    for _ in range(count):
        key, model, width, height = _unpacked(stream, "<iiQQ", "cameras.bin")
        name, number = MODELS.get(model, (f"number {model}", None))
        if number is None:
            raise LeftOutError(Reason.CAMERA_INVALID, f"cameras.bin: COLMAP's camera model {model} is not known here")
        yield key, ColmapCamera(name, width, height, _unpacked(stream, f"<{number}d", "cameras.bin"))


def _images_text(stream: BinaryIO) -> Iterator[ColmapImage]:
    """Two lines each: the image, and its points, which may be an empty line."""
    points = False
    for number, raw in enumerate(stream, 1):
        line = raw.decode("utf-8", "replace").strip("\r\n")
        if line.startswith("#") or (not points and not line.strip()):
            continue
        if not points:
            fields = line.split(maxsplit=9)
            try:
                values = tuple(map(float, fields[1:8]))
                image = ColmapImage(fields[9].strip(), values[:4], values[4:], int(fields[8]))
            except (ValueError, IndexError):
                raise LeftOutError(Reason.CUT_SHORT, f"images.txt breaks at line {number}") from None
            if not raw.endswith(b"\n"):
                raise LeftOutError(Reason.CUT_SHORT, f"images.txt ends within line {number}")
            yield image
        points = not points


def _images_binary(stream: BinaryIO) -> Iterator[ColmapImage]:
    (count,) = _unpacked(stream, "<Q", "images.bin")
    for _ in range(count):
        values = _unpacked(stream, "<i7di", "images.bin")
        name = bytearray()
        while (one := stream.read(1)) != b"\0":
            if not one or len(name) > _LONGEST_NAME:
                raise LeftOutError(Reason.CUT_SHORT, "images.bin ends within an image's name")
            name += one
        (points,) = _unpacked(stream, "<Q", "images.bin")
        skipped = stream.seek(24 * points, 1) if points < 1 << 40 else -1
        if skipped < 0:
            raise LeftOutError(Reason.CUT_SHORT, "images.bin is damaged")
        yield ColmapImage(name.decode("utf-8", "replace"), values[1:5], values[5:8], values[8])


def _unpacked(stream: BinaryIO, form: str, name: str) -> tuple:
    data = stream.read(struct.calcsize(form))
    try:
        return struct.unpack(form, data)
    except struct.error:
        raise LeftOutError(Reason.CUT_SHORT, f"{name} ends early") from None
