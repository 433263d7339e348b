"""The per-instance networks, stored and run as one stack of parameters per batch."""

from refine_batch.networks.refiner import Parameters, initial_parameters, refine_vertices, stack_parameters
from refine_batch.networks.sampling import Sampler

__all__ = ["Parameters", "Sampler", "initial_parameters", "refine_vertices", "stack_parameters"]
