"""Layout `pix3d`: the download of Pix3D (Sun et al., CVPR 2018, http://pix3d.csail.mit.edu) with its pix3d.json.

A camera at the origin, sensor 32 mm wide, looks along +z with x left and y up at the model after `rot_mat` and
`trans_mat`. It rarely looks at the model itself: the picture is turned towards it, exactly, cut out round the mask,
padded to a square, and written beside the manifest with the mask as alpha.
"""

from __future__ import annotations

import difflib
import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from refine_batch.cameras.conversions import from_pytorch3d, to_camera
from refine_batch.cameras.picture import Picture, cut_out
from refine_batch.cameras.pinhole import Pinhole
from refine_batch.dataset.layouts.derived import DerivedFiles
from refine_batch.dataset.layouts.entry import LeftOut, LeftOutError, Reason, Row
from refine_batch.dataset.layouts.frames import symmetry_axis
from refine_batch.dataset.layouts.json_items import CutShortError, json_items
from refine_batch.dataset.layouts.models import Models
from refine_batch.dataset.layouts.options import LayoutOptions
from refine_batch.dataset.layouts.paths import MESH_SUFFIXES, StemIndex, file_names, safe_path, stem_of
from refine_batch.dataset.layouts.picture import invalid_camera, read_picture
from refine_batch.errors import InstanceError, UsageError
from refine_batch.io.storage import redact

INDEX = "pix3d.json"
FRAME = "pix3d"
SENSOR_WIDTH = 32.0  # mm
_FLAGS = ("truncated", "occluded", "slightly_occluded")


@dataclass(frozen=True)
class Annotation:
    """One item of pix3d.json, and the mesh that belongs to it."""

    name: str
    instance_id: str
    values: dict[str, Any]
    mesh: str


class Pix3dLayout:
    """SOURCE holds pix3d.json and the folders img, mask and model."""

    extra_fields = (
        *(pa.field(flag, pa.bool_()) for flag in _FLAGS),
        pa.field("image_source", pa.string()),
        pa.field("model", pa.string()),
    )

    def __init__(self, options: LayoutOptions):
        self._options = options
        self._source = options.storage(options.source)
        try:
            self._text = self._source.read(INDEX).decode("utf-8-sig", "replace")
        except FileNotFoundError:
            raise UsageError(
                f"{redact(options.source)} holds no {INDEX}; --layout pix3d wants the folder that Pix3D's archive "
                "unpacks to, with pix3d.json, img, mask and model in it"
            ) from None
        self._meshes_folder = options.storage(options.meshes)
        self._meshes = StemIndex(file_names(self._meshes_folder), MESH_SUFFIXES)
        if not len(self._meshes):
            raise UsageError(f"--meshes {redact(options.meshes)} holds no {', '.join(MESH_SUFFIXES)} files")
        self._models = Models(options, FRAME, self._source)
        self._files = DerivedFiles(options.manifest_folder, options.written)

    def entries(self) -> Iterator[Annotation | LeftOut]:
        items, cut = self._items()
        if cut is not None:
            yield cut
        self._check_filters(items)
        # Names of images are unique within a category only, so a bare one may stand for several.
        bare = Counter(posixpath.basename(stem_of(str(item.get("img")))) for item in items)
        for item in items:
            name = str(item.get("img"))[:200]
            try:
                if self._filtered(item):
                    yield LeftOut(name, Reason.FILTERED)
                else:
                    yield self._annotation(item, name, bare)
            except LeftOutError as error:
                yield LeftOut(name, error.reason, error.message)

    def _items(self) -> tuple[list[dict[str, Any]], LeftOut | None]:
        items: list[dict[str, Any]] = []
        try:
            for key, value in json_items(self._text):
                if isinstance(key, str) or not isinstance(value, dict):
                    raise CutShortError(len(items), 0, "a list of objects is needed")
                items.append(value)
        except CutShortError as error:
            cut = LeftOut(INDEX, Reason.CUT_SHORT, f"{INDEX} ends or breaks {error}; what stands before that is used")
            return items, cut
        finally:
            self._text = ""
        return items, None

    def _check_filters(self, items: list[dict[str, Any]]) -> None:
        filters = ("category", self._options.categories), ("img_source", self._options.image_sources)
        for field, wanted in filters:
            known = sorted({str(item.get(field)) for item in items})
            for value in wanted:
                if value not in known and known:
                    close = difflib.get_close_matches(value, known, n=1)
                    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known[:20])}"
                    option = "--category" if field == "category" else "--image-source"
                    raise UsageError(f"{option} {value}: no entry of {INDEX} has it; {hint}")

    def _filtered(self, item: dict[str, Any]) -> bool:
        options = self._options
        return bool(
            (options.categories and item.get("category") not in options.categories)
            or (options.image_sources and item.get("img_source") not in options.image_sources)
            or (options.without_truncated and _flag(item, "truncated"))
            or (options.without_occluded and (_flag(item, "occluded") or _flag(item, "slightly_occluded")))
        )

    def _annotation(self, item: dict[str, Any], name: str, bare: Counter[str]) -> Annotation:
        image = safe_path(item.get("img"), "img")
        stem = stem_of(image)
        inside = stem.removeprefix("img/")
        stems = [stem, inside, inside.replace("/", "_")]
        base = posixpath.basename(stem)
        if bare[base] == 1:
            stems.append(base)
        mesh = self._meshes.first(dict.fromkeys(stems))
        if mesh is None:
            also = "" if base in stems else f"; {base} alone could be any of {bare[base]} images"
            raise LeftOutError(
                Reason.MESH_MISSING, f"there is no mesh called {' or '.join(dict.fromkeys(stems))}{also}"
            )
        return Annotation(name, inside.replace("/", "_"), item, mesh)

    def rows(self, entry: Annotation) -> list[Row | LeftOut]:
        item = entry.values
        image, mask = safe_path(item.get("img"), "img"), safe_path(item.get("mask"), "mask")
        model = safe_path(item.get("model"), "model")
        camera = self._pinhole(item)
        placed = self._models.placed(model)
        rgb, pixels = read_picture(self._source, image, mask)
        height, width = pixels.shape
        if (camera.width, camera.height) != (width, height):
            raise LeftOutError(
                Reason.CAMERA_INVALID,
                f"{image} is {width}×{height} pixels, its img_size says {camera.width}×{camera.height}",
            )
        try:
            picture = Picture(rgb, pixels, camera.about(placed.placement))
            cut = cut_out(picture, margin=self._options.margin, largest=self._options.image_size)
            about = to_camera(cut.pinhole)
        except InstanceError as error:
            raise invalid_camera(error) from None
        return [
            {
                "instance_id": entry.instance_id,
                "mesh_uri": self._meshes_folder.path_of(entry.mesh),
                "image_uri": self._files.picture(entry.instance_id, cut),
                **asdict(about),
                "symmetry_axis": self._options.symmetry_axis
                or symmetry_axis(self._options.mesh_frame or "same", FRAME),
                "ground_truth_uri": placed.uri,
                "category": _text(item, "category"),
                **{flag: _flag(item, flag) for flag in _FLAGS},
                "image_source": _text(item, "img_source"),
                "model": model,
            }
        ]

    def _pinhole(self, item: dict[str, Any]) -> Pinhole:
        """The camera about the model, over the whole image."""
        try:
            width, height = (int(side) for side in item["img_size"])
            focal = float(item["focal_length"]) / SENSOR_WIDTH * width
            # Columns as they stand: rot_mat multiplies from the left, PyTorch3D's R from the right.
            rotation = np.asarray(item["rot_mat"], np.float64).T
            ndc = 2.0 * focal / min(width, height)
            return from_pytorch3d(rotation, item["trans_mat"], ndc, (width, height))
        except KeyError as error:
            raise LeftOutError(Reason.CAMERA_MISSING, f"{error.args[0]} is missing") from None
        except (TypeError, ValueError, OverflowError, ZeroDivisionError):
            raise LeftOutError(
                Reason.CAMERA_INVALID, "img_size, focal_length, rot_mat or trans_mat is not made of numbers"
            ) from None
        except InstanceError as error:
            raise invalid_camera(error) from None


def _flag(item: dict[str, Any], name: str) -> bool:
    """True for true and "true": the documentation has one, the file the other."""
    value = item.get(name)
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def _text(item: dict[str, Any], name: str) -> str | None:
    value = item.get(name)
    return value if isinstance(value, str) and value else None
