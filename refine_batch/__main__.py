"""`python -m refine_batch` is `refine-batch`."""

from refine_batch.cli import main

main(prog_name="refine-batch")
