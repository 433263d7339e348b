"""Entry point of `ray job submit --working-dir . -- python jobs/nightly.py MANIFEST OUTPUT …`: one night."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from refine_batch.cli.nightly import nightly

if __name__ == "__main__":
    nightly(prog_name="nightly.py")
