"""The encoder's pretrained weights, where `--encoder-weights` names a file: fetched as every other input is."""

from __future__ import annotations

from refine_batch.dataset.stamps import MISSING, UNREADABLE, stamp_one
from refine_batch.errors import UsageError
from refine_batch.io.storage import StorageError, fetch
from refine_batch.io.uri import is_local, redact_uri

_KEYWORDS = ("random", "imagenet")
_LARGEST = 1 << 30


def provide_encoder(source: str, s3_endpoint: str | None = None) -> None:
    """Load the weights into this process, so that the methods find them.

    Raises
    ------
    UsageError
        They cannot be had, or are not a ResNet-18's.
    """
    if source == "random":
        return
    from refine_batch.networks.weights import give_encoder, load_encoder

    if source not in _KEYWORDS and not is_local(source):
        try:
            give_encoder(source, fetch(source, s3_endpoint=s3_endpoint, max_bytes=_LARGEST))
        except FileNotFoundError as error:
            raise UsageError(f"encoder weights {redact_uri(source)}: there is no such file") from error
        except StorageError as error:
            raise UsageError(f"encoder weights: {error}") from error
    load_encoder(source)


def encoder_stamp(source: str, s3_endpoint: str | None = None) -> str:
    """Text that changes when the file of the weights does; empty where there is none."""
    if source in _KEYWORDS:
        return ""
    found = stamp_one(source, s3_endpoint)
    return "" if found in (MISSING, UNREADABLE) else found
