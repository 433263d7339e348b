"""REFINE's network (Leung et al., CVPRW 2022, section 3.1), one per instance, as a batch of stacked parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refine_batch.mesh.batch import MeshBatch
from refine_batch.networks.encoder import CHANNELS, encode, random_encoder
from refine_batch.networks.sampling import Sampler
from refine_batch.networks.stacked import channels_last, linear

WIDTH = 128
GRAPH_LAYERS = 8
GRAPH_DEVIATION = 0.01
CONFIDENCE_WIDTHS = (WIDTH, 32, 16, 1)

Parameters = dict[str, Tensor]


def initial_parameters(seed: int, zero_start: bool, encoder: dict[str, Tensor] | None = None) -> Parameters:
    """One instance's network at step 0, float32 on the CPU.

    Parameters
    ----------
    zero_start
        Start the displacement head from zero, so that the first iterate is the coarse mesh itself.
    encoder
        Weights for the encoder, named as in torchvision's resnet18; None draws them.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = random_encoder(generator)
    parameters = {f"encoder.{name}": tensor for name, tensor in (drawn if encoder is None else encoder).items()}
    _add_linear(parameters, "bottleneck", CHANNELS, WIDTH, generator)
    for layer in range(GRAPH_LAYERS):
        inputs = WIDTH + 3 if layer == 0 else WIDTH
        for part in ("own", "neighbour"):
            weight = torch.randn((inputs, WIDTH), generator=generator) * GRAPH_DEVIATION
            parameters[f"graph.{layer}.{part}.weight"] = weight
            parameters[f"graph.{layer}.{part}.bias"] = torch.zeros(WIDTH)
    _add_linear(parameters, "displacement", WIDTH, 3, generator)
    for layer, (inputs, outputs) in enumerate(pairwise(CONFIDENCE_WIDTHS)):
        _add_linear(parameters, f"confidence.{layer}", inputs, outputs, generator)
    if zero_start:
        parameters["displacement.weight"].zero_()
        parameters["displacement.bias"].zero_()
    return parameters


def _add_linear(parameters: Parameters, name: str, inputs: int, outputs: int, generator: torch.Generator) -> None:
    """torch.nn.Linear's default start: uniform in ±1/√inputs."""
    bound = 1.0 / math.sqrt(inputs)
    parameters[f"{name}.weight"] = (torch.rand((inputs, outputs), generator=generator) * 2 - 1) * bound
    parameters[f"{name}.bias"] = (torch.rand(outputs, generator=generator) * 2 - 1) * bound


def stack_parameters(networks: Sequence[Parameters], device: torch.device | str) -> Parameters:
    """Leaf tensors with a first dimension of B, ready for an optimiser."""
    stacked = {name: torch.stack([network[name] for network in networks]).to(device) for name in networks[0]}
    return {name: (channels_last(p) if p.dim() == 5 else p).requires_grad_() for name, p in stacked.items()}


def refine_vertices(
    parameters: Parameters,
    image: Float[Tensor, "b 3 h w"],
    batch: MeshBatch,
    sampler: Sampler,
) -> tuple[Float[Tensor, "b v 3"], Float[Tensor, "b v"]]:
    """Displacements (object units) and symmetry confidences in (0, 1) of every vertex.

    `sampler` samples at the coarse vertices in the image.
    """
    weights = {name.removeprefix("encoder."): p for name, p in parameters.items() if name.startswith("encoder.")}
    features = torch.cat([sampler(stage) for stage in encode(image, weights)], dim=-1)
    x = F.relu(_linear(features, parameters, "bottleneck"))
    x = torch.cat([x, batch.vertices], dim=-1)
    for layer in range(GRAPH_LAYERS):
        own = _linear(x, parameters, f"graph.{layer}.own")
        x = F.relu(own + batch.sum_neighbours(_linear(x, parameters, f"graph.{layer}.neighbour")))
    displacement = _linear(x, parameters, "displacement")
    c = F.relu(_linear(x, parameters, "confidence.0"))
    c = F.relu(_linear(c, parameters, "confidence.1"))
    confidence = torch.sigmoid(_linear(c, parameters, "confidence.2"))[..., 0]
    return displacement, confidence


def _linear(x: Tensor, parameters: Parameters, name: str) -> Tensor:
    return linear(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"])
