"""What the tests of layouts with several views ask: each view's mask is met by the mesh that its camera sees."""

from __future__ import annotations

from refine_batch.cameras.camera import Camera
from refine_batch.dataset.layouts.build import Built
from refine_batch.dataset.load import load_instance
from refine_batch.dataset.manifest import Manifest, ManifestRow
from refine_batch.io.storage import Storage
from refine_batch.render import hard_silhouettes


def manifest_rows(built: Built, storage: Storage) -> list[ManifestRow]:
    """The rows as a run reads them."""
    batches = Manifest.open(built.manifest, storage.s3_endpoint).batches()
    return [ManifestRow.from_batch(batch, i) for batch in batches for i in range(batch.num_rows)]


def view_ious(row: ManifestRow, storage: Storage) -> list[float]:
    """Of the row's own picture, then of its further views, as they are loaded."""
    instance = load_instance(row, s3_endpoint=storage.s3_endpoint)
    ious = []
    for view in (instance, *instance.views):
        assert isinstance(view.camera, Camera)
        mask = view.mask >= 0.5
        seen = hard_silhouettes(instance.mesh, [view.camera], len(mask))[0]
        ious.append(float((mask & seen).sum() / (mask | seen).sum()))
    return ious
