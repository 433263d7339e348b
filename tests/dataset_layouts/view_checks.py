"""What the tests of layouts with several views ask: each view's mask is met by the mesh that its camera sees."""

from __future__ import annotations

import numpy as np

from refine_batch.dataset.columns import CAMERA_NUMBERS
from refine_batch.dataset.layouts.build import Built
from refine_batch.dataset.manifest import Manifest, ManifestRow
from refine_batch.dataset.picture_row import picture_camera
from refine_batch.dataset.views import parse_views
from refine_batch.io.images import object_mask, parse_image, parse_mask
from refine_batch.io.meshes import parse_mesh
from refine_batch.io.storage import Storage, fetch
from refine_batch.refinement.prepare import resize_square
from refine_batch.render import hard_silhouettes

SIDE = 200


def manifest_rows(built: Built, storage: Storage) -> list[ManifestRow]:
    """The rows as a run reads them."""
    batches = Manifest.open(built.manifest, storage.s3_endpoint).batches()
    return [ManifestRow.from_batch(batch, i) for batch in batches for i in range(batch.num_rows)]


def view_ious(row: ManifestRow, storage: Storage) -> list[float]:
    """Of the row's own picture, then of its further views."""
    assert row.problem() is None
    views = parse_views(row.views, "views") if row.views else ()
    return [_iou(row, view, storage) for view in (row, *views)]


def _iou(row, view, storage) -> float:
    assert all(getattr(view, name) is None for name in CAMERA_NUMBERS) == (view.extrinsics is not None)
    mesh = parse_mesh(fetch(row.mesh_uri, s3_endpoint=storage.s3_endpoint), row.mesh_uri)
    rgb, opaque = parse_image(fetch(view.image_uri, s3_endpoint=storage.s3_endpoint), view.image_uri)
    mask = None
    if view.mask_uri:
        mask = parse_mask(fetch(view.mask_uri, s3_endpoint=storage.s3_endpoint), view.mask_uri)
    mask = np.asarray(object_mask(rgb, opaque, mask, "image", "mask")) > 0.5
    camera, size = picture_camera(view, mask.shape[1], mask.shape[0])
    assert size == (mask.shape[1], mask.shape[0])
    square = resize_square(mask[..., None].astype(np.float32), SIDE)[..., 0] >= 0.5
    seen = hard_silhouettes(mesh, [camera], SIDE)[0]
    return float((square & seen).sum() / (square | seen).sum())
