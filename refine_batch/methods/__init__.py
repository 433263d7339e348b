"""Refinement methods: each takes a prepared batch and gives one outcome per instance."""

from refine_batch.methods.base import Method, MethodOutput, PreparedInstance, View, load_method

__all__ = ["Method", "MethodOutput", "PreparedInstance", "View", "load_method"]
