"""Which code and which packages made a result."""

from __future__ import annotations

import platform
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("numpy", "pyarrow", "ray", "s3fs", "scipy", "torch", "trimesh", "warp-lang")


def code_version() -> str:
    """This package's version; in a job's working directory, where it is not installed, that of its sources."""
    return _version("refine-batch") or _source_version() or "unknown"


def versions() -> dict[str, str]:
    """Versions of Python, this package and what its results depend on."""
    found = {"python": platform.python_version(), "refine-batch": code_version()}
    return found | {name: number for name in PACKAGES if (number := _version(name))}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _source_version() -> str | None:
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    try:
        return tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return None
