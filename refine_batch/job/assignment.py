"""What every actor of a run is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from refine_batch.config import RefineConfig
from refine_batch.io.storage import Storage


@dataclass(frozen=True)
class Assignment:
    """What every actor of a run is told at its start.

    Parameters
    ----------
    part_bytes
        Largest part; a batch with more than that is written as several.
    device
        `auto`, `cpu` or `cuda`.
    threads
        Of torch on a CPU.
    cores
        For the host's part; with two or more there is a process for each.
    batch_size
        Instances on the device together, at most; None: what suits it.
    code_digest
        Of the driver's code; an actor that would run another refuses. Empty: it is not asked.
    search_path
        Folders in which the driver finds a method that is not this package's.
    """

    run_id: str
    output: Storage
    config: RefineConfig
    code_version: str
    s3_endpoint: str | None = None
    part_bytes: int = 32_000_000
    loaders: int = 8
    max_pixels: int = 1 << 26
    threads: int = 1
    cores: int = 1
    batch_size: int | None = None
    device: str = "auto"
    not_before: datetime | None = None
    code_digest: str = ""
    search_path: tuple[str, ...] = ()
