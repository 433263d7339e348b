"""Layout `posed`: meshes already in the frame of the camera that took their picture, with its intrinsics.

Pose estimators and single-image methods that predict a layout write these. The camera stands at the meshes' origin;
where its axes point is not in any such file, so `--axes` has to say: `opencv` (x right, y down, z forward), `opengl`
(x right, y up, z backward) or `pytorch3d` (x left, y up, z forward).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refine_batch.cameras.conversions import from_opencv
from refine_batch.dataset.layouts.camera_table import CameraTable
from refine_batch.dataset.layouts.entry import LeftOut, LeftOutError, Reason, Row
from refine_batch.dataset.layouts.options import LayoutOptions
from refine_batch.dataset.layouts.paths import IMAGE_SUFFIXES, StemIndex, file_names
from refine_batch.dataset.layouts.picture import invalid_camera, probe
from refine_batch.dataset.layouts.viewed import VIEW_FIELDS, ObjectFiles, row_of_shots, shot_by
from refine_batch.errors import InstanceError, UsageError
from refine_batch.io.storage import redact

AXES = {
    "opencv": np.eye(3),
    "opengl": np.diag([1.0, -1.0, -1.0]),
    "pytorch3d": np.diag([-1.0, -1.0, 1.0]),
}


@dataclass(frozen=True)
class Pictured:
    """A picture by its stem, which is its mesh's too."""

    name: str


class PosedLayout:
    """Images below SOURCE/images, or SOURCE itself, and meshes of the same stem."""

    extra_fields = VIEW_FIELDS

    def __init__(self, options: LayoutOptions):
        self._options = options
        if options.axes is None:
            raise UsageError(f"--layout posed needs --axes {', '.join(AXES)}: no mesh file tells how its camera stands")
        if (options.cameras is None) == (options.fov is None):
            raise UsageError("--layout posed needs --cameras with each picture's intrinsics, or --fov for all of them")
        source = options.storage(options.source)
        inner = source.child("images")
        self._storage = inner if next(file_names(inner), None) is not None else source
        root = self._storage.uri.rstrip("/") + "/"
        others = [options.storage(uri).uri for uri in (options.masks, options.meshes) if uri]
        inside = tuple(o.rstrip("/").removeprefix(root) + "/" for o in others if o.startswith(root))
        names = (name for name in file_names(self._storage) if not name.startswith(inside))
        self._images = StemIndex(names, IMAGE_SUFFIXES)
        if not len(self._images):
            raise UsageError(f"{redact(options.source)} holds no PNG, JPEG or WebP pictures")
        self._cameras = CameraTable(options.cameras, "opencv", options.s3_endpoint) if options.cameras else None
        self._files = ObjectFiles(options)

    def entries(self) -> Iterator[Pictured | LeftOut]:
        if self._cameras is not None:
            yield from self._cameras.problems
        seen = set()
        for stem in self._images:
            seen.add(stem)
            yield Pictured(stem)
        yield from self._files.unused(seen)

    def rows(self, entry: Pictured) -> list[Row | LeftOut]:
        stem = entry.name
        image = self._images.path(stem)
        assert image is not None
        mesh = self._files.mesh(stem)
        category = stem.partition("/")[0] if "/" in stem else None
        if self._options.categories and category not in self._options.categories:
            return [LeftOut(stem, Reason.FILTERED)]
        header = probe(self._storage, image)
        size = header.width, header.height
        try:
            pinhole = from_opencv(AXES[self._options.axes or ""], np.zeros(3), self._intrinsics(stem, size), size)
        except InstanceError as error:
            raise invalid_camera(error) from None
        mask = self._files.mask(self._storage, image, stem)
        shot = shot_by(pinhole, stem, self._storage.path_of(image), mask)
        return self._files.truth(row_of_shots(stem, mesh, [shot], self._options, category))

    def _intrinsics(self, stem: str, size: tuple[int, int]) -> np.ndarray:
        width, height = size
        if self._cameras is None:
            assert self._options.fov is not None
            focal = max(size) / 2.0 / math.tan(math.radians(self._options.fov) / 2.0)
            return _matrix(focal, focal, width / 2.0, height / 2.0)
        k = _parsed(self._cameras.entry(stem), size, stem)
        if k[0, 2] <= 2.0 and k[1, 2] <= 2.0 and min(size) > 8:
            raise LeftOutError(
                Reason.CAMERA_INVALID,
                f"{stem}: the principal point is ({k[0, 2]:g}, {k[1, 2]:g}); intrinsics are in pixels of the picture",
            )
        return k


def _parsed(entry: Any, size: tuple[int, int], stem: str) -> np.ndarray:
    """(3, 3) intrinsics of an entry: K, fx … cy, four or nine numbers, or a focal length alone."""
    width, height = size
    try:
        if isinstance(entry, Mapping):
            if "K" in entry or "intrinsics" in entry:
                entry = entry["K"] if "K" in entry else entry["intrinsics"]
            elif "focal_length" in entry or "focal" in entry:
                focal = float(entry["focal_length"] if "focal_length" in entry else entry["focal"])
                return _matrix(focal, focal, float(entry.get("cx", width / 2)), float(entry.get("cy", height / 2)))
            else:
                return _matrix(*(float(entry[name]) for name in ("fx", "fy", "cx", "cy")))
        values = np.asarray(entry, np.float64)
        if values.size == 1:
            return _matrix(float(values.item()), float(values.item()), width / 2.0, height / 2.0)
        if values.size == 4:
            return _matrix(*values.reshape(-1).tolist())
        return values.reshape(3, 3)
    except KeyError as error:
        raise LeftOutError(Reason.CAMERA_MISSING, f"{stem}: {error.args[0]} is missing among the intrinsics") from None
    except (TypeError, ValueError, OverflowError):
        raise LeftOutError(
            Reason.CAMERA_INVALID, f"{stem}: intrinsics are K, or fx, fy, cx, cy, or focal_length, in pixels"
        ) from None


def _matrix(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
