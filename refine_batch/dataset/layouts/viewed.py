"""Objects that several pictures show: the first is the row's own, the others its further views."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refine_batch.cameras.conversions import BLENDER_FROM_Y_UP
from refine_batch.cameras.pinhole import Pinhole, Placement
from refine_batch.dataset.columns import MANIFEST_SCHEMA
from refine_batch.dataset.layouts.entry import LeftOut, LeftOutError, Reason, Row
from refine_batch.dataset.layouts.options import LayoutOptions
from refine_batch.dataset.layouts.paths import IMAGE_SUFFIXES, MESH_SUFFIXES, StemIndex, file_names
from refine_batch.dataset.layouts.picture import probe
from refine_batch.errors import UsageError
from refine_batch.io.storage import Storage, redact
from refine_batch.io.uri import normalise, parent

VIEW_FIELDS = tuple(MANIFEST_SCHEMA.field(name) for name in ("intrinsics", "extrinsics", "projection", "views"))
# Pixels that the corner of a picture may be moved by lens distortion and still be used as it is.
_DISTORTED = 1.0


@dataclass(frozen=True)
class Shot:
    """A picture and its camera: `values` are columns of the manifest, for the row or a further view."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)


def shot_by(pinhole: Pinhole, name: str, image: str, mask: str | None) -> Shot:
    """Of URIs, and a camera about the mesh's coordinates."""
    return Shot(name, {"image_uri": image, "mask_uri": mask} | camera_columns(pinhole, name))


def camera_columns(pinhole: Pinhole, name: str) -> dict[str, Any]:
    """A camera about the mesh's coordinates as columns of the manifest. Raises LeftOutError."""
    k = pinhole.intrinsics
    if abs(k[0, 1]) > 0:
        raise LeftOutError(Reason.CAMERA_INVALID, f"{name}: the camera's pixels are skewed")
    extrinsics = np.column_stack([pinhole.rotation, pinhole.translation])
    camera: dict[str, Any] = {
        "intrinsics": [float(value) for value in (k[0, 0], k[1, 1], k[0, 2], k[1, 2])],
        "extrinsics": [float(value) for value in extrinsics.reshape(-1)],
    }
    if pinhole.projection != "perspective":
        camera["projection"] = pinhole.projection
    return camera


def row_of_shots(name: str, mesh: str, shots: Sequence[Shot], options: LayoutOptions, category: str | None) -> dict:
    """One row, its first shot's columns at the top, the others as views."""
    return {
        "instance_id": name,
        "mesh_uri": mesh,
        "category": category,
        "symmetry_axis": options.symmetry_axis,
        **shots[0].values,
        "views": [{k: v for k, v in shot.values.items() if v is not None} for shot in shots[1:]] or None,
    }


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the items, the first among them, evenly through their order."""
    if len(items) <= most:
        return list(items)
    return [items[i * len(items) // most] for i in range(most)]


def placement_of(mesh_frame: str | None) -> Placement:
    """Where the meshes stand in the cameras' world."""
    return Placement(BLENDER_FROM_Y_UP) if mesh_frame == "y-up" else Placement()


def check_distortion(parameters: dict[str, float], focal: float, width: int, height: int, name: str) -> None:
    """Refuse lens distortion that moves a corner of the picture by a pixel or more; k1 … k6, p1, p2 as OpenCV's."""
    k = {key: float(parameters.get(key, 0.0) or 0.0) for key in ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")}
    r2 = (width**2 + height**2) / 4.0 / focal**2
    radial = (1 + k["k1"] * r2 + k["k2"] * r2**2 + k["k3"] * r2**3) / (1 + k["k4"] * r2 + k["k5"] * r2**2) - 1
    moved = (abs(radial) * math.sqrt(r2) + 3 * (abs(k["p1"]) + abs(k["p2"])) * r2) * focal
    if not moved < _DISTORTED or k["k6"]:
        raise LeftOutError(
            Reason.CAMERA_INVALID,
            f"{name}: the lens distorts the picture by {moved:.0f} pixels at its corners; undistort the pictures first "
            "(COLMAP's image_undistorter does)",
        )


class ObjectFiles:
    """The meshes, masks and ground truths of objects, by name, wherever the options say that they are.

    The mesh of an object is NAME.obj (or another format) below `meshes`, NAME/mesh.*, NAME/model.*, or the file that
    `meshes` itself names, which is then every object's.
    """

    def __init__(self, options: LayoutOptions):
        self._options = options
        meshes = normalise(options.meshes)
        self._one = meshes if meshes.lower().endswith(MESH_SUFFIXES) else None
        self._meshes = None if self._one else _Index(options.storage(options.meshes), MESH_SUFFIXES, "--meshes")
        self._masks = _optional(options, options.masks, IMAGE_SUFFIXES, "--masks")
        self._truths = _optional(options, options.ground_truth, MESH_SUFFIXES, "--ground-truth")

    def mesh(self, name: str) -> str:
        """Its URI. Raises LeftOutError."""
        if self._one is not None:
            return self._one
        assert self._meshes is not None
        found = self._meshes.first(_names(name))
        if found is None:
            raise LeftOutError(Reason.MESH_MISSING, f"there is no mesh called {' or '.join(_names(name))}")
        return found

    def unused(self, seen: set[str]) -> Iterator[LeftOut]:
        """Meshes of objects that have no pictures."""
        if self._meshes is not None:
            known = {candidate for name in seen for candidate in _names(name)}
            for stem in self._meshes.index:
                if stem not in known:
                    yield LeftOut(stem, Reason.IMAGE_MISSING, f"there are no pictures of the mesh {stem}")

    def mask(self, storage: Storage, image: str, name: str, named: str | None = None) -> str | None:
        """URI of the mask of a picture at `image` of a storage; None where its alpha channel is the mask.

        Looked for under `--masks` as NAME/IMAGE, then IMAGE, with or without the image's suffix and folders, and then
        where the dataset itself names it.

        Raises
        ------
        LeftOutError
            There is none.
        """
        if self._masks is not None:
            stem, short = posixpath.splitext(image)[0], posixpath.basename(image)
            short_stem = posixpath.splitext(short)[0]
            inner = image.rpartition("images/")[2]
            inner_stem = posixpath.splitext(inner)[0]
            tried = (
                *(f"{name}/{inner_stem}", f"{name}/{inner}", f"{name}/{short_stem}", f"{name}/{short}"),
                *(stem, image, inner_stem, inner, short_stem, short),
            )
            found = self._masks.first(tried)
            if found is None:
                raise LeftOutError(Reason.MASK_MISSING, f"there is no mask called {tried[0]} or {stem}")
            return found
        jpeg = image.lower().endswith((".jpg", ".jpeg"))
        if not jpeg and (not self._options.check_images or probe(storage, image).transparent):
            return None
        if named is not None:
            return named
        raise LeftOutError(
            Reason.MASK_MISSING, f"{image} has no alpha channel to tell the object by; give masks with --masks"
        )

    def truth(self, row: dict) -> list[Row | LeftOut]:
        """The row with its ground truth, where there are any, and what is to be told."""
        if self._truths is None:
            return [row]
        name = row["instance_id"]
        row["ground_truth_uri"] = self._truths.first(_names(name))
        missing = LeftOut(name, Reason.GROUND_TRUTH_MISSING, f"there is no ground truth of {name}")
        return [row] if row["ground_truth_uri"] else [row, missing]


class _Index:
    def __init__(self, folder: Storage, suffixes: tuple[str, ...], option: str):
        self._folder = folder
        self.index = StemIndex(file_names(folder), suffixes)
        if not len(self.index):
            raise UsageError(f"{option} {redact(folder.uri)} holds no {', '.join(suffixes)} files")

    def first(self, stems: Sequence[str]) -> str | None:
        path = self.index.first(stems)
        return None if path is None else self._folder.path_of(path)


def _optional(options: LayoutOptions, uri: str | None, suffixes: tuple[str, ...], option: str) -> _Index | None:
    return _Index(options.storage(uri), suffixes, option) if uri else None


def _names(name: str) -> tuple[str, ...]:
    short = posixpath.basename(name)
    return tuple(dict.fromkeys([name, f"{name}/mesh", f"{name}/model", f"{name}/{short}", short]))


def object_name(folder: str, source: str) -> str:
    """Of the object whose pictures lie in `folder` of a source; the source's own name where that is all of it."""
    return folder.strip("/") or posixpath.basename(normalise(source).rstrip("/")) or parent(source)
