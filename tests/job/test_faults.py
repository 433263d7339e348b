import pytest
import ray.exceptions as rx
from ray.core.generated.common_pb2 import ActorDiedErrorContext, NodeDeathInfo

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.io.storage import StorageError
from refine_batch.job.faults import fault_of
from refine_batch.job.outcomes import failed

NO_MEMORY = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: 8 bytes"


def raised(cause):
    return rx.RayTaskError("work", "Traceback …", cause).as_instanceof_cause()


def died(**context):
    return rx.ActorDiedError(ActorDiedErrorContext(actor_id=b"\x00" * 16, **context))


@pytest.mark.parametrize(
    ("error", "kind", "blameless"),
    [
        (died(error_message="common causes include: killed by the OOM killer"), ErrorKind.PROCESS_DIED, False),
        (died(error_message="The actor died because its node has died."), ErrorKind.PROCESS_DIED, True),
        (
            died(node_death_info=NodeDeathInfo(reason=NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED)),
            ErrorKind.PROCESS_DIED,
            True,
        ),
        (
            died(error_message="1 worker(s) were killed due to the node running low on memory."),
            ErrorKind.OUT_OF_MEMORY,
            False,
        ),
        (rx.NodeDiedError("gone"), ErrorKind.PROCESS_DIED, True),
        (rx.OutOfMemoryError("…"), ErrorKind.OUT_OF_MEMORY, False),
        (rx.ActorUnavailableError("…", None), ErrorKind.PROCESS_DIED, True),
        (raised(StorageError("503")), ErrorKind.STORAGE, False),
        (raised(MemoryError()), ErrorKind.OUT_OF_MEMORY, False),
        (raised(RuntimeError(NO_MEMORY)), ErrorKind.OUT_OF_MEMORY, False),
        (raised(ValueError("odd")), ErrorKind.INTERNAL, False),
        (raised(InstanceError(ErrorKind.DIVERGED, "NaN")), ErrorKind.DIVERGED, False),
    ],
)
def test_each_exception_becomes_the_right_fault(error, kind, blameless):
    fault = fault_of(error)
    assert (fault.kind, fault.blameless) == (kind, blameless)


def test_a_lost_node_is_nobodys_fault():
    assert fault_of(died(error_message="Worker exit type: SYSTEM_ERROR"), node_gone=True).blameless


def test_messages_are_one_line_without_credentials():
    fault = fault_of(raised(StorageError("PUT http://key:geheim@host/b?X-Amz-Signature=abcdef failed")))
    assert "geheim" not in fault.message
    assert "abcdef" not in fault.message
    assert "\n" not in fault_of(died(error_message="a\nb")).message


class OutOfMemoryError(RuntimeError):
    """Called as a device's is."""


@pytest.mark.parametrize("error", [MemoryError("no room"), OutOfMemoryError("no room"), RuntimeError(NO_MEMORY)])
def test_whoever_runs_out_of_memory_says_so(error):
    """Beside the device as on it: torch says it of the CPU's memory in a plain RuntimeError."""
    outcome = failed("a", error)
    assert outcome.error_kind == ErrorKind.OUT_OF_MEMORY
    assert outcome.error_message == f"out of memory: {error}"
