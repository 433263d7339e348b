"""Cameras of a folder of images, from a CSV, JSON or NPZ file keyed by stem."""

from __future__ import annotations

import csv
import io
import math
import posixpath
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from refine_batch.cameras.camera import Camera
from refine_batch.cameras.conversions import from_colmap, from_opencv, from_opengl, from_pytorch3d
from refine_batch.cameras.pinhole import Pinhole, Placement
from refine_batch.dataset.columns import CAMERA, CAMERA_NUMBERS
from refine_batch.dataset.layouts.entry import LeftOut, LeftOutError, Reason
from refine_batch.dataset.layouts.json_items import CutShortError, json_items
from refine_batch.dataset.layouts.paths import IMAGE_SUFFIXES
from refine_batch.errors import InstanceError, UsageError
from refine_batch.io.storage import fetch, redact

CONVENTIONS = ("look-at", "opencv", "colmap", "opengl", "pytorch3d")
_KEYS = ("stem", "instance_id", "id", "name", "image")
# An NPZ is a zip file: what it would unpack to is known from its directory.
_MOST_UNPACKED = 4 << 30
_LONGEST_FIELD = 1 << 20


class CameraTable:
    """Cameras by stem. `problems` holds what could not be read of the file.

    With the convention `look-at` an entry is azimuth, elevation and distance, then optionally fov, roll, offset_x and
    offset_y: columns of a CSV, names of a JSON object, or an array in this order. The other conventions need JSON or
    NPZ; see `_PINHOLES` for the names that they take.
    """

    def __init__(self, uri: str, convention: str, s3_endpoint: str | None = None):
        self.convention = convention
        self.problems: list[LeftOut] = []
        self.categories: dict[str, str] = {}
        self._name = posixpath.basename(uri)
        self._entries: dict[str, Any] = {}
        read = {".csv": self._csv, ".json": self._json, ".npz": self._npz}.get(posixpath.splitext(uri)[1].lower())
        if read is None:
            raise UsageError(f"--cameras {redact(uri)}: a .csv, .json or .npz file is needed")
        try:
            data = fetch(uri, s3_endpoint=s3_endpoint)
        except FileNotFoundError:
            raise UsageError(f"--cameras {redact(uri)}: there is no such file") from None
        for stem, entry in read(data):
            self._add(stem, entry)
        if not self._entries:
            why = f" ({self.problems[0].message})" if self.problems else ""
            raise UsageError(f"--cameras {redact(uri)} holds no camera that can be read{why}")

    def __len__(self) -> int:
        return len(self._entries)

    def look_at(self, stem: str) -> Camera:
        """The camera of a stem under the convention `look-at`. Raises LeftOutError."""
        entry = self.entry(stem)
        values = [entry.get(n) for n in CAMERA_NUMBERS] if isinstance(entry, Mapping) else list(np.ravel(entry))
        numbers = [self._number(stem, name, value) for name, value in zip(CAMERA_NUMBERS, values, strict=False)]
        if len(values) > len(CAMERA_NUMBERS) or len(numbers) < 3 or None in numbers[:3]:
            missing = f"needs {', '.join(CAMERA)}"
            raise LeftOutError(Reason.CAMERA_MISSING, f"{self._name}: the entry of {stem} {missing}")
        known: dict[str, Any] = {n: v for n, v in zip(CAMERA_NUMBERS, numbers, strict=False) if v is not None}
        camera = Camera(**known)
        try:
            camera.check(f"{self._name}, {stem}")
        except InstanceError as error:
            raise LeftOutError(Reason.CAMERA_INVALID, error.message) from None
        return camera

    def size(self, stem: str) -> tuple[int, int] | None:
        """(width, height) of the image, where the entry says."""
        entry = self.entry(stem)
        size = entry.get("size") if isinstance(entry, Mapping) else None
        if size is None:
            return None
        try:
            width, height = (int(value) for value in size)
        except (TypeError, ValueError, OverflowError):
            raise LeftOutError(Reason.CAMERA_INVALID, f"{self._name}, {stem}: size is not [width, height]") from None
        return width, height

    def pinhole(self, stem: str, size: tuple[int, int]) -> Pinhole:
        """The camera of a stem under the other conventions, about its object. Raises LeftOutError."""
        entry = self.entry(stem)
        if not isinstance(entry, Mapping):
            names = "R, t and K" if self.convention == "opencv" else "named matrices"
            raise LeftOutError(Reason.CAMERA_INVALID, f"{self._name}, {stem}: an object with {names} is needed")
        try:
            return _PINHOLES[self.convention](entry, size).about(_placement(entry.get("object")))
        except KeyError as error:
            raise LeftOutError(
                Reason.CAMERA_MISSING, f"{self._name}, {stem}: {error.args[0]} is missing ({self.convention})"
            ) from None
        except InstanceError as error:
            raise LeftOutError(Reason.CAMERA_INVALID, f"{self._name}, {stem}: {error.message}") from None

    def entry(self, stem: str) -> Any:
        """What the file says of a stem, as it says it. Raises LeftOutError."""
        if stem not in self._entries:
            raise LeftOutError(Reason.CAMERA_MISSING, f"{self._name} has no camera of {stem}")
        return self._entries[stem]

    def _number(self, stem: str, name: str, value: Any) -> float | None:
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number) or isinstance(value, bool):
            shown = str(value)[:40]
            raise LeftOutError(Reason.CAMERA_INVALID, f"{self._name}, {stem}: {name} is {shown!r}, not a number")
        return number

    def _add(self, stem: Any, entry: Any) -> None:
        if not isinstance(stem, str) or not stem:
            self.problems.append(LeftOut(self._name, Reason.ENTRY_BROKEN, f"{str(stem)[:80]!r} is not a stem"))
            return
        name, suffix = posixpath.splitext(stem)
        stem = name if suffix.lower() in IMAGE_SUFFIXES else stem
        if stem in self._entries:
            self.problems.append(LeftOut(stem, Reason.AMBIGUOUS, f"{self._name} has two entries of {stem}"))
            return
        self._entries[stem] = entry
        if isinstance(entry, Mapping) and isinstance(entry.get("category"), str):
            self.categories[stem] = entry["category"]

    def _csv(self, data: bytes) -> Iterator[tuple[Any, Any]]:
        if self.convention != "look-at":
            raise UsageError(f"--camera-convention {self.convention} needs its cameras as JSON or NPZ")
        csv.field_size_limit(_LONGEST_FIELD)
        sheet = csv.DictReader(io.StringIO(data.decode("utf-8-sig", "replace"), newline=""))
        names = [name.strip() for name in sheet.fieldnames or ()]
        sheet.fieldnames = names
        key = next((name for name in _KEYS if name in names), None)
        missing = [name for name in CAMERA if name not in names]
        if key is None or missing:
            what = f"no column {missing[0]}" if missing else f"none of the columns {', '.join(_KEYS)}"
            raise UsageError(f"--cameras {self._name} has {what}; it has {', '.join(map(repr, names)) or 'no header'}")
        columns = [name for name in CAMERA_NUMBERS if name in names]
        try:
            for row in sheet:
                if row.get("category"):
                    self.categories[row[key]] = row["category"]
                # Text, as compact as a million of them must be: it becomes numbers when it is asked for.
                yield row[key], _Texts(columns, [row[name] or "" for name in columns])
        except csv.Error as error:
            self.problems.append(LeftOut(self._name, Reason.CUT_SHORT, f"line {sheet.line_num}: {error}"))

    def _json(self, data: bytes) -> Iterator[tuple[Any, Any]]:
        try:
            for key, value in json_items(data.decode("utf-8-sig", "replace")):
                if isinstance(key, str):
                    yield key, value
                elif isinstance(value, dict):
                    yield next((value[name] for name in _KEYS if name in value), None), value
                else:
                    self.problems.append(
                        LeftOut(self._name, Reason.ENTRY_BROKEN, f"item {key + 1} is not an object with a stem")
                    )
        except CutShortError as error:
            self.problems.append(LeftOut(self._name, Reason.CUT_SHORT, f"{self._name} ends or breaks {error}"))

    def _npz(self, data: bytes) -> Iterator[tuple[Any, Any]]:
        try:
            unpacked = sum(item.file_size for item in zipfile.ZipFile(io.BytesIO(data)).infolist())
            if unpacked > _MOST_UNPACKED:
                raise UsageError(f"--cameras {self._name} would unpack to {unpacked:,} bytes; give JSON or CSV")
            archive = np.load(io.BytesIO(data), allow_pickle=False)
            names = list(archive.keys())
            key = next((name for name in _KEYS if name in names), None)
            if key is None:
                for name in names:
                    yield name, archive[name]
                return
            columns = {name: archive[name] for name in names if name != key}
            stems = archive[key]
        except UsageError:
            raise
        except Exception as error:  # a damaged zip file, or pickled objects, which are never loaded
            hint = "; it holds pickled objects: save plain arrays" if "pickle" in str(error).lower() else ""
            raise UsageError(f"--cameras {self._name} cannot be read as NPZ: {error}{hint}") from None
        for name, values in columns.items():
            if values.ndim == 0 or len(values) != len(stems):
                raise UsageError(f"--cameras {self._name}: {name} must have one entry for each of {len(stems)} stems")
        for i, stem in enumerate(stems.tolist()):
            yield stem, {name: values[i] if values.ndim > 1 else values[i].item() for name, values in columns.items()}


class _Texts(Mapping):
    """Numbers of one row as text, by column."""

    __slots__ = ("_columns", "_values")

    def __init__(self, columns: list[str], values: list[str]):
        self._columns, self._values = columns, values

    def __getitem__(self, name: str) -> str:
        try:
            return self._values[self._columns.index(name)]
        except ValueError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def _extrinsics(entry: Mapping[str, Any]) -> tuple[Any, Any]:
    if "extrinsics" in entry:
        try:
            matrix = np.asarray(entry["extrinsics"], np.float64)[:3]
            return matrix[:, :3], matrix[:, 3]
        except (TypeError, ValueError, IndexError, OverflowError):
            return entry["extrinsics"], None  # refused by its shape
    return entry["R"], entry["t"]


def _opencv(entry: Mapping[str, Any], size: tuple[int, int]) -> Pinhole:
    rotation, translation = _extrinsics(entry)
    return from_opencv(rotation, translation, entry["K"], size, first_pixel=float(entry.get("first_pixel", 0.5)))


def _colmap(entry: Mapping[str, Any], size: tuple[int, int]) -> Pinhole:
    return from_colmap(entry["qvec"], entry["tvec"], str(entry["model"]), entry["params"], size)


def _opengl(entry: Mapping[str, Any], size: tuple[int, int]) -> Pinhole:
    name = "camera_to_world" if "camera_to_world" in entry else "transform_matrix"
    if name not in entry:
        raise KeyError("camera_to_world")
    if "K" in entry:
        return from_opengl(entry[name], entry["K"], size)
    # NeRF's transforms.json: the horizontal field of view, radians.
    angle = float(entry["camera_angle_x"])
    focal = size[0] / (2 * math.tan(angle / 2)) if 0 < angle < math.pi else math.nan
    return from_opengl(entry[name], [[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]], size)


def _pytorch3d(entry: Mapping[str, Any], size: tuple[int, int]) -> Pinhole:
    principal = entry.get("principal_point", (0.0, 0.0))
    return from_pytorch3d(entry["R"], entry["T"], entry["focal_length"], size, principal_point=principal)


# Names that each convention takes; all of them take `size` [width, height], by default the image's, and `object`.
_PINHOLES: dict[str, Callable[[Mapping[str, Any], tuple[int, int]], Pinhole]] = {
    "opencv": _opencv,
    "colmap": _colmap,
    "opengl": _opengl,
    "pytorch3d": _pytorch3d,
}


def _placement(value: Any) -> Placement:
    """Where the mesh stands in the cameras' world: {rotation, scale, translation}, each optional."""
    if value is None:
        return Placement()
    if not isinstance(value, Mapping):
        raise KeyError("the scale, rotation or translation of object")
    return Placement(
        value.get("rotation", np.eye(3)), float(value.get("scale", 1.0)), value.get("translation", np.zeros(3))
    )
