"""One row of a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from refine_batch.dataset.columns import LISTS, SYMMETRY_AXES, URIS
from refine_batch.dataset.picture_row import picture_problem, uri_problem
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.io.uri import redact

if TYPE_CHECKING:
    import pyarrow as pa

    from refine_batch.cameras.camera import Camera, UnknownCamera


@dataclass(frozen=True)
class ManifestRow:
    """One row of a manifest, its URIs absolute. Angles in degrees, `distance` in object units, offsets in NDC.

    `intrinsics` are in pixels of the image file; `views` is JSON text that `views.parse_views` reads.
    """

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
    intrinsics: tuple[float, ...] | None = None
    extrinsics: tuple[float, ...] | None = None
    camera_error_degrees: float | None = None
    camera_error_distance: float | None = None
    depth_scale: float | None = None
    camera_axes: str | None = None
    ignore_uri: str | None = None
    depth_uri: str | None = None
    depth_kind: str | None = None
    normals_uri: str | None = None
    normals_axes: str | None = None
    views: str | None = None
    views_uri: str | None = None
    up_axis: str | None = None
    projection: str | None = None

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch, index: int) -> ManifestRow:
        """Row `index` of a batch of `Manifest.batches()`."""
        values = {name: batch.column(i)[index].as_py() for i, name in enumerate(batch.schema.names)}
        return cls(**values | {name: tuple(values[name]) for name in LISTS if values.get(name) is not None})

    def camera(self) -> Camera | UnknownCamera:
        """The camera by its angles; what is known of it where one of them or the distance is null and has to be
        estimated. Matrices need the picture's size: see `picture_row.picture_camera`."""
        from refine_batch.dataset.picture_row import camera_of_angles

        return camera_of_angles(self)

    def axis(self) -> str | None:
        """Normal of the symmetry plane; None where the row says nothing."""
        return self.symmetry_axis or None

    def problem(self) -> InstanceError | None:
        """What makes this row unusable, before any of its files is looked at; None where nothing does.

        ROW_INVALID for an empty mesh_uri or image_uri, a URI that means nothing, an unknown word or views that are not
        a list of such, CAMERA_INVALID for a number that is NaN, infinite or out of range; the message names the view.
        """
        name = f"instance {redact(self.instance_id)!r}"
        for column in ("mesh_uri", "image_uri"):
            if getattr(self, column) is None:
                return InstanceError(ErrorKind.ROW_INVALID, f"{name}: {column} is empty")
        for column in URIS:
            found = uri_problem(column, getattr(self, column), name)
            if found is not None:
                return found
        if self.axis() not in (None, *SYMMETRY_AXES):
            shown = redact(self.axis() or "")[:40]
            return InstanceError(
                ErrorKind.ROW_INVALID,
                f"{name}: symmetry_axis is {shown!r}; it must be x, y, z, none or auto (or empty)",
            )
        return picture_problem(self, name) or self._views_problem(name)

    def _views_problem(self, name: str) -> InstanceError | None:
        if self.views is None:
            return None
        if self.views_uri is not None:
            return InstanceError(ErrorKind.ROW_INVALID, f"{name}: views and views_uri are both given; one is needed")
        from refine_batch.dataset.views import parse_views

        try:
            views = parse_views(self.views, f"{name}: views")
        except InstanceError as error:
            return error
        found = (view.problem(f"{name}: views[{i}]") for i, view in enumerate(views))
        return next((problem for problem in found if problem is not None), None)
