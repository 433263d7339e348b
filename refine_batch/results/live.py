"""The newest row of an instance_id is the truth: reading only those."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from refine_batch.io.storage import Storage


def live_rows(
    storage: Storage,
    columns: Sequence[str] | None = None,
    *,
    filter: pc.Expression | None = None,
    ids: Iterable[str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Stream the newest row of every instance, each once, in no particular order.

    Parameters
    ----------
    columns
        Read only these; leave out the heavy ones (`vertices`, `faces`) wherever possible.
    filter
        Over `columns`; applied after the newest rows were chosen.
    ids
        Only these instances: row groups that hold none of them are not read.
    """
    raise NotImplementedError
