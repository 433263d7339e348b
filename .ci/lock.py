"""Turn the report of `pip install --dry-run --report` into requirements.lock (see `make lock`).

What torch itself pins (the nvidia, CUDA and triton packages) and its local version (`+cpu`) are left out, so that one
lock file installs the CPU build on a machine without a GPU and the CUDA build on one with it.
"""

import json
import re
import sys
from pathlib import Path

HEADER = """\
# Every package of the environment at the version it was tested with. Written by `make lock`; do not edit.
# torch stands without its local version and without the CUDA packages: torch pins those itself where they are needed.
"""
PINNED_BY_TORCH = re.compile(r"^(nvidia|cuda|triton|pytorch-triton)(-|$)")


def pins(report: dict, project: str) -> list[str]:
    """`name==version` of everything in the report but the project itself, sorted."""
    found = {}
    for entry in report["install"]:
        name = re.sub(r"[-_.]+", "-", entry["metadata"]["name"]).lower()
        if name != project and not PINNED_BY_TORCH.match(name):
            found[name] = entry["metadata"]["version"].partition("+")[0]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


if __name__ == "__main__":
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stdout.write(HEADER + "\n".join(pins(report, "refine-batch")) + "\n")
