"""The columns of `results/*.parquet`, their units, and the schema's version."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from refine_batch.dataset.columns import RESULTS_MARK

# Raised when a column's type or meaning changes, or one goes; a column that is only added leaves it as it is.
SCHEMA_VERSION = 2
# What an instance goes through. A row cannot say how long its own file took to be put into storage, only the run's
# record can: of writing it has the time that its own laying out took.
STAGES = ("load", "prepare", "optimise", "conclude", "write")
_VERSION_KEY = RESULTS_MARK

FIGURES = ("iou_2d", "chamfer_l2", "f_score", "emd", "iou_3d", "iou_multiview", "iou_2d_views")
# Figures of which a smaller value is better.
LOWER_IS_BETTER = frozenset({"chamfer_l2", "emd"})
LOSSES = (
    *("silhouette", "displacement", "laplacian", "normal_consistency", "vertex_symmetry", "image_symmetry"),
    *("camera", "depth", "normals"),
)
STATUSES = ("refined", "kept", "failed")
# Columns that hold a mesh's worth of numbers per row; summaries never read them. They come last in the file, so that
# all others lie together.
HEAVY_COLUMNS = ("symmetry_confidence", "loss_curve", "vertices", "faces")

_FIGURE_UNITS = {
    "iou_2d": ("1", "IoU of the hard silhouette at the camera used and the mask, of the first view"),
    "chamfer_l2": ("object units² × 1000", "Chamfer-L2, both directions, clouds scaled to a largest extent of 2"),
    "f_score": ("1", "F-score at 0.05, clouds scaled to a largest extent of 2"),
    "emd": ("object units", "earth mover's distance, clouds scaled to a largest extent of 2"),
    "iou_3d": ("1", "volumetric IoU, watertight meshes only"),
    "iou_multiview": ("1", "silhouette IoU against the ground truth over 24 views"),
    "iou_2d_views": ("1", "the mean of iou_2d over all of the row's views; null where it has one"),
}


def _field(name: str, dtype: pa.DataType, description: str, unit: str | None = None, nullable: bool = True) -> pa.Field:
    metadata = {"description": description} | ({"unit": unit} if unit else {})
    return pa.field(name, dtype, nullable=nullable, metadata=metadata)


# Not a map, which few readers of Parquet know.
_NAMED = pa.struct([("name", pa.string()), ("value", pa.float64())])


def _list(values: pa.DataType, size: int = -1) -> pa.DataType:
    # Named as Parquet names them, so that a schema is the same before and after a file.
    return pa.list_(pa.field("element", values), size)


def _fields() -> list[pa.Field]:
    text, real = pa.string(), pa.float64()
    return [
        _field("instance_id", text, "the manifest's, as written", nullable=False),
        _field("category", text, "the manifest's"),
        _field("status", text, "refined, kept (the coarse mesh is returned) or failed", nullable=False),
        _field("error_kind", text, "class of the failure; null unless failed"),
        _field("error_message", text, "what was wrong, and where; null unless failed"),
        _field("retry", pa.bool_(), "whether it failed for a reason that may pass; null unless failed"),
        _field("transient_runs", pa.int32(), "runs in a row that ended so for the same fingerprint; null unless retry"),
        _field("kept_reason", text, "why the coarse mesh was kept; null unless kept"),
        _field("attempts", pa.int32(), "how often the instance was tried"),
        _field("run_id", text, "the run that wrote this row: runs/<run_id>.json"),
        _field("batch", text, "the batch the instance was refined in"),
        _field("method", text, "the refinement method"),
        _field("fingerprint", text, "hash of everything the result depends on"),
        _field("content", text, "hash of its input files' bytes; null where some are not local, or were not read"),
        _field("config_hash", text, "hash of the configuration"),
        _field("code_version", text, "version of this package"),
        _field("refined_at", pa.timestamp("us", "UTC"), "when; the newest row of an instance_id is the truth", "UTC"),
        _field("seconds", real, "this instance's share of its batch", "s"),
        *(_field(f"seconds_{name}", real, f"of this instance's own, to {name}", "s") for name in STAGES),
        _field("steps", pa.int32(), "optimisation steps taken"),
        _field("device", text, "cpu or cuda, and which"),
        _field("node", text, "the machine"),
        _field("mesh_uri", text, "the coarse mesh, absolute, without credentials"),
        _field("image_uri", text, "the image, absolute, without credentials"),
        _field("mask_uri", text, "the mask, absolute, without credentials"),
        _field("ground_truth_uri", text, "the ground truth, absolute, without credentials"),
        _field("ignore_uri", text, "what marks ignored pixels, absolute, without credentials"),
        _field("depth_uri", text, "the depth, absolute, without credentials"),
        _field("normals_uri", text, "the normals, absolute, without credentials"),
        _field("views", text, "JSON: the manifest's further views, without credentials; null where there are none"),
        _field("views_uri", text, "the file of further views, absolute, without credentials"),
        _field("symmetry_axis", text, "normal of the symmetry plane, or none; null for an oblique plane"),
        _field("symmetry_plane", pa.list_(real, 4), "its normal and offset: p·normal = offset", "object units"),
        _field(
            "azimuth",
            real,
            "of the camera used, about the mesh file's y; 0 is +z, 90 is +x; null where it looks past the origin",
            "degrees",
        ),
        _field("elevation", real, "of the camera used; null likewise", "degrees"),
        _field("distance", real, "of the camera used, from the origin; null likewise", "object units"),
        _field("fov", real, "field of view over the whole image", "degrees"),
        _field("projection", text, "perspective or orthographic: then 2·distance·tan(fov / 2) units wide at any depth"),
        _field("roll", real, "turn of the camera about its viewing axis", "degrees"),
        _field("offset_x", real, "principal point off the image centre", "NDC"),
        _field("offset_y", real, "principal point off the image centre", "NDC"),
        _field("preparation", text, "JSON: what was done to the coarse mesh before refinement; null where nothing was"),
        _field("camera_source", text, "given, corrected or estimated"),
        _field("intrinsics", pa.list_(real, 4), "fx, fy, cx, cy of the camera used, of the working picture", "pixels"),
        _field("extrinsics", pa.list_(real, 16), "object to camera by rows, in OpenCV's axes; of the camera used"),
        _field("iou_2d_given", real, "IoU of the coarse mesh at the camera that was given", "1"),
        _field("iou_2d_refused", real, "IoU that a refined mesh which was not returned had reached", "1"),
        _field("known_share", real, "known pixels among those that coarse mesh or object cover, in all views", "1"),
        _field("share", real, "how far from the coarse (0) to the refined mesh (1) the returned one is", "1"),
        _field("risk", real, "estimated probability that the refined mesh is worse", "1"),
        _field("notes", _list(text), "what was left out of the input, and why; null where nothing was"),
        *(
            _field(f"{figure}_{when}", real, f"{_FIGURE_UNITS[figure][1]}, {when} refinement", _FIGURE_UNITS[figure][0])
            for figure in FIGURES
            for when in ("before", "after")
        ),
        _field("loss_total", real, "sum of the weighted losses at the returned iterate", "1"),
        *(_field(f"loss_{name}", real, f"{name} loss, weighted, at the returned iterate", "1") for name in LOSSES),
        _field("other_losses", _list(_NAMED), "weighted losses of a method that has others than these", "1"),
        _field("symmetry_confidence", _list(pa.float32()), "per vertex, in (0, 1); null where there is none", "1"),
        _field("loss_curve", _list(pa.float32()), "loss_total over the steps, sampled", "1"),
        _field("vertices", _list(_list(pa.float32(), 3)), "refined positions (V, 3), y up", "object units"),
        _field(
            "faces",
            _list(_list(pa.int32(), 3)),
            "vertex indices (F, 3), the coarse mesh's unless `preparation` says so",
        ),
    ]


RESULT_SCHEMA: pa.Schema = pa.schema(_fields(), metadata={_VERSION_KEY: str(SCHEMA_VERSION).encode()})


def version_of(metadata: Mapping[bytes, bytes] | None) -> int:
    """Version of the schema that a file with this metadata was written with; 0 where it is none of ours."""
    value = (metadata or {}).get(_VERSION_KEY, b"0")
    return int(value) if value.isdigit() else 0
