"""The columns of `results/*.parquet`, their units, and the schema's version."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 1
FIGURES = ("iou_2d", "chamfer_l2", "f_score", "emd", "iou_3d", "iou_multiview")
# Figures of which a smaller value is better.
LOWER_IS_BETTER = frozenset({"chamfer_l2", "emd"})
LOSSES = ("silhouette", "displacement", "laplacian", "normal_consistency", "vertex_symmetry", "image_symmetry")
STATUSES = ("refined", "kept", "failed")
# Columns that hold a mesh's worth of numbers per row; summaries never read them.
HEAVY_COLUMNS = ("symmetry_confidence", "loss_curve", "vertices", "faces")

RESULT_SCHEMA: pa.Schema = pa.schema([])
