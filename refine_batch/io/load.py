"""One manifest row to one instance in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.instance import Instance
from refine_batch.io.images import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS, object_mask, parse_image, parse_mask
from refine_batch.io.meshes import MAX_FACES, MAX_MESH_BYTES, parse_mesh
from refine_batch.io.storage import FileTooLargeError, StorageError, fetch, redact
from refine_batch.mesh import Mesh

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
    mesh = _load_mesh(row.mesh_uri, "mesh_uri", s3_endpoint, limits)
    image_name = redact(row.image_uri)
    pixels = {"max_pixels": limits.image_pixels, "max_bytes": limits.image_bytes}
    rgb, opaque = parse_image(
        _fetch(row.image_uri, "image_uri", s3_endpoint, limits.image_bytes, ErrorKind.IMAGE_TOO_LARGE),
        image_name,
        **pixels,
    )
    mask, mask_name = None, None
    if row.mask_uri:
        mask_name = redact(row.mask_uri)
        mask = parse_mask(
            _fetch(row.mask_uri, "mask_uri", s3_endpoint, limits.image_bytes, ErrorKind.IMAGE_TOO_LARGE),
            mask_name,
            **pixels,
        )
    ground_truth = None
    if row.ground_truth_uri:
        ground_truth = _load_mesh(row.ground_truth_uri, "ground_truth_uri", s3_endpoint, limits)
    return Instance(
        instance_id=row.instance_id,
        mesh=mesh,
        image=rgb,
        mask=object_mask(rgb, opaque, mask, image_name, mask_name),
        camera=row.camera(),
        symmetry_axis=row.axis(),
        ground_truth=ground_truth,
        category=row.category,
    )


def _load_mesh(uri: str, column: str, s3_endpoint: str | None, limits: Limits) -> Mesh:
    data = _fetch(uri, column, s3_endpoint, limits.mesh_bytes, ErrorKind.MESH_TOO_LARGE)
    return parse_mesh(data, redact(uri), max_faces=limits.faces, max_bytes=limits.mesh_bytes)


def _fetch(uri: str, column: str, s3_endpoint: str | None, max_bytes: int, too_large: ErrorKind) -> bytes:
    try:
        return fetch(uri, s3_endpoint=s3_endpoint, max_bytes=max_bytes)
    except FileNotFoundError as error:
        raise InstanceError(ErrorKind.MISSING_FILE, f"{redact(uri)}: no such file (column {column})") from error
    except FileTooLargeError as error:
        raise InstanceError(too_large, f"{error} (column {column})") from error
    except StorageError as error:
        raise InstanceError(ErrorKind.STORAGE, f"{error} (column {column})") from error
