"""`refine-batch report`: an output as one page to look at."""

from refine_batch.report.report import write_report

__all__ = ["write_report"]
