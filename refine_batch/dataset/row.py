"""One row of a manifest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refine_batch.dataset.columns import CAMERA, NUMBERS, URIS
from refine_batch.errors import ErrorKind, InstanceError, UsageError
from refine_batch.io.uri import normalise, redact

if TYPE_CHECKING:
    import pyarrow as pa

    from refine_batch.cameras.camera import Camera, UnknownCamera

SYMMETRY_AXES = ("x", "y", "z", "none")


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
        return cls(**{name: batch.column(i)[index].as_py() for i, name in enumerate(batch.schema.names)})

    def camera(self) -> Camera | UnknownCamera:
        """The camera; what is known of it where azimuth, elevation or distance is null and has to be estimated."""
        from refine_batch.cameras.camera import Camera, UnknownCamera

        known = {name: getattr(self, name) for name in NUMBERS if getattr(self, name) is not None}
        return Camera(**known) if all(name in known for name in CAMERA) else UnknownCamera(**known)

    def axis(self) -> str | None:
        """Normal of the symmetry plane; None where the row says nothing."""
        return self.symmetry_axis or None

    def problem(self) -> InstanceError | None:
        """What makes this row unusable, before any of its files is looked at; None where nothing does.

        ROW_INVALID for an empty mesh_uri or image_uri, a URI that means nothing or an unknown symmetry_axis,
        CAMERA_INVALID for a number that is NaN, infinite or out of range.
        """
        name = f"instance {redact(self.instance_id)!r}"
        for column in URIS:
            uri = getattr(self, column)
            if uri is None:
                if column in ("mesh_uri", "image_uri"):
                    return InstanceError(ErrorKind.ROW_INVALID, f"{name}: {column} is empty")
                continue
            try:
                normalise(uri)
            except UsageError as error:
                return InstanceError(ErrorKind.ROW_INVALID, f"{name}: {column}: {error}")
        if self.axis() not in (None, *SYMMETRY_AXES):
            shown = redact(self.axis() or "")[:40]
            return InstanceError(
                ErrorKind.ROW_INVALID,
                f"{name}: symmetry_axis is {shown!r}; it must be x, y, z or none (or empty)",
            )
        return self._camera_problem(name)

    def _camera_problem(self, name: str) -> InstanceError | None:
        for column in NUMBERS:
            value = getattr(self, column)
            if value is not None and not math.isfinite(value):
                return InstanceError(
                    ErrorKind.CAMERA_INVALID, f"{name}: {column} is {value}, not a number; leave it empty if unknown"
                )
        if self.distance is not None and self.distance <= 0:
            return InstanceError(ErrorKind.CAMERA_INVALID, f"{name}: distance is {self.distance:g}; it must be above 0")
        if self.fov is not None and not 0 < self.fov < 180:
            return InstanceError(
                ErrorKind.CAMERA_INVALID, f"{name}: fov is {self.fov:g}°; it must be between 0 and 180"
            )
        return None
