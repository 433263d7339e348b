"""TF32 on CUDA, on or off for the length of a call and afterwards as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def tensor_float_32(on: bool, device: torch.device) -> Iterator[None]:
    """Matrix products and convolutions on CUDA in TF32 (10 bits of mantissa), or in full float32.

    torch's own default is off for products but on for convolutions. The flags are the process's; on a CPU they are
    left alone.
    """
    if device.type != "cuda":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = on
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
