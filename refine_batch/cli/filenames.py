"""File names from instance ids, which may hold anything: never a path, never two ids with one name."""

from __future__ import annotations

import hashlib
import re

# Anything else, and names that some system reserves, is replaced and told apart by a hash after a sign that no id used
# as it stands can hold.
SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|index)(\..*)?", re.IGNORECASE)
MARK = "~"


class FileNames:
    """Names without suffix, unique also where the file system does not tell upper from lower case; with `dots` or
    without any."""

    def __init__(self, *, dots: bool = True) -> None:
        self._dots = dots
        self._taken: dict[str, str] = {}

    def of(self, instance_id: str) -> str:
        """The name of an instance; the same each time it is asked for."""
        name = instance_id
        if (
            not SAFE.fullmatch(name)
            or RESERVED.fullmatch(name)
            or name.endswith((".", ".coarse"))
            or ("." in name and not self._dots)
        ):
            name = hashed(instance_id)
        if self._taken.setdefault(name.lower(), instance_id) != instance_id:
            name = hashed(instance_id)
            self._taken[name.lower()] = instance_id
        return name


def hashed(instance_id: str) -> str:
    """What is legible of the id, and 16 hex digits of all of it."""
    legible = re.sub(r"[^A-Za-z0-9_-]+", "_", instance_id).strip("_-")[:60]
    digest = hashlib.blake2b(instance_id.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{legible}{MARK}{digest}"
