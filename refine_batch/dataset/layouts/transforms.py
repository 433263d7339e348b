"""Layout `transforms`: Blender's, NeRF's and nerfstudio's transforms.json, one object each.

`transform_matrix` is camera to world, OpenGL's axes (x right, y up, z backward), as NeRF's Blender script, Instant NGP
and nerfstudio write it (docs.nerf.studio, Data conventions); `--axes opencv` where a tool wrote OpenCV's. The focal
length is `fl_x`, `fl_y` or follows from `camera_angle_x`, `camera_angle_y`; the principal point is `cx`, `cy`, else the
middle. Each stands at the top or with its frame.
"""

from __future__ import annotations

import json
import math
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from refine_batch.cameras.conversions import from_opencv, from_opengl
from refine_batch.cameras.pinhole import Pinhole, numbers, rotation_matrix
from refine_batch.dataset.layouts.entry import LeftOut, LeftOutError, Reason, Row
from refine_batch.dataset.layouts.json_items import CutShortError, json_items
from refine_batch.dataset.layouts.options import LayoutOptions
from refine_batch.dataset.layouts.paths import IMAGE_SUFFIXES, file_names, safe_path
from refine_batch.dataset.layouts.picture import invalid_camera, probe
from refine_batch.dataset.layouts.viewed import (
    VIEW_FIELDS,
    ObjectFiles,
    Shot,
    check_distortion,
    object_name,
    placement_of,
    row_of_shots,
    shot_by,
    spread,
)
from refine_batch.errors import InstanceError, UsageError
from refine_batch.io.storage import StorageError, fetch, redact

_NAMES = (
    "transforms.json",
    "transforms_train.json",
    "transforms_all.json",
    "transforms_test.json",
    "transforms_val.json",
)
_MODELS = ("", "OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
_LARGEST = 256 << 20


@dataclass(frozen=True)
class RenderedObject:
    """One transforms.json: the object's name, the file's folder in the source, and its own name."""

    name: str
    folder: str
    file: str


class TransformsLayout:
    """SOURCE holds a transforms.json, or folders that hold one each; of several splits the first that is there."""

    extra_fields = VIEW_FIELDS

    def __init__(self, options: LayoutOptions):
        self._options = options
        self._storage = options.storage(options.source)
        self._axes = options.axes or "opengl"
        if self._axes not in ("opengl", "opencv"):
            raise UsageError("--axes must be opengl or opencv for --layout transforms")
        self._placement = placement_of(options.mesh_frame)
        self._files = ObjectFiles(options)

    def entries(self) -> Iterator[RenderedObject | LeftOut]:
        seen: set[str] = set()
        found: dict[str, str] = {}
        for path in file_names(self._storage):
            folder, name = posixpath.split(path)
            if name in _NAMES and (folder not in found or _NAMES.index(name) < _NAMES.index(found[folder])):
                found[folder] = name
        if not found:
            raise UsageError(f"{redact(self._options.source)} holds no transforms.json")
        for folder, file in found.items():
            name = object_name(folder, self._options.source)
            seen.add(name)
            yield RenderedObject(name, folder, file)
        yield from self._files.unused(seen)

    def rows(self, entry: RenderedObject) -> list[Row | LeftOut]:
        mesh = self._files.mesh(entry.name)
        top, frames, left = self._read(entry)
        shots: list[Shot] = []
        for number, frame in enumerate(spread(frames, self._options.most_views)):
            what = f"{entry.name}: frame {frame.get('file_path', number) if isinstance(frame, Mapping) else number}"
            try:
                if not isinstance(frame, Mapping):
                    raise LeftOutError(Reason.ENTRY_BROKEN, "a frame is not an object")
                shots.append(self._shot(entry, top, frame))
            except LeftOutError as error:
                left.append(LeftOut(what[:200], error.reason, error.message))
        if not shots:
            first = f": {left[0].message}" if left else ""
            raise LeftOutError(left[0].reason if left else Reason.ENTRY_BROKEN, f"no frame can be used{first}")
        category = entry.name.partition("/")[0] if "/" in entry.name else None
        if self._options.categories and category not in self._options.categories:
            return [LeftOut(entry.name, Reason.FILTERED)]
        row = row_of_shots(entry.name, mesh, shots, self._options, category)
        return [*self._files.truth(row), *left]

    def _read(self, entry: RenderedObject) -> tuple[dict[str, Any], list[Any], list[LeftOut]]:
        path = posixpath.join(entry.folder, entry.file)
        uri = self._storage.path_of(path)
        try:
            text = fetch(uri, s3_endpoint=self._options.s3_endpoint, max_bytes=_LARGEST).decode("utf-8-sig", "replace")
        except (FileNotFoundError, StorageError) as error:
            raise LeftOutError(Reason.STORAGE, str(error)) from None
        left: list[LeftOut] = []
        try:
            top = json.loads(text)
        except (ValueError, RecursionError):
            top, left = _salvaged(text, f"{entry.name}/{entry.file}")
        if not isinstance(top, dict) or not isinstance(top.get("frames"), list):
            message = left[0].message if left else f"{path} has no list of frames"
            raise LeftOutError(Reason.CUT_SHORT if left else Reason.ENTRY_BROKEN, message)
        return top, top["frames"], left

    def _shot(self, entry: RenderedObject, top: Mapping[str, Any], frame: Mapping[str, Any]) -> Shot:
        image = self._image(entry, frame.get("file_path"))
        values = {**top, **frame}
        try:
            pinhole = self._pinhole(values, image)
        except InstanceError as error:
            raise invalid_camera(error) from None
        except KeyError as error:
            raise LeftOutError(Reason.CAMERA_MISSING, f"{error.args[0]} is missing") from None
        except (TypeError, ValueError, OverflowError) as error:
            raise LeftOutError(Reason.CAMERA_INVALID, f"a value is not a number: {error}") from None
        named = frame.get("mask_path")
        mask = None
        if named is not None:
            mask = self._storage.path_of(posixpath.join(entry.folder, safe_path(named, "mask_path")))
        mask = self._files.mask(self._storage, image, entry.name, mask)
        return shot_by(pinhole.about(self._placement), image, self._storage.path_of(image), mask)

    def _image(self, entry: RenderedObject, path: Any) -> str:
        """The file of a frame, which NeRF's files name without its suffix."""
        safe = posixpath.join(entry.folder, safe_path(path, "file_path"))
        if safe.lower().endswith(IMAGE_SUFFIXES):
            return safe
        for suffix in IMAGE_SUFFIXES:
            if self._storage.exists(safe + suffix):
                return safe + suffix
        raise LeftOutError(Reason.IMAGE_MISSING, f"there is no image {safe} (.png, .jpg, .jpeg or .webp)")

    def _pinhole(self, values: Mapping[str, Any], image: str) -> Pinhole:
        model = str(values.get("camera_model") or "")
        if model.upper() not in _MODELS:
            raise LeftOutError(Reason.CAMERA_INVALID, f"the camera model is {model[:40]}, not a pinhole")
        header = probe(self._storage, image)
        width, height = header.width, header.height
        # The numbers are of pictures of w × h pixels; what lies there may be smaller.
        w, h = float(values.get("w") or width), float(values.get("h") or height)
        if abs(w / h / (width / height) - 1) > 0.01:
            raise LeftOutError(
                Reason.CAMERA_INVALID, f"{image} is {width}×{height} pixels, its camera is for {w:g}×{h:g}"
            )
        fx, fy = _focal(values, "x", w), _focal(values, "y", h)
        fx, fy = fx or fy, fy or fx
        if fx is None or fy is None:
            raise KeyError("fl_x or camera_angle_x")
        check_distortion(dict(values), fx, int(w), int(h), image)
        cx, cy = float(values.get("cx", w / 2)), float(values.get("cy", h / 2))
        sx, sy = width / w, height / h
        k = [[fx * sx, 0.0, cx * sx], [0.0, fy * sy, cy * sy], [0.0, 0.0, 1.0]]
        matrix = values["transform_matrix"]
        if isinstance(matrix, list) and len(matrix) == 3:
            matrix = [*matrix, [0.0, 0.0, 0.0, 1.0]]
        if self._axes == "opengl":
            return from_opengl(matrix, k, (width, height))
        pose = numbers(matrix, (4, 4), "a camera-to-world matrix")
        turned = rotation_matrix(pose[:3, :3]).T
        return from_opencv(turned, -turned @ pose[:3, 3], k, (width, height))


def _focal(values: Mapping[str, Any], axis: str, side: float) -> float | None:
    if values.get(f"fl_{axis}") is not None:
        return float(values[f"fl_{axis}"])
    angle = values.get(f"camera_angle_{axis}")
    if angle is None:
        return None
    angle = float(angle)
    if not 0 < angle < math.pi:
        raise LeftOutError(Reason.CAMERA_INVALID, f"camera_angle_{axis} is {angle:g}; it is in radians, below π")
    return side / (2.0 * math.tan(angle / 2.0))


def _salvaged(text: str, name: str) -> tuple[dict[str, Any], list[LeftOut]]:
    """What can be read of a file that was cut short: the values before the frames, and the frames before its end."""
    top: dict[str, Any] = {}
    message = f"{name} is not JSON"
    try:
        top.update((str(key), value) for key, value in json_items(text))
    except CutShortError as error:
        message = f"{name} ends or breaks {error}"
    start = text.find("[", text.find('"frames"'))
    if '"frames"' in text and start >= 0 and "frames" not in top:
        frames: list[Any] = []
        try:
            frames.extend(value for _, value in json_items(text[start:]))
        except CutShortError as error:
            message = f"{name} ends or breaks {error}"
        top["frames"] = frames
    return top, [LeftOut(name, Reason.CUT_SHORT, message)]
