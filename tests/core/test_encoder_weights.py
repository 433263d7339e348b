"""Pretrained weights: a ResNet-18's state dict from a file or a URI, and nothing else."""

from __future__ import annotations

import os
import pickle

import fsspec
import pytest
import torch

from refine_batch.errors import UsageError
from refine_batch.networks.encoder import random_encoder
from refine_batch.networks.weights import load_encoder


@pytest.fixture(autouse=True)
def _nothing_remembered():
    load_encoder.cache_clear()


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """A whole state dict: the encoder's entries, and the later stages that it does without."""
    weights = random_encoder(torch.Generator().manual_seed(3))
    return {
        **weights,
        "bn1.running_mean": torch.zeros(64),
        "layer4.1.bn2.bias": torch.ones(512),
        "fc.bias": torch.ones(9),
    }


def test_random_is_each_instances_own():
    assert load_encoder("random") is None


@pytest.mark.parametrize("where", ["path", "uri"])
def test_a_state_dict_gives_the_encoders_entries(tmp_path, state, where):
    path = tmp_path / "resnet18.pth"
    torch.save({name: t.half() if name == "conv1.weight" else t for name, t in state.items()}, path)
    source = str(path)
    if where == "uri":
        source = "memory://weights/resnet18.pth"
        with fsspec.open(source, "wb") as file:
            file.write(path.read_bytes())
    found = load_encoder(source)
    expected = random_encoder(torch.Generator().manual_seed(3))
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-3)


class Trap:
    def __reduce__(self):
        return os.mkdir, (self.path,)


def refusal(source) -> str:
    with pytest.raises(UsageError, match="encoder weights") as raised:
        load_encoder(str(source))
    return str(raised.value)


def test_nothing_in_the_file_is_executed(tmp_path):
    trap = Trap()
    trap.path = str(tmp_path / "sprung")
    (tmp_path / "trap.pth").write_bytes(pickle.dumps({"conv1.weight": trap}, protocol=2))
    assert "cannot be had" in refusal(tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_files_that_are_no_checkpoints(tmp_path, content):
    (tmp_path / "broken.pth").write_bytes(content)
    assert "give random, imagenet, or the path or URI" in refusal(tmp_path / "broken.pth")


@pytest.mark.parametrize("source", ["/no/such/file.pth", "memory://no/such.pth", "nosuchscheme://bucket/file.pth"])
def test_files_that_are_not_there(source):
    assert "cannot be had" in refusal(source)


def test_entries_that_are_missing_or_of_another_shape(tmp_path, state):
    path = tmp_path / "weights.pth"
    cases = {
        "'layer2.0.downsample.0.weight' is missing": {**state, "layer2.0.downsample.0.weight": None},
        r"'conv1.weight' has the shape (64, 1, 7, 7)": {**state, "conv1.weight": torch.zeros(64, 1, 7, 7)},
    }
    for told, content in cases.items():
        torch.save(content, path)
        load_encoder.cache_clear()
        assert told in refusal(path)
    torch.save(torch.zeros(3), path)
    load_encoder.cache_clear()
    assert "hold a Tensor, not a state dict" in refusal(path)
