"""What a layout finds: entries that became rows, and those that were left out with their reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import pyarrow as pa

Row = Mapping[str, Any]


class Reason(StrEnum):
    """Why something is not in the manifest."""

    FILTERED = "filtered"  # asked for: counted, not listed
    MESH_MISSING = "mesh_missing"
    IMAGE_MISSING = "image_missing"
    IMAGE_BROKEN = "image_broken"
    MASK_MISSING = "mask_missing"
    MASK_UNUSABLE = "mask_unusable"
    CAMERA_MISSING = "camera_missing"
    CAMERA_INVALID = "camera_invalid"
    GROUND_TRUTH_MISSING = "ground_truth_missing"
    GROUND_TRUTH_BROKEN = "ground_truth_broken"
    ENTRY_BROKEN = "entry_broken"
    PATH_UNSAFE = "path_unsafe"
    AMBIGUOUS = "ambiguous"
    CUT_SHORT = "cut_short"
    STORAGE = "storage"


@dataclass(frozen=True)
class LeftOut:
    """Something of the source that is not in the manifest: its name there, why, and a sentence for a person."""

    name: str
    reason: Reason
    message: str = ""


class LeftOutError(Exception):
    """Ends the reading of one entry."""

    def __init__(self, reason: Reason, message: str):
        super().__init__(reason, message)
        self.reason, self.message = reason, message


class Layout(Protocol):
    """A dataset on disk. `entries` is cheap and in a fixed order; `rows` may read and write files, in threads."""

    extra_fields: tuple[pa.Field, ...]

    def entries(self) -> Iterator[Any]:
        """What may become rows; a `LeftOut` among them is passed on as it is."""
        ...

    def rows(self, entry: Any) -> list[Row | LeftOut]:
        """The rows of an entry, URIs absolute, or why there are none."""
        ...
