"""Refinement methods: each takes a prepared batch and gives one outcome per instance."""

from refine_batch.methods.base import Costs, Method, MethodOutput, PreparedInstance, View, costing, load_method

__all__ = ["Costs", "Method", "MethodOutput", "PreparedInstance", "View", "costing", "load_method"]
