"""What an output already holds: the other half of the anti-join."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa

from refine_batch.io.storage import Storage


class CommittedIndex:
    """Hashes of the newest rows' ids and fingerprints, sorted: about 45 bytes a row."""

    @classmethod
    def load(cls, storage: Storage) -> CommittedIndex:
        """Read the key columns of an output's parts; empty where there is no output yet."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Instances with a row."""
        raise NotImplementedError

    def missing(
        self,
        ids: pa.Array | Sequence[str],
        fingerprints: pa.Array | Sequence[str],
        *,
        retry_failed: bool = False,
        force: bool = False,
    ) -> np.ndarray:
        """(N,) bool: True where the row has to be refined. Remembers the ids for `not_in_manifest`."""
        raise NotImplementedError

    def failed(self, ids: pa.Array | Sequence[str]) -> np.ndarray:
        """(N,) bool: True where the newest row of the id has the status `failed`."""
        raise NotImplementedError

    def not_in_manifest(self) -> int:
        """Instances of the output that no call of `missing` has named."""
        raise NotImplementedError

    @property
    def newest(self) -> datetime | None:
        """The latest `refined_at` (UTC)."""
        raise NotImplementedError
