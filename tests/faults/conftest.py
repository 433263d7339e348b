"""Trials on the shared cluster."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trial import Processes, Trial

_seeds = itertools.count(os.getpid() * 1000)


@pytest.fixture
def make_trial(tmp_path, importable_stubs) -> Callable[..., Trial]:
    """Trials of this test, each in a folder and under a seed of its own."""

    def make(**arguments) -> Trial:
        seed = next(_seeds)
        folder: Path = tmp_path / f"trial-{seed}"
        folder.mkdir()
        return Trial(folder, seed, **arguments)

    return make


@pytest.fixture
def make_long_trial(make_trial) -> Callable[..., Trial]:
    """Trials with more rows than two actors can have in hand, or get done until they notice what happened."""
    return functools.partial(make_trial, count=24)


@pytest.fixture
def trial(make_trial, ray_address) -> Trial:
    """Eight instances and a local output, on the shared cluster."""
    made = make_trial()
    made.address = ray_address
    return made


@pytest.fixture
def s3_trial(make_trial, ray_address, s3_folder) -> Trial:
    """The same with an output on a real S3 server."""
    made = make_trial(output=s3_folder)
    made.address = ray_address
    return made


@pytest.fixture
def processes() -> Iterator[Processes]:
    made = Processes()
    yield made
    made.close()
