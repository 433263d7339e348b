"""Layout `turntable`: pictures of each object from known directions, as multi-view diffusion models write them.

NAME.png holds all of them in a grid, or NAME_000.png, NAME/000.png and so on hold one each. Nothing in such pictures
tells the cameras: azimuths, elevations and distance are options, in this project's angles (azimuth 0 looks along −z,
90 along −x; above the object is positive), about y or, with `--up-axis z`, about z as in Blender.

Orthographic pictures have a span instead of a distance and a field of view: the object units that a side shows.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from refine_batch.cameras.camera import Camera, Projection
from refine_batch.cameras.conversions import from_camera
from refine_batch.cameras.matrices import about_z
from refine_batch.cameras.picture import Picture
from refine_batch.dataset.layouts.derived import DerivedFiles
from refine_batch.dataset.layouts.entry import LeftOut, LeftOutError, Reason, Row
from refine_batch.dataset.layouts.options import LayoutOptions
from refine_batch.dataset.layouts.paths import IMAGE_SUFFIXES, StemIndex, file_names
from refine_batch.dataset.layouts.picture import parsed, probe
from refine_batch.dataset.layouts.viewed import VIEW_FIELDS, ObjectFiles, Shot, row_of_shots, shot_by
from refine_batch.errors import InstanceError, UsageError
from refine_batch.io.storage import redact

# Where an orthographic camera is said to stand, in widths of what it shows: any place gives the same picture.
_BACK = 2.0
_NUMBERED = re.compile(r"(.*?)[_/-]?(\d{1,4})$")
# Levels of 255 that a picture's background may be off, for compression.
_SAME_COLOUR = 12


@dataclass(frozen=True)
class Turned:
    """An object and its pictures' paths, one per view in order; a single one holds a grid."""

    name: str
    images: tuple[str, ...]


class TurntableLayout:
    extra_fields = VIEW_FIELDS

    def __init__(self, options: LayoutOptions):
        self._options = options
        self._storage = options.storage(options.source)
        self._cameras = _cameras(options)
        self._views = len(self._cameras)
        if options.grid and options.grid[0] * options.grid[1] != self._views:
            raise UsageError(f"--grid {options.grid[0]}x{options.grid[1]} does not hold {self._views} azimuths")
        if options.background and options.masks:
            raise UsageError("--background tells the object by its colour, --masks by pictures; give one of them")
        self._files = ObjectFiles(options)
        self._derived = DerivedFiles(options.manifest_folder, options.written)

    def entries(self) -> Iterator[Turned | LeftOut]:
        index = StemIndex(self._own(), IMAGE_SUFFIXES)
        if not len(index):
            raise UsageError(f"{redact(self._options.source)} holds no PNG, JPEG or WebP pictures")
        groups: dict[str, list[tuple[int, str]]] = {}
        for stem in index:
            match = None if self._options.grid else _NUMBERED.fullmatch(stem)
            if self._options.grid:
                groups[stem] = [(0, stem)]
            elif match and match[1].strip("/"):
                groups.setdefault(match[1].rstrip("/"), []).append((int(match[2]), stem))
            else:
                yield LeftOut(stem, Reason.ENTRY_BROKEN, "its name has no number of a view (NAME_000, NAME/000)")
        for name, numbered in groups.items():
            try:
                yield Turned(name, tuple(str(index.path(stem)) for _, stem in sorted(numbered)))
            except LeftOutError as error:
                yield LeftOut(name, error.reason, error.message)
        yield from self._files.unused(set(groups))

    def _own(self) -> Iterator[str]:
        """Pictures of the source that are not masks, or what was written before, which may lie inside it."""
        root = self._storage.uri.rstrip("/") + "/"
        written = self._options.manifest_folder.child(self._options.written)
        others = [written.uri, *(self._options.storage(u).uri for u in (self._options.masks,) if u)]
        inside = tuple(o.rstrip("/").removeprefix(root) + "/" for o in others if o.startswith(root))
        return (name for name in file_names(self._storage) if not name.startswith(inside))

    def rows(self, entry: Turned) -> list[Row | LeftOut]:
        mesh = self._files.mesh(entry.name)
        category = posixpath.dirname(entry.name).partition("/")[0] or None
        if self._options.categories and category not in self._options.categories:
            return [LeftOut(entry.name, Reason.FILTERED)]
        if self._options.grid:
            shots = self._from_grid(entry)
        elif len(entry.images) != self._views:
            raise LeftOutError(
                Reason.IMAGE_MISSING, f"there are {len(entry.images)} pictures of it and {self._views} azimuths"
            )
        else:
            shots = [
                self._single(entry, path, camera) for path, camera in zip(entry.images, self._cameras, strict=True)
            ]
        return self._files.truth(row_of_shots(entry.name, mesh, shots, self._options, category))

    def _single(self, entry: Turned, path: str, camera: Camera) -> Shot:
        if self._options.background:
            rgb, _ = parsed(self._storage, path, "image")
            return self._written(f"{entry.name}/{posixpath.basename(path)}", rgb, self._coloured(rgb, path), camera)
        header = probe(self._storage, path)
        mask = self._files.mask(self._storage, path, entry.name)
        return _shot(camera, header.width, header.height, path, self._storage.path_of(path), mask)

    def _from_grid(self, entry: Turned) -> list[Shot]:
        assert self._options.grid is not None
        path, (columns, rows) = entry.images[0], self._options.grid
        rgb, opaque = parsed(self._storage, path, "image")
        height, width = rgb.shape[:2]
        if width % columns or height % rows:
            raise LeftOutError(
                Reason.IMAGE_BROKEN,
                f"{path} is {width}×{height} pixels, which a grid of {columns}×{rows} does not divide",
            )
        mask = self._mask(entry, path, rgb, opaque)
        w, h = width // columns, height // rows
        shots = []
        for number, camera in enumerate(self._cameras):
            window = np.s_[number // columns * h :, number % columns * w :]
            shots.append(self._written(f"{entry.name}/{number:03d}", rgb[window][:h, :w], mask[window][:h, :w], camera))
        return shots

    def _mask(self, entry: Turned, path: str, rgb: np.ndarray, opaque: np.ndarray | None) -> np.ndarray:
        if self._options.background:
            return self._coloured(rgb, path)
        if opaque is not None and not opaque.all() and not self._options.masks:
            return opaque
        uri = self._files.mask(self._storage, path, entry.name)
        if uri is None:
            raise LeftOutError(Reason.MASK_MISSING, f"{path} shows no object by its alpha channel; give --masks")
        folder, name = uri.rpartition("/")[::2]
        mask = parsed(self._options.storage(folder), name, "mask")
        if mask.shape != rgb.shape[:2]:
            raise LeftOutError(Reason.MASK_UNUSABLE, f"{name} is not of the size of {path}")
        return mask

    def _coloured(self, rgb: np.ndarray, path: str) -> np.ndarray:
        """What is not of the background's colour."""
        difference = np.abs(rgb.astype(np.int16) - np.array(self._options.background, np.int16)).max(axis=2)
        mask = difference > _SAME_COLOUR
        if not mask.any() or mask.all():
            what = "all" if not mask.any() else "none"
            raise LeftOutError(Reason.MASK_UNUSABLE, f"{what} of {path} has the background's colour")
        return mask

    def _written(self, name: str, rgb: np.ndarray, mask: np.ndarray, camera: Camera) -> Shot:
        if not mask.any():
            raise LeftOutError(Reason.MASK_UNUSABLE, f"the mask of {name} marks no pixel as the object")
        height, width = mask.shape
        picture = Picture(np.ascontiguousarray(rgb), mask, from_camera(camera, max(width, height)))
        return _shot(camera, width, height, name, self._derived.picture(name, picture), None)


def _shot(camera: Camera, width: int, height: int, name: str, image: str, mask: str | None) -> Shot:
    side = max(width, height)
    pinhole = from_camera(camera, side).window((side - width) // 2, (side - height) // 2, width, height)
    return shot_by(pinhole, name, image, mask)


def _cameras(options: LayoutOptions) -> list[Camera]:
    if not options.azimuths or not options.elevations:
        raise UsageError("--layout turntable needs --azimuths and --elevations: the pictures do not tell them")
    elevations = options.elevations
    if len(elevations) == 1:
        elevations *= len(options.azimuths)
    if len(elevations) != len(options.azimuths):
        raise UsageError(
            f"{len(options.azimuths)} azimuths and {len(elevations)} elevations: give one elevation or as many"
        )
    if options.span is not None:
        if options.fov is not None or options.distance is not None:
            raise UsageError("--span is of orthographic pictures, which have neither --fov nor --distance")
        if not (math.isfinite(options.span) and options.span > 0):
            raise UsageError("--span must be above 0")
        distance, fov = _BACK * options.span, math.degrees(2.0 * math.atan(0.5 / _BACK))
    elif options.fov is None or options.distance is None:
        raise UsageError("--layout turntable needs --fov and --distance, or --span where the pictures are orthographic")
    else:
        distance, fov = options.distance, options.fov
    projection: Projection = "perspective" if options.span is None else "orthographic"
    cameras = [
        Camera(a, e, distance, fov, projection=projection) for a, e in zip(options.azimuths, elevations, strict=True)
    ]
    try:
        for camera in cameras:
            camera.check("--azimuths, --elevations, --distance, --fov")
    except InstanceError as error:
        raise UsageError(error.message) from None
    return [about_z(camera) for camera in cameras] if options.up_axis == "z" else cameras
