"""Entry point of `ray job submit --working-dir . -- python jobs/refine.py MANIFEST OUTPUT …`: `refine-batch run`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from refine_batch.cli.run import run

if __name__ == "__main__":
    run(prog_name="refine.py")
