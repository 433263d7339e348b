"""What a Ray exception means for the batch that met it."""

from __future__ import annotations

import ray.exceptions as rx

from refine_batch.errors import ErrorKind, InstanceError, UsageError, out_of_memory
from refine_batch.io.storage import StorageError, StoreAwayError, redact
from refine_batch.job.batch import Fault
from refine_batch.job.crew import CrewError

UNREACHABLE = "its node could not be reached any more"


def fault_of(error: BaseException, *, node_gone: bool = False) -> Fault:
    """The fault behind an exception of `ray.get` on an actor's answer.

    Parameters
    ----------
    node_gone
        Whether the actor's node has left the cluster, which no batch is blamed for.
    """
    if isinstance(error, rx.OutOfMemoryError) or _killed_for_memory(error):
        return Fault(ErrorKind.OUT_OF_MEMORY, "its process was ended because the node ran out of memory")
    if isinstance(error, rx.RayTaskError):
        return _raised(error.cause if isinstance(error.cause, Exception) else error)
    preempted = isinstance(error, rx.RayActorError) and error.preempted
    if node_gone or preempted or isinstance(error, rx.NodeDiedError) or "its node has died" in str(error):
        return Fault(ErrorKind.PROCESS_DIED, "the node went away", blameless=True)
    if isinstance(error, rx.ActorUnavailableError):
        return Fault(ErrorKind.PROCESS_DIED, UNREACHABLE, blameless=True)
    if isinstance(error, rx.ActorDiedError) and not error.actor_init_failed:
        # Ray cannot tell these apart either.
        return Fault(ErrorKind.PROCESS_DIED, "its process died: it crashed, ended itself or was killed")
    return Fault(ErrorKind.PROCESS_DIED, f"its process died: {_gist(error)}")


def _raised(cause: Exception) -> Fault:
    if isinstance(cause, UsageError):
        return Fault(ErrorKind.INTERNAL, redact(str(cause)), fatal=True)
    if isinstance(cause, StorageError):
        text = f"its rows could not be written: {redact(str(cause))}"
        return Fault(ErrorKind.STORAGE, text, passing=isinstance(cause, StoreAwayError))
    if isinstance(cause, CrewError):
        return Fault(ErrorKind.PROCESS_DIED, str(cause))
    if isinstance(cause, InstanceError):
        return Fault(cause.kind, redact(cause.message))
    if out_of_memory(cause):
        return Fault(ErrorKind.OUT_OF_MEMORY, "its process ran out of memory")
    return Fault(ErrorKind.INTERNAL, redact(f"{type(cause).__name__}: {_gist(cause)}"))


def _killed_for_memory(error: BaseException) -> bool:
    """Whether Ray's memory monitor ended an actor, which Ray may report as a plain death, told apart by its text.

    The text of every other death speaks of memory too, as one of its common causes.
    """
    signs = ("running low on memory", "OOM kill reason")
    return isinstance(error, rx.RayActorError) and any(sign in str(error) for sign in signs)


def _gist(error: BaseException) -> str:
    """The telling line of an exception's text, where Ray's runs over many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return redact(lines[-1] if lines else type(error).__name__)[:300]
