"""One manifest row to one instance in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.instance import Instance
from refine_batch.io.beside import files_beside
from refine_batch.io.images import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS, object_mask, parse_image, parse_mask
from refine_batch.io.meshes import MAX_FACES, MAX_MESH_BYTES, parse_mesh
from refine_batch.io.storage import AccessDeniedError, FileTooLargeError, NotAFileError, StorageError, fetch, redact
from refine_batch.mesh import Mesh
from refine_batch.mesh.plane import SymmetryAxis

if TYPE_CHECKING:
    from refine_batch.dataset.row import ManifestRow


@dataclass(frozen=True)
class Limits:
    """What an input file may cost; above it the instance fails instead of the process."""

    mesh_bytes: int = MAX_MESH_BYTES
    faces: int = MAX_FACES
    image_bytes: int = MAX_IMAGE_BYTES
    image_pixels: int = MAX_IMAGE_PIXELS


def load_instance(row: ManifestRow, *, s3_endpoint: str | None = None, limits: Limits = Limits()) -> Instance:
    """Fetch and decode everything that a row names.

    A ground truth that cannot be read fails the instance like any other input: figures asked for are not left out
    silently.

    Raises
    ------
    InstanceError
        Of the kind that fits, naming the redacted URI.
    """
    problem = row.problem()
    if problem is not None:
        raise problem
    files = _Files(row, s3_endpoint, limits)
    mesh = files.mesh("mesh_uri")
    rgb, opaque = files.image()
    return Instance(
        instance_id=row.instance_id,
        mesh=mesh,
        image=rgb,
        mask=object_mask(rgb, opaque, files.mask(), files.name("image_uri"), files.name("mask_uri")),
        camera=row.camera(),
        symmetry_axis=cast(SymmetryAxis | None, row.axis()),
        ground_truth=files.mesh("ground_truth_uri") if row.ground_truth_uri else None,
        category=row.category,
    )


@dataclass(frozen=True)
class _Files:
    """The files of one row, each asked for by its column."""

    row: ManifestRow
    s3_endpoint: str | None
    limits: Limits

    def name(self, column: str) -> str:
        """The column's URI as it may be shown."""
        return redact(getattr(self.row, column) or "")

    def mesh(self, column: str) -> Mesh:
        data = self._fetch(column, self.limits.mesh_bytes, ErrorKind.MESH_TOO_LARGE)
        return parse_mesh(
            data,
            self.name(column),
            max_faces=self.limits.faces,
            max_bytes=self.limits.mesh_bytes,
            sibling=files_beside(getattr(self.row, column), s3_endpoint=self.s3_endpoint),
        )

    def image(self) -> tuple[np.ndarray, np.ndarray | None]:
        data = self._fetch("image_uri", self.limits.image_bytes, ErrorKind.IMAGE_TOO_LARGE)
        return parse_image(
            data, self.name("image_uri"), max_pixels=self.limits.image_pixels, max_bytes=self.limits.image_bytes
        )

    def mask(self) -> np.ndarray | None:
        if not self.row.mask_uri:
            return None
        data = self._fetch("mask_uri", self.limits.image_bytes, ErrorKind.IMAGE_TOO_LARGE)
        return parse_mask(
            data, self.name("mask_uri"), max_pixels=self.limits.image_pixels, max_bytes=self.limits.image_bytes
        )

    def _fetch(self, column: str, max_bytes: int, too_large: ErrorKind) -> bytes:
        try:
            return fetch(getattr(self.row, column), s3_endpoint=self.s3_endpoint, max_bytes=max_bytes)
        except FileNotFoundError as error:
            text = f"{self.name(column)}: no such file (column {column})"
            raise InstanceError(ErrorKind.MISSING_FILE, text) from error
        except NotAFileError as error:
            raise InstanceError(ErrorKind.MISSING_FILE, f"{error} (column {column})") from error
        except FileTooLargeError as error:
            raise InstanceError(too_large, f"{error} (column {column})") from error
        except StorageError as error:
            kind = ErrorKind.ACCESS_DENIED if isinstance(error, AccessDeniedError) else ErrorKind.STORAGE
            raise InstanceError(kind, f"{error} (column {column})") from error
