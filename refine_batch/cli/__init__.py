"""The command line `refine-batch`: one file per command, each imported only when it is called."""

from refine_batch.cli.group import main
from refine_batch.job.garbage import seldom

__all__ = ["main"]

seldom()
