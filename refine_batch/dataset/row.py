"""One row of a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from refine_batch.errors import InstanceError

if TYPE_CHECKING:
    import pyarrow as pa

    from refine_batch.camera import Camera


@dataclass(frozen=True)
class ManifestRow:
    """One row of a manifest, its URIs absolute. Angles in degrees, `distance` in object units, offsets in NDC."""

    instance_id: str
    mesh_uri: str | None
    image_uri: str | None
    mask_uri: str | None = None
    azimuth: float | None = None
    elevation: float | None = None
    distance: float | None = None
    fov: float | None = None
    roll: float | None = None
    offset_x: float | None = None
    offset_y: float | None = None
    symmetry_axis: str | None = None
    ground_truth_uri: str | None = None
    category: str | None = None

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch, index: int) -> ManifestRow:
        """Row `index` of a batch of `Manifest.batches()`."""
        raise NotImplementedError

    def camera(self) -> Camera | None:
        """The camera, or None where azimuth, elevation or distance is null and it has to be estimated."""
        raise NotImplementedError

    def problem(self) -> InstanceError | None:
        """What makes this row unusable, before any of its files is looked at; None where nothing does.

        ROW_INVALID for an empty mesh_uri or image_uri or an unknown symmetry_axis, CAMERA_INVALID for a number that is
        NaN, infinite or out of range.
        """
        raise NotImplementedError
