"""Figures of merit, one module each; `measure` puts them together."""

from refine_batch.figures.measure import Evaluator, measure

__all__ = ["Evaluator", "measure"]
