"""A function of tensors as a CUDA graph: recorded once, then launched as a whole instead of kernel by kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

# Calls before the recording, in which libraries choose their algorithms and take their memory.
WARM_UP = 3
_told: set[str] = set()
_wanted = True


@contextmanager
def recording(on: bool) -> Iterator[None]:
    """Whether functions that are made meanwhile, in any thread, may be recorded; to compare with and without."""
    global _wanted
    before, _wanted = _wanted, on
    try:
        yield
    finally:
        _wanted = before


class Captured:
    """`function`, replayed from a CUDA graph on a GPU; elsewhere, and where recording fails, called as it is.

    Parameters
    ----------
    function
        Takes tensors and returns a tuple of tensors. What else it reads stays where it is in memory, and nothing in it
        waits for the device or depends on values: a graph repeats the launches, not the decisions.
    name
        What is recorded, for the one line that says that it could not be.
    device
        Where the tensors are.
    state
        Tensors that the function changes in place (an optimiser's moments, say): the warm-up's changes are taken back.
    record
        False: never record.

    The tensors that a call returns are overwritten by the next: what is to last is cloned.
    """

    def __init__(
        self,
        function: Callable[..., tuple[Tensor, ...]],
        name: str,
        device: torch.device,
        *,
        state: Sequence[Tensor] = (),
        record: bool = True,
    ):
        self._function, self._name, self._device, self._state = function, name, device, list(state)
        self._plain = not (record and _wanted and device.type == "cuda")
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._outputs: tuple[Tensor, ...] = ()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The function's outputs; every call's inputs have the shapes of the first's."""
        if not self._plain and self._graph is None:
            self._try_to_record(inputs)
        if self._plain or self._graph is None:
            return self._function(*inputs)
        for static, given in zip(self._inputs, inputs, strict=True):
            static.copy_(given)
        self._graph.replay()
        return self._outputs

    @property
    def recorded(self) -> bool:
        return self._graph is not None

    def _try_to_record(self, inputs: Sequence[Tensor]) -> None:
        kept = [tensor.detach().clone() for tensor in self._state]
        try:
            self._inputs = [tensor.detach().clone() for tensor in inputs]
            self._graph, self._outputs = self._record()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._plain, self._inputs, self._outputs = True, [], ()
            if self._name not in _told:
                _told.add(self._name)
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                logger.warning("%s could not be recorded as a CUDA graph and runs without one: %s", self._name, reason)
        finally:
            with torch.no_grad():
                for tensor, before in zip(self._state, kept, strict=True):
                    tensor.copy_(before)

    def _record(self) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]:
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._function(*self._inputs)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # thread_local: what other threads of the process do with the device meanwhile is theirs.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = self._function(*self._inputs)
        return graph, outputs
