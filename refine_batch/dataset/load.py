"""One manifest row to one instance in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from refine_batch.cameras.camera import Camera
from refine_batch.config import RefineConfig
from refine_batch.dataset.content import content_of, digest_of
from refine_batch.dataset.picture_row import picture_camera_error
from refine_batch.dataset.pictures import load_picture
from refine_batch.dataset.views import ViewRow, parse_views, resolve_views
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.instance import Instance, PictureView
from refine_batch.io.beside import files_beside
from refine_batch.io.images import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS
from refine_batch.io.local import is_away
from refine_batch.io.meshes import MAX_FACES, MAX_MESH_BYTES, MeshFile, read_mesh
from refine_batch.io.storage import AccessDeniedError, FileTooLargeError, NotAFileError, StorageError, fetch, redact
from refine_batch.io.uri import is_local, parent
from refine_batch.mesh import Mesh
from refine_batch.mesh.plane import SymmetryAxis

if TYPE_CHECKING:
    import numpy as np

    from refine_batch.dataset.row import ManifestRow


@dataclass(frozen=True)
class Limits:
    """What an input file may cost; above it the instance fails instead of the process. `faces`: None is what the
    configuration allows."""

    mesh_bytes: int = MAX_MESH_BYTES
    faces: int | None = None
    image_bytes: int = MAX_IMAGE_BYTES
    image_pixels: int = MAX_IMAGE_PIXELS
    list_bytes: int = 1 << 20


def load_instance(
    row: ManifestRow,
    config: RefineConfig | None = None,
    *,
    s3_endpoint: str | None = None,
    limits: Limits = Limits(),
) -> Instance:
    """Fetch and decode everything that a row names; pictures at the working size, centred in a square.

    A ground truth that cannot be read fails the instance like any other input: figures asked for are not left out
    silently.

    Parameters
    ----------
    config
        Its image size and its options of pictures are used; by default the defaults.

    Raises
    ------
    InstanceError
        Of the kind that fits, naming the redacted URI, and of a further view which it is.
    """
    problem = row.problem()
    if problem is not None:
        raise problem
    config = config or RefineConfig()
    faces = config.preparation.max_faces if limits.faces is None else limits.faces
    files = Files(row, s3_endpoint, replace(limits, faces=faces))
    coarse = files.mesh_file("mesh_uri")
    mesh = coarse.mesh
    centre = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2.0
    picture = load_picture(row, files, config.image_size, config.picture, centre)
    assert picture.image is not None  # row.problem() has seen to its URI
    views = [_view(view, f"views[{i}]", files, config, centre) for i, view in enumerate(_views(row, files))]
    truth = files.mesh("ground_truth_uri") if row.ground_truth_uri else None
    return Instance(
        instance_id=row.instance_id,
        mesh=mesh,
        image=picture.image,
        mask=picture.mask,
        known=picture.known,
        camera=picture.camera,
        camera_error=picture_camera_error(row),
        symmetry_axis=cast(SymmetryAxis | None, row.axis()),
        ground_truth=truth,
        category=row.category,
        depth=picture.depth,
        normals=picture.normals,
        views=tuple(view for view, _ in views),
        notes=(
            *(f"mesh_uri: {note}" for note in coarse.notes),
            *picture.notes,
            *(note for _, notes in views for note in notes),
        ),
        content=content_of(files.digests),
    )


def _views(row: ManifestRow, files: Files) -> tuple[ViewRow, ...]:
    """The row's further views, each checked. Raises InstanceError."""
    name = f"instance {redact(row.instance_id)!r}"
    if row.views is not None:
        return parse_views(row.views, f"{name}: views")
    if not row.views_uri:
        return ()
    text = files.fetch("views_uri", files.limits.list_bytes, ErrorKind.ROW_INVALID).decode("utf-8", "replace")
    listed = parse_views(resolve_views(text, parent(row.views_uri)), f"{name}: {files.name('views_uri')}: views")
    for i, view in enumerate(listed):
        problem = view.problem(f"{name}: {files.name('views_uri')}: views[{i}]")
        if problem is not None:
            raise problem
    return listed


def _view(
    view: ViewRow, name: str, files: Files, config: RefineConfig, centre: np.ndarray
) -> tuple[PictureView, tuple[str, ...]]:
    """The view, and what was left out of it."""
    view = replace(view, up_axis=view.up_axis or files.row.up_axis)
    own = replace(files, row=view, prefix=f"{name}.")
    try:
        picture = load_picture(view, own, config.image_size, config.picture, centre)
    except InstanceError as error:
        raise InstanceError(error.kind, f"{name}: {error.message}") from error
    assert isinstance(picture.camera, Camera)  # view.problem() has seen to it
    found = PictureView(
        mask=picture.mask,
        camera=picture.camera,
        known=picture.known,
        camera_error=picture_camera_error(view),
        weight=1.0 if view.weight is None else view.weight,
        image=picture.image,
        depth=picture.depth,
        normals=picture.normals,
    )
    return found, picture.notes


@dataclass(frozen=True)
class Files:
    """The files of one row, or of one of its views, each asked for by its column; `prefix` begins a view's.

    `digests` tells the bytes of those that were fetched, by absolute URI; None for one that is not local.
    """

    row: ManifestRow | ViewRow
    s3_endpoint: str | None
    limits: Limits
    prefix: str = ""
    digests: dict[str, str | None] = field(default_factory=dict)

    def name(self, column: str) -> str:
        """The column's URI as it may be shown."""
        return redact(getattr(self.row, column) or "")

    def mesh(self, column: str) -> Mesh:
        return self.mesh_file(column).mesh

    def mesh_file(self, column: str) -> MeshFile:
        """The column's mesh, and what of its file was left out."""
        data = self.fetch(column, self.limits.mesh_bytes, ErrorKind.MESH_TOO_LARGE)
        return read_mesh(
            data,
            self.name(column),
            max_faces=MAX_FACES if self.limits.faces is None else self.limits.faces,
            max_bytes=self.limits.mesh_bytes,
            sibling=files_beside(getattr(self.row, column), s3_endpoint=self.s3_endpoint, fetcher=self._beside),
        )

    def _beside(self, uri: str, **options: Any) -> bytes:
        data = fetch(uri, **options)
        self.digests[uri] = digest_of(data) if is_local(uri) else None
        return data

    def fetch(self, column: str, max_bytes: int, too_large: ErrorKind) -> bytes:
        """The content of the column's file. Raises InstanceError, of the kind `too_large` above `max_bytes`."""
        uri = getattr(self.row, column)
        try:
            data = fetch(uri, s3_endpoint=self.s3_endpoint, max_bytes=max_bytes)
        except FileNotFoundError as error:
            kind, why = ErrorKind.MISSING_FILE, ""
            if is_local(uri) and is_away(uri):
                kind, why = ErrorKind.STORAGE, ", and its folder is empty or missing: is there something to be mounted?"
            text = f"{self.name(column)}: no such file (column {self.prefix}{column}){why}"
            raise InstanceError(kind, text) from error
        except NotAFileError as error:
            raise InstanceError(ErrorKind.MISSING_FILE, f"{error} (column {self.prefix}{column})") from error
        except FileTooLargeError as error:
            raise InstanceError(too_large, f"{error} (column {self.prefix}{column})") from error
        except StorageError as error:
            kind = ErrorKind.ACCESS_DENIED if isinstance(error, AccessDeniedError) else ErrorKind.STORAGE
            raise InstanceError(kind, f"{error} (column {self.prefix}{column})") from error
        self.digests[uri] = digest_of(data) if is_local(uri) else None
        return data
