"""Recorded functions: the same as called ones, on a GPU replayed, elsewhere and where recording fails as they are."""

from __future__ import annotations

import logging

import torch

from refine_batch.devices import graphs
from refine_batch.devices.graphs import Captured


def test_calls_give_what_the_function_gives_and_change_its_state_once_each(device):
    total = torch.zeros(4, device=device)

    def add(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total.add_(x)
        return x.square(), total * 1.0

    captured = Captured(add, "adding", device, state=[total])
    for step in range(1, 5):
        x = torch.full((4,), float(step), device=device)
        squared, so_far = captured(x)
        assert squared.tolist() == [step**2] * 4
        assert so_far.tolist() == total.tolist() == [step * (step + 1) / 2] * 4
    assert captured.recorded == (device.type == "cuda")


def test_what_cannot_be_recorded_runs_without_and_says_so_once(monkeypatch, caplog):
    """As on a GPU whose recording fails after the warm-up has run."""
    count = torch.zeros(1)

    def counted() -> tuple[torch.Tensor]:
        count.add_(1)
        return (count * 1.0,)

    def failing(self):
        self._function()
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors …")

    monkeypatch.setattr(Captured, "_record", failing)
    monkeypatch.setattr(graphs, "_told", set())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            captured = Captured(counted, "a step", torch.device("cuda"), state=[count])
            count.zero_()
            assert [captured()[0].item() for _ in range(3)] == [1, 2, 3]
            assert not captured.recorded
    assert [record.getMessage() for record in caplog.records] == [
        "a step could not be recorded as a CUDA graph and runs without one: "
        "operation not permitted when stream is capturing"
    ]
