"""Which device is meant."""

from __future__ import annotations

import torch

from refine_batch.errors import UsageError


def choose_device(name: str) -> torch.device:
    """The torch device called `name`, `auto` being CUDA where there is one.

    Raises
    ------
    UsageError
        There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device {name!r} is unknown; choose auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not supported; choose auto, cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count() or "no"
        raise UsageError(f"device {name!r} was asked for, but torch finds {found} CUDA device(s) here")
    return device
