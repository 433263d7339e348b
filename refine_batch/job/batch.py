"""What travels between the driver and its actors: rows to refine, and what became of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from refine_batch.dataset.row import ManifestRow
from refine_batch.errors import ErrorKind
from refine_batch.instance import Status


@dataclass(frozen=True)
class Task:
    """One manifest row to be refined, with the fingerprint of everything its result depends on.

    Parameters
    ----------
    transient_runs
        Runs before this one in which it failed for a reason that may pass.
    """

    row: ManifestRow
    fingerprint: str
    transient_runs: int = 0


@dataclass(frozen=True)
class Batch:
    """Rows that one actor refines together.

    Parameters
    ----------
    tries
        How often it was begun and came to nothing through a fault that it may have caused.
    losses
        How often it was begun on a node that then went away, which is nobody's fault.
    """

    tasks: tuple[Task, ...]
    tries: int = 0
    losses: int = 0

    def __len__(self) -> int:
        return len(self.tasks)

    @cached_property
    def name(self) -> str:
        """16 hex digits of its rows: the same for the same rows, whoever refines them and how often."""
        digest = hashlib.blake2b(digest_size=8)
        for task in self.tasks:
            digest.update(f"{task.row.instance_id}\x00{task.fingerprint}\x00".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    @property
    def attempt(self) -> int:
        """Number of the attempt that is about to be made, from 1."""
        return self.tries + 1


@dataclass(frozen=True)
class RowOutcome:
    """What became of one row, once it is in storage: no meshes, so that the driver stays small."""

    instance_id: str
    status: Status
    error_kind: str | None = None
    error_message: str | None = None
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Fault:
    """Why a batch came to nothing.

    Parameters
    ----------
    blameless
        Nothing in the batch can have caused it (a node was taken away).
    fatal
        Every batch would meet it (a configuration that cannot be used).
    """

    kind: ErrorKind
    message: str
    blameless: bool = False
    fatal: bool = False
