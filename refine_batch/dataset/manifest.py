"""The dataset manifest: Parquet, CSV or JSON Lines, checked and streamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from refine_batch.dataset.row import ManifestRow

__all__ = ["MANIFEST_SCHEMA", "Manifest", "ManifestRow"]

_TEXT = ("instance_id", "mesh_uri", "image_uri", "mask_uri")
_NUMBERS = ("azimuth", "elevation", "distance", "fov", "roll", "offset_x", "offset_y")
MANIFEST_SCHEMA = pa.schema(
    [pa.field(n, pa.string(), nullable=n != "instance_id") for n in _TEXT]
    + [pa.field(n, pa.float64()) for n in _NUMBERS]
    + [pa.field(n, pa.string()) for n in ("symmetry_axis", "ground_truth_uri", "category")]
)


@dataclass(frozen=True)
class Manifest:
    """A manifest that exists, can be read and has the columns it needs. Pickles; holds no rows.

    Attributes
    ----------
    uri
        The file, or the folder of Parquet files, absolute.
    folder
        What relative URIs are relative to.
    ignored_columns
        Names the manifest has and this project does not know.
    """

    uri: str
    folder: str
    ignored_columns: tuple[str, ...]
    s3_endpoint: str | None = None

    @classmethod
    def open(cls, uri: str, s3_endpoint: str | None = None) -> Manifest:
        """Check cheaply that the manifest can be used: there, readable, its columns and their types.

        Raises
        ------
        UsageError
            It cannot; one sentence says why.
        """
        raise NotImplementedError

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream the rows in order as batches of MANIFEST_SCHEMA (or those of its columns), URIs absolute.

        Raises
        ------
        UsageError
            A value has the wrong type, or the file is cut short: named with its row.
        """
        raise NotImplementedError

    def check_ids(self) -> int:
        """Stream once through everything that would stop a run; the number of rows.

        Raises
        ------
        UsageError
            No rows, an empty id, an id that stands twice (with both row numbers, counted from 1), or a value that
            `batches` refuses.
        """
        raise NotImplementedError

    def fingerprint(self) -> str:
        """32 hex digits that change when the manifest's files do (ETag, or size and time)."""
        raise NotImplementedError
