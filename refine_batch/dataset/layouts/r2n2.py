"""Layout `r2n2`: the ShapeNet renderings of Choy et al. (3D-R2N2, ECCV 2016), 24 views of each of 43 783 models.

Each line of rendering_metadata.txt is a view: azimuth, elevation, in-plane rotation, distance and field of view. As
their Blender renderer and PyTorch3D's reader of the same files have it, for the models of ShapeNetCore v1:

- the camera stands at distance · (cos e · cos a, sin e, cos e · sin a) and looks at the origin, so that this project's
  azimuth is 90° − a; the in-plane rotation is the roll;
- the distance is a share of 1.75 object units;
- the field of view says 25 but was never used: the pictures were taken with Blender's default lens, 35 mm on a sensor
  of 32 mm, which is 49.13°. A file that says anything else is of other renderings, and `--fov` has to tell what it
  means.
"""

from __future__ import annotations

import itertools
import math
import posixpath
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa

from refine_batch.cameras.camera import Camera
from refine_batch.cameras.conversions import from_camera, to_camera
from refine_batch.cameras.picture import Picture, cut_out, needs_turn
from refine_batch.cameras.pinhole import Pinhole, turned_to_origin
from refine_batch.dataset.layouts.derived import DerivedFiles
from refine_batch.dataset.layouts.entry import LeftOut, LeftOutError, Reason, Row
from refine_batch.dataset.layouts.frames import symmetry_axis
from refine_batch.dataset.layouts.models import Models, PlacedModel
from refine_batch.dataset.layouts.options import LayoutOptions
from refine_batch.dataset.layouts.paths import MESH_SUFFIXES, StemIndex, file_names
from refine_batch.dataset.layouts.picture import invalid_camera, probe, read_picture
from refine_batch.errors import InstanceError, UsageError
from refine_batch.io.storage import StorageError, fetch, redact

FRAME = "shapenet-v1"
RENDERINGS = "ShapeNetRendering"
METADATA = "rendering_metadata.txt"
NAMES = "renderings.txt"
NOMINAL_FOV = 25.0
FOV = math.degrees(2.0 * math.atan(16.0 / 35.0))
DISTANCE_UNIT = 1.75
SYNSETS = {
    "02691156": "airplane",
    "02828884": "bench",
    "02933112": "cabinet",
    "02958343": "car",
    "03001627": "chair",
    "03211117": "display",
    "03636649": "lamp",
    "03691459": "loudspeaker",
    "04090263": "rifle",
    "04256520": "sofa",
    "04379243": "table",
    "04401088": "telephone",
    "04530566": "vessel",
}
_LARGEST_METADATA = 1 << 20


@dataclass(frozen=True)
class RenderedModel:
    """The renderings of one model: its folder, and the files in it."""

    name: str  # SYNSET/MODEL
    folder: str
    files: frozenset[str]


class R2n2Layout:
    """SOURCE is ShapeNetRendering, or the folder that holds it: SYNSET/MODEL/rendering/00.png and so on.

    Coarse meshes, per view or per model, are called SYNSET/MODEL/VIEW, SYNSET/MODEL_VIEW, SYNSET_MODEL_VIEW,
    MODEL_VIEW, SYNSET/MODEL, SYNSET_MODEL or MODEL; ground truths SYNSET/MODEL/model.obj, as ShapeNetCore v1 has them.
    """

    extra_fields = (
        pa.field("synset", pa.string()),
        pa.field("model", pa.string()),
        pa.field("view", pa.int32()),
    )

    def __init__(self, options: LayoutOptions):
        self._options = options
        source = options.storage(options.source)
        self._synsets = [s for s in SYNSETS if not options.categories or {s, SYNSETS[s]} & set(options.categories)]
        unknown = [c for c in options.categories if c not in SYNSETS and c not in SYNSETS.values()]
        if unknown:
            raise UsageError(f"--category {unknown[0]}: there are {', '.join(SYNSETS.values())}")
        inner = source.child(RENDERINGS)
        self._source = inner if any(_holds(inner, synset) for synset in SYNSETS) else source
        if self._source is source and not any(_holds(source, synset) for synset in SYNSETS):
            raise UsageError(
                f"{redact(options.source)} holds none of the 13 ShapeNet synsets; --layout r2n2 wants {RENDERINGS}, "
                "with folders such as 03001627/<model>/rendering in it"
            )
        self._meshes_folder = options.storage(options.meshes)
        self._meshes = StemIndex(file_names(self._meshes_folder), MESH_SUFFIXES)
        if not len(self._meshes):
            raise UsageError(f"--meshes {redact(options.meshes)} holds no {', '.join(MESH_SUFFIXES)} files")
        self._truth_folder = options.storage(options.ground_truth) if options.ground_truth else None
        self._truths = None
        if self._truth_folder is not None:
            models = (name for name in file_names(self._truth_folder) if posixpath.basename(name) == "model.obj")
            self._truths = frozenset(models)
            if not self._truths:
                raise UsageError(
                    f"--ground-truth {redact(self._truth_folder.uri)} holds no SYNSET/MODEL/model.obj; the pictures "
                    "are of ShapeNetCore v1, and v2's models stand and measure differently"
                )
        self._models = Models(options, FRAME, self._truth_folder)
        self._files = DerivedFiles(options.manifest_folder, options.written)

    def entries(self) -> Iterator[RenderedModel | LeftOut]:
        for synset in self._synsets:
            for model, names in itertools.groupby(file_names(self._source, synset), key=_model_of):
                if model is None:
                    continue
                folder = f"{model}/rendering"
                files = frozenset(n.removeprefix(f"{folder}/") for n in names if n.startswith(f"{folder}/"))
                if METADATA in files:
                    yield RenderedModel(model, folder, files)
                else:
                    yield LeftOut(model, Reason.CAMERA_MISSING, f"there is no {folder}/{METADATA}")

    def rows(self, entry: RenderedModel) -> list[Row | LeftOut]:
        synset, model = entry.name.split("/")
        truth = f"{entry.name}/model.obj"
        has_truth = self._truths is not None and truth in self._truths
        placed = self._models.placed(truth if has_truth else None)
        self._models.forget(truth)
        lines = self._read(f"{entry.folder}/{METADATA}").splitlines()
        images = self._image_names(entry, len(lines))
        result: list[Row | LeftOut] = []
        for view, (image, line) in enumerate(itertools.zip_longest(images, lines)):
            if self._options.views and view not in self._options.views:
                continue
            name = f"{entry.name}/{view:02d}"
            try:
                row = self._row(entry, placed, view, image, line)
            except LeftOutError as error:
                result.append(LeftOut(name, error.reason, error.message))
                continue
            result.append(row | {"synset": synset, "model": model, "view": view, "category": SYNSETS[synset]})
            if self._truths is not None and not has_truth:
                result.append(LeftOut(name, Reason.GROUND_TRUTH_MISSING, f"there is no {truth}"))
        return result

    def _image_names(self, entry: RenderedModel, lines: int) -> list[str]:
        """Names of the views' images in order: those that renderings.txt lists, else 00.png, 01.png, …"""
        if NAMES in entry.files:
            return self._read(f"{entry.folder}/{NAMES}").split()
        found = sum(name.endswith(".png") for name in entry.files)
        return [f"{view:02d}.png" for view in range(max(found, lines))]

    def _row(self, entry: RenderedModel, placed: PlacedModel, view: int, image: str | None, line: str | None) -> dict:
        if image is None or image not in entry.files:
            raise LeftOutError(Reason.IMAGE_MISSING, f"there is no {entry.folder}/{image or f'{view:02d}.png'}")
        if line is None or not line.strip():
            raise LeftOutError(Reason.CAMERA_MISSING, f"{METADATA} has no line for view {view}")
        path = f"{entry.folder}/{image}"
        camera = self._camera(line, view)
        mesh = self._meshes.first(_mesh_stems(entry.name, view))
        if mesh is None:
            names = " or ".join(_mesh_stems(entry.name, view)[i] for i in (0, 4))
            raise LeftOutError(Reason.MESH_MISSING, f"there is no mesh called {names}")
        instance_id = f"{entry.name.replace('/', '_')}_{view:02d}"
        row = {
            "instance_id": instance_id,
            "mesh_uri": self._meshes_folder.path_of(mesh),
            "image_uri": self._source.path_of(path),
            **asdict(camera),
            "symmetry_axis": self._options.symmetry_axis or symmetry_axis(self._options.mesh_frame or "same", FRAME),
            "ground_truth_uri": placed.uri,
        }
        if placed.placement.is_identity:
            self._check_alpha(path)
            return row
        return row | self._about(placed, camera, path, instance_id)

    def _about(self, placed: PlacedModel, camera: Camera, path: str, instance_id: str) -> dict:
        """Camera and picture about meshes that stand otherwise than the models do."""
        header = probe(self._source, path)
        try:
            pinhole = from_camera(camera, header.width).about(placed.placement)
            if header.width == header.height and not needs_turn(pinhole):
                self._check_alpha(path)
                return asdict(to_camera(turned_to_origin(pinhole)[0]))
            rgb, mask = read_picture(self._source, path, None)
            pinhole = Pinhole(pinhole.rotation, pinhole.translation, pinhole.intrinsics, *rgb.shape[1::-1])
            cut = cut_out(Picture(rgb, mask, pinhole), margin=self._options.margin, largest=self._options.image_size)
            return asdict(to_camera(cut.pinhole)) | {"image_uri": self._files.picture(instance_id, cut)}
        except InstanceError as error:
            raise invalid_camera(error) from None

    def _check_alpha(self, path: str) -> None:
        if self._options.check_images and not probe(self._source, path).transparent:
            raise LeftOutError(Reason.MASK_MISSING, f"{path} has no alpha channel to tell the object by")

    def _camera(self, line: str, view: int) -> Camera:
        words = line.split()
        try:
            azimuth, elevation, roll, distance, nominal = map(float, words)
        except ValueError:
            raise LeftOutError(
                Reason.CAMERA_INVALID, f"line {view + 1} of {METADATA} is not five numbers: {line.strip()[:80]!r}"
            ) from None
        fov = self._options.fov
        if fov is None:
            if nominal != NOMINAL_FOV:
                raise LeftOutError(
                    Reason.CAMERA_INVALID,
                    f"line {view + 1} of {METADATA} has field of view {nominal:g}, not the {NOMINAL_FOV:g} of Choy et "
                    "al.; say with --fov what it is",
                )
            fov = FOV
        unit = DISTANCE_UNIT if self._options.distance_unit is None else self._options.distance_unit
        camera = Camera(90.0 - azimuth, elevation, distance * unit, fov, roll)
        try:
            camera.check(f"line {view + 1} of {METADATA}")
        except InstanceError as error:
            raise LeftOutError(Reason.CAMERA_INVALID, error.message) from None
        return camera

    def _read(self, path: str) -> str:
        uri = self._source.path_of(path)
        try:
            data = fetch(uri, s3_endpoint=self._source.s3_endpoint, max_bytes=_LARGEST_METADATA)
        except FileNotFoundError:
            raise LeftOutError(Reason.CAMERA_MISSING, f"there is no {path}") from None
        except StorageError as error:
            raise LeftOutError(Reason.STORAGE, str(error)) from None
        return data.decode("utf-8", "replace")


def _holds(storage, synset: str) -> bool:
    return next(file_names(storage, synset), None) is not None


def _model_of(name: str) -> str | None:
    """SYNSET/MODEL of a file below SYNSET/MODEL/, None for others."""
    parts = name.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 else None


def _mesh_stems(name: str, view: int) -> list[str]:
    synset, model = name.split("/")
    per_view = [f"{synset}/{model}/{view:02d}", *(f"{stem}_{view:02d}" for stem in (name, f"{synset}_{model}", model))]
    return [*per_view, name, f"{synset}_{model}", model]
