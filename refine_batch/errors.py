"""Errors that a person is meant to read.

Two kinds only: `UsageError` is the user's to mend and stops a run before it starts; `InstanceError` belongs to one
instance, which becomes a `failed` row while its neighbours go on.
"""

from enum import StrEnum


class ErrorKind(StrEnum):
    """Why an instance failed; the value stands in the column `error_kind`.

    A kind is *transient* where what failed was around the row (a store, a network, a node's memory), so that the same
    row may succeed later without anybody's changing it; every other kind is final.
    """

    MISSING_FILE = "missing_file"
    STORAGE = "storage"
    ACCESS_DENIED = "access_denied"
    MESH_BROKEN = "mesh_broken"
    MESH_EMPTY = "mesh_empty"
    MESH_TOO_LARGE = "mesh_too_large"
    IMAGE_BROKEN = "image_broken"
    IMAGE_TOO_LARGE = "image_too_large"
    MASK_MISSING = "mask_missing"
    MASK_EMPTY = "mask_empty"
    MASK_IMPLAUSIBLE = "mask_implausible"
    SIZE_MISMATCH = "size_mismatch"
    CAMERA_INVALID = "camera_invalid"
    ROW_INVALID = "row_invalid"
    DIVERGED = "diverged"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    PROCESS_DIED = "process_died"
    INTERNAL = "internal"

    @property
    def transient(self) -> bool:
        """Whether the row is worth trying again as it is."""
        return self in _TRANSIENT


# Permissions are granted and credentials renewed without a trace in any input, so nothing else would tell.
_TRANSIENT = frozenset({ErrorKind.STORAGE, ErrorKind.ACCESS_DENIED, ErrorKind.OUT_OF_MEMORY})


class RefineBatchError(Exception):
    """Base of every error this package raises on purpose."""


class UsageError(RefineBatchError):
    """Arguments, configuration or a manifest that cannot be used: nothing was started (exit status 2)."""


class InstanceError(RefineBatchError):
    """One instance cannot be refined.

    Parameters
    ----------
    kind
        The class of the fault, for counting.
    message
        One sentence for a person: what was wrong and where (URI, column), and what would be right.
    """

    def __init__(self, kind: ErrorKind, message: str):
        super().__init__(kind, message)
        self.kind = ErrorKind(kind)
        self.message = message

    def __str__(self) -> str:
        return self.message


def out_of_memory(error: BaseException) -> bool:
    """Whether memory was all that was missing."""
    # By its name, as torch need not be there; of the CPU's memory torch says so in a plain RuntimeError.
    lacking = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return lacking or "can't allocate memory" in str(error)


def as_fault(error: BaseException) -> InstanceError:
    """What an instance met as its fault: itself where it is one, else of what nobody foresaw."""
    if isinstance(error, InstanceError):
        return error
    if out_of_memory(error):
        return InstanceError(ErrorKind.OUT_OF_MEMORY, f"out of memory: {error}".rstrip(": "))
    return InstanceError(ErrorKind.INTERNAL, f"{type(error).__name__}: {error}")
