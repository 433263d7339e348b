"""Where Ray's workers find this package: the driver's own copy of it, and nothing that lies beside it.

By itself Ray puts the driver's working directory and its script's folder first on every worker's path. A `numpy.py`
there would be imported for NumPy, and another checkout in this one's place.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
# What only a driver, or a person at a terminal, needs.
_DRIVERS_OWN = ("__main__", "cli", "job", "nightly", "report")


class CodeFolder:
    """A folder that holds a link to this package and nothing else."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="refine-batch-")
        (Path(self._folder) / PACKAGE.name).symlink_to(PACKAGE)

    def job_config(self) -> Any:
        """What `ray.init` is to be told. On other machines the folder is not there, and what is installed is used."""
        from ray.job_config import JobConfig

        paths = [self._folder]

        class Job(JobConfig):
            """A job whose workers get these folders on their path, whatever Ray means to add."""

            @property
            def _py_driver_sys_path(self) -> list[str]:
                return list(paths)

            @_py_driver_sys_path.setter
            def _py_driver_sys_path(self, value: object) -> None: ...

        return Job()

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def import_the_rest() -> None:
    """Import what this package's work may come to import, while it can be had.

    An actor that is cut off for a while may outlive its driver, which takes the folder along, as Ray takes a working
    directory that was submitted. What the actor has in hand is to end as it would have.
    """
    for path in sorted(PACKAGE.rglob("*.py")):
        *parents, name = path.relative_to(PACKAGE).with_suffix("").parts
        parts = parents if name == "__init__" else [*parents, name]
        if parts and parts[0] not in _DRIVERS_OWN:
            importlib.import_module(".".join([PACKAGE.name, *parts]))


@cache
def code_digest() -> str:
    """16 hex digits of this package's sources: the same wherever the same code is."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\x00".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def search_path() -> tuple[str, ...]:
    """Where the driver finds a method that is not this package's: its path, and the working directory last."""
    folders = [os.path.abspath(folder) for folder in [*sys.path, os.getcwd()]]
    return tuple(dict.fromkeys(folders))


def extend_path(folders: tuple[str, ...]) -> None:
    """Let this process find them too, after everything it finds already."""
    known = {os.path.abspath(folder) for folder in sys.path}
    sys.path.extend(folder for folder in folders if folder not in known)
