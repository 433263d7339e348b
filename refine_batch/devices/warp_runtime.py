"""Torch tensors into Warp kernels without copies, on torch's stream."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import torch
import warp as wp
from torch import Tensor

# Modules of kernels and the devices that they are loaded on. Warp loads one at its first launch, and not safely from
# two threads at once: of the loser's launch remains a KeyError.
_loaded: set[tuple[wp.Module, str]] = set()
_loading = threading.RLock()
_started = threading.Event()

# Warp announces itself and every module it loads: no news to our users.
wp.config.log_level = wp.LOG_ERROR


def start() -> None:
    """Initialise Warp once in this process; without a GPU its native code complains to stderr, past any logging."""
    if _started.is_set():
        return
    with _loading:
        if not _started.is_set():
            with contextlib.nullcontext() if torch.cuda.is_available() else _silent_stderr():
                wp.init()
            _started.set()


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def as_array(tensor: Tensor, dtype: type) -> Any:
    """A Warp array of a contiguous tensor's memory; where `dtype` is a vector the last dimension is its components.

    A bare descriptor, which takes half the time of a `wp.array` to make and does not keep the tensor alive.
    """
    if not tensor.is_contiguous():
        raise ValueError(
            f"as_array: expected a contiguous tensor, got strides {tensor.stride()}, shape {tuple(tensor.shape)}"
        )
    return wp.from_torch(tensor.detach(), dtype=dtype, return_ctype=True)


def launch(kernel: wp.Kernel, dim: int | tuple[int, ...], arguments: list) -> None:
    """Launch `kernel` on the device of its tensors, in order with torch's work there."""
    _launched(kernel, dim, arguments, record_cmd=False)


def recorded(kernel: wp.Kernel, dim: int | tuple[int, ...], arguments: list) -> wp.Launch:
    """A launch to be made again and again with the same tensors, by its own `launch`; made ready once, it takes a fifth
    of the time. The tensors, which are on the CPU, must be kept by who keeps this."""
    return _launched(kernel, dim, arguments, record_cmd=True)


def _launched(kernel: wp.Kernel, dim: int | tuple[int, ...], arguments: list, record_cmd: bool) -> Any:
    start()
    device = next(a.device for a in arguments if isinstance(a, Tensor))
    # The kernel's own types: the shape alone does not tell three values from one vector.
    inputs = [
        as_array(a, parameter.type.dtype) if isinstance(a, Tensor) else a
        for a, parameter in zip(arguments, kernel.adj.args, strict=True)
    ]
    stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None
    where = kernel.module, str(device)
    on = wp.device_from_torch(device)
    with contextlib.nullcontext() if where in _loaded else _loading:
        command = wp.launch(
            kernel, dim=dim, inputs=inputs, device=on, stream=stream, record_tape=False, record_cmd=record_cmd
        )
    _loaded.add(where)
    return command
