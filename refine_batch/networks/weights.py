"""Pretrained encoder weights: a ResNet-18 state dict with torchvision's names, never a pickle of anything else."""

from __future__ import annotations

import functools
import io
import pickle
import re
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from refine_batch.errors import UsageError
from refine_batch.networks.encoder import random_encoder

# torchvision's ResNet18_Weights.IMAGENET1K_V1.
IMAGENET = "https://download.pytorch.org/models/resnet18-f37072fd.pth"

# By source: files that a caller fetched itself, because that takes more than fsspec's defaults (an S3 endpoint, say).
_given: dict[str, bytes] = {}


def give_encoder(source: str, data: bytes) -> None:
    """Let `load_encoder(source)` read these bytes in this process, from now on."""
    if _given.get(source) != data:
        _given[source] = data
        load_encoder.cache_clear()


@functools.lru_cache(maxsize=2)
def load_encoder(source: str) -> dict[str, Tensor] | None:
    """The encoder's weights by name, float32 on the CPU, or None for `random`: each instance then draws its own.

    Parameters
    ----------
    source
        `random`, `imagenet` (downloaded once, kept in torch's cache), a local path, or any fsspec URI.

    Raises
    ------
    UsageError
        The weights cannot be had, or are not a ResNet-18's.
    """
    if source == "random":
        return None
    try:
        state = _read(source)
    except (OSError, ImportError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        shown = _shown(source)
        raise UsageError(
            f"encoder weights {shown!r} cannot be had ({reason.replace(source, shown)}); give random, imagenet, or the "
            "path or URI of a torchvision-format ResNet-18 state dict"
        ) from None  # the error below may name the whole URI
    return _select(state, _shown(source))


def _shown(source: str) -> str:
    """A URI without user, password and query."""
    if "://" not in source:
        return source
    bare = re.sub(r"://[^/?#]*@", "://***@", source)
    return re.sub(r"\?.*", "?***", bare)


def _read(source: str) -> object:
    if source in _given:
        return _load(io.BytesIO(_given[source]))
    if source == "imagenet":
        return torch.hub.load_state_dict_from_url(IMAGENET, map_location="cpu", weights_only=True)
    if "://" not in source:
        return _load(Path(source).expanduser())
    import fsspec

    with fsspec.open(source, "rb") as file:
        return _load(file)


def _load(file: Path | BinaryIO) -> object:
    # weights_only: tensors and plain containers; nothing in the file is ever executed.
    return torch.load(file, map_location="cpu", weights_only=True)


def _select(state: object, source: str) -> dict[str, Tensor]:
    """The entries that the encoder needs, with their shapes checked."""
    if not isinstance(state, dict):
        raise UsageError(f"encoder weights {source!r} hold a {type(state).__name__}, not a state dict")
    chosen = {}
    for name, like in random_encoder(torch.Generator()).items():
        found = state.get(name)
        if not isinstance(found, Tensor) or found.shape != like.shape:
            what = "is missing" if not isinstance(found, Tensor) else f"has the shape {tuple(found.shape)}"
            raise UsageError(
                f"encoder weights {source!r}: {name!r} {what}; a ResNet-18 has it with the shape {tuple(like.shape)}"
            )
        chosen[name] = found.float()
    return chosen
