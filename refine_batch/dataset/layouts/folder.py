"""Layout `folder`: images and meshes of the same stem, cameras in a table, ground truth and masks in other folders."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa

from refine_batch.cameras.picture import Picture, cut_out, needs_turn
from refine_batch.cameras.pinhole import Pinhole
from refine_batch.dataset.columns import MANIFEST_SCHEMA
from refine_batch.dataset.layouts.camera_table import CameraTable
from refine_batch.dataset.layouts.derived import DerivedFiles
from refine_batch.dataset.layouts.entry import LeftOut, LeftOutError, Reason, Row
from refine_batch.dataset.layouts.options import LayoutOptions
from refine_batch.dataset.layouts.paths import IMAGE_SUFFIXES, MESH_SUFFIXES, StemIndex, file_names
from refine_batch.dataset.layouts.picture import probe, read_picture
from refine_batch.dataset.layouts.viewed import camera_columns
from refine_batch.errors import InstanceError, UsageError
from refine_batch.io.storage import Storage, redact

_MATRICES = ("intrinsics", "extrinsics", "projection")


@dataclass(frozen=True)
class View:
    """One image, the object that it shows, and that object's mesh."""

    name: str  # the image's stem
    object_stem: str
    mesh: str


class FolderLayout:
    """Images below SOURCE/images, or SOURCE itself, and meshes of the same stem, subfolders included.

    An image without a mesh of its own is a view: of the object that its folder is named after, or, with a
    `view_separator`, of the one that its name begins with.
    """

    extra_fields = (pa.field("object", pa.string()), *(MANIFEST_SCHEMA.field(name) for name in _MATRICES))

    def __init__(self, options: LayoutOptions):
        self._options = options
        source = options.storage(options.source)
        inner = source.child("images")
        self._images_folder = inner if next(file_names(inner), None) is not None else source
        self._meshes_folder = options.storage(options.meshes)
        self._masks_folder = options.storage(options.masks) if options.masks else None
        self._truth_folder = options.storage(options.ground_truth) if options.ground_truth else None
        self._images = StemIndex(self._own_images(), IMAGE_SUFFIXES)
        if not len(self._images):
            raise UsageError(
                f"{redact(options.source)} holds no images; --layout folder wants PNG, JPEG or WebP files in it, or in "
                "its folder images, named as the meshes are"
            )
        self._meshes = _index(self._meshes_folder, MESH_SUFFIXES, "--meshes")
        self._masks = _index(self._masks_folder, IMAGE_SUFFIXES, "--masks") if self._masks_folder else None
        self._truths = _index(self._truth_folder, MESH_SUFFIXES, "--ground-truth") if self._truth_folder else None
        convention = options.camera_convention or "look-at"
        self._cameras = CameraTable(options.cameras, convention, options.s3_endpoint) if options.cameras else None
        if options.camera_convention and self._cameras is None:
            raise UsageError("--camera-convention says how to read --cameras, which is not given")
        self._files = DerivedFiles(options.manifest_folder, options.written)

    def _own_images(self) -> Iterator[str]:
        """Images of the source that are not those of the other folders, which may lie inside it."""
        root = self._images_folder.uri.rstrip("/") + "/"
        others = [self._meshes_folder, self._masks_folder, self._truth_folder]
        others.append(self._options.manifest_folder.child(self._options.written))
        inside = tuple(f.uri.rstrip("/").removeprefix(root) + "/" for f in others if f and f.uri.startswith(root))
        return (name for name in file_names(self._images_folder) if not name.startswith(inside))

    def entries(self) -> Iterator[View | LeftOut]:
        if self._cameras is not None:
            yield from self._cameras.problems
        wanted, seen = set(self._options.categories), set()
        for stem in self._images:
            try:
                view = self._view(stem)
            except LeftOutError as error:
                yield LeftOut(stem, error.reason, error.message)
                continue
            seen.add(view.object_stem)
            if wanted and self._category(view) not in wanted:
                yield LeftOut(stem, Reason.FILTERED)
            else:
                yield view
        for stem in self._meshes:
            if stem not in seen and stem not in self._images:
                yield LeftOut(stem, Reason.IMAGE_MISSING, f"there is no image of the mesh {stem}")

    def _view(self, stem: str) -> View:
        tried = [stem]
        separator = self._options.view_separator
        folder, name = posixpath.split(stem)
        if separator and separator in name.strip(separator):
            tried.append(posixpath.join(folder, name.rpartition(separator)[0]))
        if folder:
            tried.append(folder)
        for candidate in tried:
            mesh = self._meshes.path(candidate)
            if mesh is not None:
                return View(stem, candidate, mesh)
        raise LeftOutError(Reason.MESH_MISSING, f"there is no mesh called {' or '.join(tried)}")

    def _category(self, view: View) -> str | None:
        known = self._cameras.categories.get(view.name) if self._cameras else None
        return known or (view.object_stem.partition("/")[0] if "/" in view.object_stem else None)

    def rows(self, view: View) -> list[Row | LeftOut]:
        image = self._images.path(view.name)
        assert image is not None
        mask = self._mask(view)
        row: dict = {
            "instance_id": view.name,
            "mesh_uri": self._meshes_folder.path_of(view.mesh),
            "image_uri": self._images_folder.path_of(image),
            "mask_uri": self._masks_folder.path_of(mask) if mask and self._masks_folder else None,
            "category": self._category(view),
            "symmetry_axis": self._options.symmetry_axis,
            "object": view.object_stem,
        }
        if self._cameras is None or self._cameras.convention == "look-at":
            if self._cameras is not None:
                row |= asdict(self._cameras.look_at(view.name))
            self._check_alpha(image, mask)
        else:
            row |= self._seen_by_pinhole(view, image, mask)
        return [row, *self._with_truth(view, row)]

    def _mask(self, view: View) -> str | None:
        if self._masks is None:
            return None
        mask = self._masks.path(view.name)
        if mask is None:
            raise LeftOutError(Reason.MASK_MISSING, f"there is no mask called {view.name}")
        return mask

    def _check_alpha(self, image: str, mask: str | None) -> None:
        if mask is not None:
            return
        jpeg = image.lower().endswith((".jpg", ".jpeg"))
        if jpeg or (self._options.check_images and not probe(self._images_folder, image).transparent):
            raise LeftOutError(
                Reason.MASK_MISSING, f"{image} has no alpha channel to tell the object by; give masks with --masks"
            )

    def _seen_by_pinhole(self, view: View, image: str, mask: str | None) -> dict:
        """Camera and pictures. One of which the mesh's origin is not the middle is cut out round the mask, so that a
        small object in a large photograph has pixels enough; none is resampled."""
        assert self._cameras is not None
        header = probe(self._images_folder, image)
        size = self._cameras.size(view.name) or (header.width, header.height)
        if size != (header.width, header.height):
            found, told = f"{header.width}×{header.height}", f"{size[0]}×{size[1]}"
            raise LeftOutError(Reason.CAMERA_INVALID, f"{image} is {found} pixels, its camera is for {told}")
        pinhole = self._cameras.pinhole(view.name, size)
        if _looks_at_origin(pinhole):
            self._check_alpha(image, mask)
            return camera_columns(pinhole, view.name)
        rgb, pixels = read_picture(self._images_folder, image, mask, self._masks_folder)
        picture = Picture(rgb, pixels, pinhole)
        cut = cut_out(picture, margin=self._options.margin, largest=self._options.image_size, turn=False)
        written = {"image_uri": self._files.picture(view.name, cut), "mask_uri": None}
        return written | camera_columns(cut.pinhole, view.name)

    def _with_truth(self, view: View, row: dict) -> list[LeftOut]:
        if self._truths is None or self._truth_folder is None:
            return []
        truth = self._truths.first((view.name, view.object_stem))
        if truth is None:
            return [LeftOut(view.name, Reason.GROUND_TRUTH_MISSING, f"there is no ground truth of {view.object_stem}")]
        row["ground_truth_uri"] = self._truth_folder.path_of(truth)
        return []


def _looks_at_origin(pinhole: Pinhole) -> bool:
    try:
        return not needs_turn(pinhole)
    except InstanceError:
        return False  # It lies beside or behind the camera: the mesh stands elsewhere.


def _index(folder: Storage, suffixes: tuple[str, ...], option: str) -> StemIndex:
    index = StemIndex(file_names(folder), suffixes)
    if not len(index):
        raise UsageError(f"{option} {redact(folder.uri)} holds no {', '.join(suffixes)} files")
    return index
