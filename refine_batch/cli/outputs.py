"""Opening an output folder that commands only read."""

from __future__ import annotations

from refine_batch.errors import UsageError
from refine_batch.io.storage import Storage, redact
from refine_batch.io.uri import normalise
from refine_batch.results.lock import holder_of
from refine_batch.results.parts import RESULTS, list_parts
from refine_batch.results.run_record import RUNS


def open_output(uri: str, s3_endpoint: str | None, *, begun: bool = False) -> Storage:
    """The output folder at `uri`.

    Parameters
    ----------
    begun
        That a run has begun is enough.

    Raises
    ------
    UsageError
        There are no results in it.
    """
    storage = Storage(normalise(uri), s3_endpoint)
    if not list_parts(storage) and not (begun and (holder_of(storage) or storage.list(RUNS))):
        raise UsageError(f"{redact(storage.uri)} holds no results; {_hint(storage)}")
    return storage


def _hint(storage: Storage) -> str:
    folder, _, name = storage.uri.rpartition("/")
    if name in (RESULTS, RUNS) and list_parts(Storage(folder, storage.s3_endpoint)):
        return f"give the folder above it, {redact(folder)}"
    return "give the OUTPUT of a `refine-batch run`"
