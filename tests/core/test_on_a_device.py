"""Objectives, methods and stages on each device, in padded batches, against each instance by itself on the CPU."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from shapes import box, icosphere, torus
from subjects import subject

from refine_batch.cameras.camera import Camera
from refine_batch.config import RefineConfig
from refine_batch.devices.graphs import Captured
from refine_batch.methods import MethodOutput, camera_only, large_steps, load_method, refine
from refine_batch.methods.scene import Scene
from refine_batch.methods.trust import ViewTrust
from refine_batch.methods.whole_shape import WholeShape
from refine_batch.render import load_renderer

CPU, SIZE = torch.device("cpu"), 32
CAMERA = Camera(30.0, 20.0, 2.0)
SUBJECTS = [
    subject("ball", icosphere(1, 0.4), icosphere(1, 0.5), CAMERA, SIZE).seen_by([CAMERA], (0.05, 0.05, 0.05)),
    subject("ring", torus(), torus(), CAMERA, SIZE),
    subject("box", box(0.8, 0.6, 1.0), box(1.0, 0.6, 0.8), CAMERA, SIZE, axis="none"),
]


def scene(subjects, device: torch.device) -> Scene:
    return Scene.of(subjects, load_renderer("warp"), device)


def scalar(value: float | bool, device: torch.device) -> torch.Tensor:
    return torch.full((), value, dtype=torch.bool if isinstance(value, bool) else torch.float64, device=device)


def moved(subjects, seed: int) -> list[torch.Tensor]:
    """A smooth displacement of each, by its own number."""
    return [0.02 * torch.sin(7 * torch.from_numpy(s.mesh.vertices)[:, [1, 2, 0]] + seed) for s in subjects]


def evaluated(method: str, subjects, device: torch.device) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The losses of each, and their sum's gradient by its displacement."""
    here = scene(subjects, device)
    displacement = torch.zeros_like(here.batch.vertices)
    for row, own in zip(displacement, moved(subjects, 1), strict=True):
        row[: len(own)] = own.to(device)
    displacement.requires_grad_()
    if method == "large-steps":
        options = RefineConfig().large_steps
        whole = WholeShape([s.mesh for s in subjects], here, options.whole_depth)
        objective = large_steps.Objective(here, whole, options, ViewTrust(here))
        sigma, judge = scalar(1e-4, device), scalar(True, device)
        terms = objective(displacement, whole.none(), here.cameras.change, SIZE, 0, sigma, judge)[0]
    else:
        options = RefineConfig().paper
        whole = WholeShape([s.mesh for s in subjects], here, options.whole_depth)
        objective = refine.Objective.of(here, whole, options)
        confidence = torch.full(here.batch.vertex_mask.shape, 0.7, device=device)
        terms = objective(displacement, whole.none(), confidence, here.cameras.change, scalar(1e-4, device))[0]
    [gradient] = torch.autograd.grad(terms.sum(), displacement)
    counts = [len(s.mesh.vertices) for s in subjects]
    return [(terms[:, i].detach().cpu(), gradient[i, :n].cpu()) for i, n in enumerate(counts)]


@pytest.mark.parametrize("method", ["large-steps", "refine"])
def test_losses_and_gradients(method, device):
    together = evaluated(method, SUBJECTS, device)
    for one, (terms, gradient) in zip(SUBJECTS, together, strict=True):
        [(expected, slope)] = evaluated(method, [one], CPU)
        torch.testing.assert_close(terms, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
        torch.testing.assert_close(gradient, slope, rtol=1e-2, atol=2e-3 * float(slope.abs().max()))


@pytest.mark.parametrize("method", ["large-steps", "refine"])
def test_methods(method, device):
    """A short course: before rounding has been amplified, on whatever device."""
    config = RefineConfig(method=method, steps=6, image_size=SIZE)
    together = load_method(method)(SUBJECTS, config, device)
    for one, found in zip(SUBJECTS, together, strict=True):
        [alone] = load_method(method)([one], config, CPU)
        assert isinstance(found, MethodOutput)
        assert isinstance(alone, MethodOutput)
        np.testing.assert_allclose(found.vertices, alone.vertices, atol=2e-3)
        np.testing.assert_allclose(found.loss_curve, alone.loss_curve, rtol=2e-2)
    assert max(np.abs(f.vertices - s.mesh.vertices).max() for f, s in zip(together, SUBJECTS, strict=True)) > 0


class Kept:
    """In place of `Captured`: calls the function as it is and keeps what went in, what came out, and the state."""

    made: ClassVar[list[Kept]] = []

    def __init__(self, function, name, device, *, state=(), record=True):
        self.function, self.name, self.state = function, name, list(state)
        self.calls: list[tuple] = []
        Kept.made.append(self)

    def __call__(self, *inputs):
        before = [tensor.clone() for tensor in (*inputs, *self.state)]
        found = self.function(*inputs)
        self.calls.append((before, [tensor.clone() for tensor in found]))
        return found


@pytest.mark.parametrize(
    ("module", "method", "functions", "repeatable"),
    [(large_steps, "large-steps", 2, True), (refine, "refine", 1, False), (camera_only, None, 1, True)],
)
def test_a_step_depends_on_its_inputs_and_its_state_alone(monkeypatch, module, method, functions, repeatable):
    """As a recorded graph must: one function for each image size, σ and all else of the schedule among its inputs."""
    monkeypatch.setattr(module, "Captured", Kept)
    Kept.made = []
    config = RefineConfig(steps=9, image_size=SIZE)
    if method is None:
        camera_only.fit_cameras(SUBJECTS[:2], config, CPU)
    else:
        load_method(method)(SUBJECTS[:1], config, CPU)
    assert len(Kept.made) == functions
    assert sum(len(kept.calls) for kept in Kept.made) == (camera_only.STEPS if method is None else 9)
    for kept in Kept.made if repeatable else ():
        # Last to first: nothing of where the loop stands may be left in the function.
        for before, after in reversed(kept.calls):
            inputs, state = before[: len(before) - len(kept.state)], before[len(before) - len(kept.state) :]
            for tensor, held in zip(kept.state, state, strict=True):
                tensor.copy_(held)
            for value, expected in zip(kept.function(*inputs), after, strict=True):
                torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)


def test_recording_may_be_left_out(device):
    from refine_batch.devices import graphs

    def doubled(x: torch.Tensor) -> tuple[torch.Tensor]:
        return (2 * x,)

    with graphs.recording(False):
        plain = Captured(doubled, "doubling", device)
    recorded = Captured(doubled, "doubling", device)
    for captured in (plain, recorded):
        assert captured(torch.ones(2, device=device))[0].tolist() == [2.0, 2.0]
    assert not plain.recorded
    assert recorded.recorded == (device.type == "cuda")
