"""A synthetic dataset with ground truth: objects, what a single-view method would make of them, and their images."""

from refine_batch.dataset.synth.dataset import SynthInstance, make_instance, write_dataset
from refine_batch.dataset.synth.options import SynthOptions

__all__ = ["SynthInstance", "SynthOptions", "make_instance", "write_dataset"]
