"""Parts: the files of `results/`, each put whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from refine_batch.io.storage import Storage, StoredFile

RESULTS = "results"


def part_name(run_id: str, keys: Iterable[bytes | str]) -> str:
    """Name of the part that holds these rows: the same for a repeated attempt, which so overwrites itself."""
    raise NotImplementedError


def write_part(storage: Storage, table: pa.Table, name: str) -> str:
    """Put the table at `results/<name>` with one write; `storage` is the output folder. Returns the path."""
    raise NotImplementedError


def read_part(storage: Storage, path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A part as a table of the present RESULT_SCHEMA; columns an older version lacks are null.

    Raises
    ------
    UsageError
        A newer version of this package wrote it.
    """
    raise NotImplementedError


def list_parts(storage: Storage) -> list[StoredFile]:
    """The parts of an output folder, sorted by path."""
    raise NotImplementedError
