"""Encoder weights from wherever a run's inputs come from."""

from __future__ import annotations

import io

import pytest
import torch

from refine_batch.errors import UsageError
from refine_batch.io import retry
from refine_batch.job.encoder import encoder_stamp, provide_encoder
from refine_batch.networks import weights
from refine_batch.networks.encoder import random_encoder


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch):
    monkeypatch.setattr(weights, "_given", {})
    weights.load_encoder.cache_clear()
    yield
    weights.load_encoder.cache_clear()


def state(seed):
    file = io.BytesIO()
    torch.save(random_encoder(torch.Generator().manual_seed(seed)), file)
    return file.getvalue()


def test_weights_on_a_store_with_an_endpoint_of_its_own(s3_folder):
    s3_folder.write("w.pth", state(1))
    uri, endpoint = s3_folder.path_of("w.pth"), s3_folder.s3_endpoint
    provide_encoder(uri, endpoint)
    found = weights.load_encoder(uri)
    torch.testing.assert_close(found["conv1.weight"], random_encoder(torch.Generator().manual_seed(1))["conv1.weight"])

    first = encoder_stamp(uri, endpoint)
    s3_folder.write("w.pth", state(2))
    assert first
    assert encoder_stamp(uri, endpoint) != first, "other weights make every row's work new"
    provide_encoder(uri, endpoint)
    found = weights.load_encoder(uri)
    torch.testing.assert_close(found["conv1.weight"], random_encoder(torch.Generator().manual_seed(2))["conv1.weight"])


def test_random_weights_need_nothing():
    provide_encoder("random")
    assert encoder_stamp("random") == ""
    assert weights.load_encoder("random") is None


@pytest.mark.parametrize(
    "source", ["s3://user:geheim@no-such-bucket/w.pth", "http://u:geheim@127.0.0.1:9/w?X-Amz-Signature=abcdef"]
)
def test_what_cannot_be_had_is_told_without_credentials(s3_folder, monkeypatch, source):
    monkeypatch.setattr(retry, "POLICY", retry.RetryPolicy(attempts=1))
    with pytest.raises(UsageError, match="encoder weights") as caught:
        provide_encoder(source, s3_folder.s3_endpoint)
    assert "geheim" not in str(caught.value)
    assert "abcdef" not in str(caught.value)


def test_the_library_names_no_credentials_either():
    with pytest.raises(UsageError, match="cannot be had") as caught:
        weights.load_encoder("nosuchscheme://u:geheim@bucket/w.pth?sig=abcdef")
    assert "geheim" not in str(caught.value)
    assert "abcdef" not in str(caught.value)
    assert caught.value.__cause__ is None
