"""What a manifest is built from, and the options of each layout."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from refine_batch.dataset.layouts.frames import FRAMES
from refine_batch.errors import UsageError
from refine_batch.io.storage import Storage
from refine_batch.io.uri import normalise, parent

LayoutName = Literal[
    "folder", "pix3d", "r2n2", "transforms", "colmap", "turntable", "posed", "webdataset", "huggingface"
]
_VIEWED: tuple[LayoutName, ...] = ("transforms", "colmap", "turntable")

# Options that only some layouts know.
_ONLY: dict[str, tuple[LayoutName, ...]] = {
    "masks": ("folder", *_VIEWED, "posed"),
    "cameras": ("folder", "posed"),
    "camera_convention": ("folder",),
    "view_separator": ("folder",),
    "ground_truth": ("folder", "r2n2", *_VIEWED, "posed"),
    "mesh_frame": ("pix3d", "r2n2", "transforms", "colmap"),
    "mesh_scale": ("pix3d", "r2n2"),
    "axes": ("transforms", "posed"),
    "azimuths": ("turntable",),
    "elevations": ("turntable",),
    "distance": ("turntable",),
    "span": ("turntable",),
    "grid": ("turntable",),
    "up_axis": ("turntable",),
    "background": ("turntable",),
    "image_sources": ("pix3d",),
    "without_truncated": ("pix3d",),
    "without_occluded": ("pix3d",),
    "views": ("r2n2",),
    "fov": ("r2n2", "turntable", "posed"),
    "distance_unit": ("r2n2",),
}


@dataclass(frozen=True)
class LayoutOptions:
    """Where everything lies, and how it is to be read; `None` and empty mean that an option was not given.

    Parameters
    ----------
    source, meshes, ground_truth, masks
        Folders: the dataset, the coarse meshes, and where the layout does not know them itself the ground-truth models
        and the masks. Local, or at any fsspec URI.
    cameras
        A CSV, JSON or NPZ file, keyed by stem; `camera_convention` says what its numbers mean.
    out
        The manifest, .parquet or .csv. Pictures and models that have to be written lie beside it.
    view_separator
        What stands between an object's stem and the name of a view: `_` reads chair_03 as a view of chair.
    mesh_frame, mesh_scale
        How the coarse meshes stand in the dataset's object coordinates (see `frames`).
    fov, distance_unit
        Degrees, and object units per unit of the metadata, where renderings are not those of Choy et al.
    axes
        Of the cameras (transforms) or of the meshes in their frame (posed): opencv, opengl or pytorch3d.
    azimuths, elevations, distance, span, up_axis
        Cameras of a turntable, in this project's angles; `span` is the object units that an orthographic picture shows.
    grid
        (columns, rows) of the pictures that one file holds side by side.
    background
        (red, green, blue) that is not the object, where there are no masks.
    most_views
        Pictures used of each object, evenly through their order.
    camera_error
        How far the cameras may be off, degrees and share of the distance, of pictures that do not say it themselves.
    margin
        Room round the mask of a cut-out, as a share of its side: a coarse mesh is rarely inside the mask.
    image_size
        Largest side of a picture that is written, pixels.
    """

    source: str
    meshes: str
    out: str
    ground_truth: str | None = None
    masks: str | None = None
    cameras: str | None = None
    camera_convention: str | None = None
    view_separator: str | None = None
    categories: tuple[str, ...] = ()
    image_sources: tuple[str, ...] = ()
    without_truncated: bool = False
    without_occluded: bool = False
    views: tuple[int, ...] = ()
    fov: float | None = None
    distance_unit: float | None = None
    axes: str | None = None
    azimuths: tuple[float, ...] = ()
    elevations: tuple[float, ...] = ()
    distance: float | None = None
    span: float | None = None
    grid: tuple[int, int] | None = None
    up_axis: str | None = None
    background: tuple[int, int, int] | None = None
    most_views: int = 16
    mesh_frame: str | None = None
    mesh_scale: str | None = None
    symmetry_axis: str | None = None
    camera_error: tuple[float, float] | None = None
    check_images: bool = True
    margin: float = 0.15
    image_size: int = 512
    s3_endpoint: str | None = None

    def check(self, layout: LayoutName) -> None:
        """Raise `UsageError` where an option is given that the layout does not know."""
        for option in fields(self):
            layouts = _ONLY.get(option.name)
            if layouts and layout not in layouts and getattr(self, option.name) not in (None, (), False):
                name = {"image_sources": "image-source", "views": "view", "categories": "category"}
                flag = name.get(option.name, option.name.replace("_", "-"))
                known = ", ".join(layouts[:-1]) + " and " + layouts[-1] if len(layouts) > 1 else layouts[0]
                raise UsageError(f"--{flag} is an option of --layout {known}, not of {layout}")
        frames = ("same", *FRAMES) if layout in ("pix3d", "r2n2") else ("same", "y-up")
        if self.mesh_frame is not None and self.mesh_frame not in frames:
            raise UsageError(
                f"--mesh-frame {self.mesh_frame} is not for --layout {layout}; it knows {', '.join(frames)}"
            )
        if not self.out.lower().endswith((".parquet", ".csv")):
            raise UsageError(f"--out {self.out}: the manifest's name must end in .parquet or .csv")

    def storage(self, uri: str) -> Storage:
        return Storage(uri, self.s3_endpoint)

    @property
    def manifest(self) -> str:
        """Absolute URI of the manifest."""
        return normalise(self.out)

    @property
    def manifest_folder(self) -> Storage:
        """What relative URIs are relative to."""
        return self.storage(parent(self.manifest))

    @property
    def written(self) -> str:
        """Folder beside the manifest, relative to its folder, that holds the pictures and models written for it."""
        name = self.manifest.rpartition("/")[2]
        return f"{name.rpartition('.')[0]}_files"
