"""The instances that a page shows: their rows, and what their inputs look like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pyarrow as pa

from refine_batch.cameras.camera import Camera, Projection
from refine_batch.cameras.matrices import camera_from_matrices
from refine_batch.config import PictureOptions
from refine_batch.errors import InstanceError
from refine_batch.io.beside import files_beside
from refine_batch.io.ground import object_on_ground
from refine_batch.io.images import MAX_IMAGE_BYTES
from refine_batch.io.meshes import MAX_MESH_BYTES, parse_mesh
from refine_batch.io.paint import Paint, read_paint
from refine_batch.io.pictures import object_mask, parse_image, parse_mask
from refine_batch.io.storage import Storage, StorageError, fetch
from refine_batch.io.uri import redact, redact_uri
from refine_batch.mesh import Mesh
from refine_batch.report import pictures
from refine_batch.report.further import further_pictures
from refine_batch.report.geometry import encode, materials
from refine_batch.results.live import live_rows
from refine_batch.results.rows import mesh_of
from refine_batch.results.schema import FIGURES

_CAMERA = tuple(one.name for one in fields(Camera) if one.name != "target")
_SMALL = (
    *("instance_id", "category", "status", "error_kind", "error_message", "kept_reason", "method", "steps", "seconds"),
    *("preparation", "camera_source", *_CAMERA, "intrinsics", "extrinsics", "symmetry_axis"),
    *("attempts", "device", "refined_at"),
    *("mesh_uri", "image_uri", "mask_uri", "ground_truth_uri"),
    *("ignore_uri", "depth_uri", "normals_uri", "views", "views_uri", "notes"),
    *(f"{figure}_{when}" for figure in FIGURES for when in ("before", "after")),
)
_READERS = 8
# Points of a loss curve in the page.
_CURVE = 120


@dataclass(eq=False)
class Exhibit:
    """One instance of the gallery.

    Attributes
    ----------
    row
        The small columns of its row.
    group
        Why it was chosen, one of `survey.GROUPS`.
    photo, overlay_before, overlay_after
        Data URIs, None where there is nothing to show.
    further
        What else the row was made from, as (what it is, data URI): hints, ignored pixels, views.
    meshes
        By `coarse`, `refined` and `truth`, as `geometry.encode` gives them.
    materials
        Of the coarse and the refined mesh, as `geometry.materials` gives them.
    problems
        What could not be shown, and why.
    """

    row: dict[str, Any]
    group: str
    photo: str | None = None
    overlay_before: str | None = None
    overlay_after: str | None = None
    further: list[tuple[str, str]] = field(default_factory=list)
    meshes: dict[str, dict[str, Any]] = field(default_factory=dict)
    materials: dict[str, Any] | None = None
    loss_curve: list[float] | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def camera(self) -> Camera | None:
        """The camera of the row, where it has one that a picture can have been taken with."""
        values = {name: self.row[name] for name in _CAMERA if self.row[name] is not None}
        try:
            if {"azimuth", "elevation", "distance"} - values.keys():
                return self._camera_of_matrices()
            camera = Camera(**values)
            camera.check(self.row["instance_id"])
        except InstanceError:
            return None
        return camera

    def _camera_of_matrices(self) -> Camera | None:
        """Of a row whose camera looks past the origin: its matrices, of a square picture."""
        intrinsics, extrinsics = self.row["intrinsics"], self.row["extrinsics"]
        if intrinsics is None or extrinsics is None:
            return None
        projection: Projection = self.row["projection"] or "perspective"
        if projection == "orthographic":
            side = max(1, round(2.0 * intrinsics[2] / (1.0 - (self.row["offset_x"] or 0.0))))
        else:
            # Of a square picture that the field of view spans.
            side = max(1, round(2.0 * intrinsics[0] * math.tan(math.radians(self.row["fov"]) / 2.0)))
        camera, _ = camera_from_matrices(intrinsics, extrinsics, "opencv", side, side, projection=projection)
        return camera


def exhibits(
    storage: Storage, choices: Sequence[tuple[str, str]], options: PictureOptions | None = None
) -> list[Exhibit]:
    """The chosen instances (instance_id, group) with everything that is shown of them, in the order of `choices`.

    Inputs are read from where the manifest named them, masks as the `options` told the run; one that is no longer there
    leaves its place empty.
    """
    options = options or PictureOptions()
    group_of = dict(choices)
    found: dict[str, tuple[Exhibit, Mesh | None]] = {}
    if group_of:
        for batch in live_rows(storage, [*_SMALL, "loss_curve", "vertices", "faces"], ids=group_of):
            for i, row in enumerate(batch.select(list(_SMALL)).to_pylist()):
                exhibit = Exhibit(row, group_of[row["instance_id"]], loss_curve=_curve(batch.column("loss_curve")[i]))
                found[row["instance_id"]] = exhibit, mesh_of(batch, i)
    chosen = [found[instance_id] for instance_id, _ in choices if instance_id in found]
    with ThreadPoolExecutor(_READERS) as readers:
        inputs = list(readers.map(lambda item: _Inputs(item[0], storage.s3_endpoint, options), chosen))
    for (_, refined), files in zip(chosen, inputs, strict=True):
        files.show(refined)
    return [exhibit for exhibit, _ in chosen]


def _curve(cell: pa.Scalar) -> list[float] | None:
    if not cell.is_valid:
        return None
    values = cell.values.to_numpy(zero_copy_only=False)
    picked = values[np.unique(np.linspace(0, len(values) - 1, min(len(values), _CURVE)).round().astype(int))]
    return [float(f"{value:.5g}") for value in picked if np.isfinite(value)] or None


class _Inputs:
    """What an exhibit was made from, read as far as it can be."""

    def __init__(self, exhibit: Exhibit, s3_endpoint: str | None, options: PictureOptions):
        self._exhibit, self._s3_endpoint, self._options = exhibit, s3_endpoint, options
        self.rgb: np.ndarray | None = None
        self.mask: np.ndarray | None = None
        self.paint: Paint | None = None
        self._image()
        self.coarse = self._mesh("mesh_uri")
        self.truth = self._mesh("ground_truth_uri")

    def show(self, refined: Mesh | None) -> None:
        """Draw it all into the exhibit."""
        exhibit, camera = self._exhibit, self._exhibit.camera
        if self.rgb is not None:
            exhibit.photo = pictures.photo(self.rgb, self.mask)
        exhibit.further = list(further_pictures(exhibit.row, self.rgb, self._fetched, exhibit.problems))
        if self.mask is not None and camera is not None:
            if self.coarse is not None:
                exhibit.overlay_before = pictures.overlay(self.coarse, camera, self.mask, pictures.COARSE)
            if refined is not None:
                exhibit.overlay_after = pictures.overlay(refined, camera, self.mask, pictures.REFINED)
        paint = self.paint
        if paint is not None:
            exhibit.materials = materials(paint)
            if exhibit.materials is None:
                exhibit.problems.append(f"{redact(exhibit.row['mesh_uri'])}: its textures are too large for this page")
                paint = None
        for name, mesh in (("coarse", self.coarse), ("refined", refined), ("truth", self.truth)):
            if mesh is not None:
                # A file that has changed since no longer says how the result's faces look.
                same = self.coarse is not None and np.array_equal(mesh.faces, self.coarse.faces)
                exhibit.meshes[name] = encode(mesh, paint if name != "truth" and same else None)

    def _image(self) -> None:
        row = self._exhibit.row
        data = self._read("image_uri", MAX_IMAGE_BYTES)
        if data is None:
            return
        source, threshold = self._options.mask_from, self._options.mask_threshold
        try:
            self.rgb, opaque = parse_image(data, redact(row["image_uri"]), threshold=threshold)
            if source == "background":
                share = object_on_ground(self.rgb)
                self.mask = None if share is None else share > 0.5
                return
            levels = None if source == "alpha" else self._read("mask_uri", MAX_IMAGE_BYTES)
            mask = None if levels is None else parse_mask(levels, redact(row["mask_uri"]), threshold=threshold)
            self.mask = object_mask(self.rgb, opaque, mask, redact(row["image_uri"]), row["mask_uri"])
        except InstanceError as error:
            self._exhibit.problems.append(error.message)

    def _mesh(self, column: str) -> Mesh | None:
        data = self._read(column, MAX_MESH_BYTES)
        if data is None:
            return None
        uri = self._exhibit.row[column]
        sibling = files_beside(uri, s3_endpoint=self._s3_endpoint)
        try:
            mesh = parse_mesh(data, redact(uri), sibling=sibling)
        except InstanceError as error:
            self._exhibit.problems.append(error.message)
            return None
        if column == "mesh_uri":
            try:
                self.paint = read_paint(data, redact(uri), mesh, sibling=sibling)
            except InstanceError as error:
                self._exhibit.problems.append(error.message)
            if self.paint is not None:
                self._exhibit.problems += self.paint.problems
                self.paint = self.paint if self.paint.says_something else None
        return mesh

    def _read(self, column: str, limit: int) -> bytes | None:
        return self._fetched(self._exhibit.row[column], column, limit)

    def _fetched(self, uri: str | None, column: str, limit: int) -> bytes | None:
        """A file's bytes; None, and its problem among the exhibit's, where it cannot be had."""
        if not uri:
            return None
        if "***" in redact_uri(uri):
            self._exhibit.problems.append(f"{redact_uri(uri)} needs credentials that a result does not keep ({column})")
            return None
        try:
            return fetch(uri, s3_endpoint=self._s3_endpoint, max_bytes=limit)
        except FileNotFoundError:
            # Where that is why it failed, it has been said.
            if redact(uri) not in (self._exhibit.row["error_message"] or ""):
                self._exhibit.problems.append(f"{redact(uri)} is no longer there ({column})")
        except (StorageError, ValueError) as error:
            self._exhibit.problems.append(redact(str(error)))
        return None
