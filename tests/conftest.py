"""Fixtures that many tests share."""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

# What is imported from here on stays to the end; collections are back once all tests are collected.
gc.disable()

import pytest  # noqa: E402
import s3_server  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from refine_batch.io.storage import Storage  # noqa: E402

if TYPE_CHECKING:
    import torch

# How long an example takes says more about what else the machine does than about the code. A gate tries the same
# examples each time; new ones are for people, who can look at what they find.
settings.register_profile(
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("patient")

pytest_plugins = ["ray_fixtures", "scheduling"]


def pytest_configure(config) -> None:
    """Before any test imports the modules that are checked; who only hands tests out to processes imports none."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        import shape_checks

        shape_checks.install()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Iterator[None]:
    """What is loaded stays to the end: collections of garbage, of which the code asks for many, need not look at it."""
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # what is still there when the process ends counts as leaked


_numbers = itertools.count()


@pytest.fixture(scope="session")
def aws_environment() -> Iterator[None]:
    """Credentials for the local S3 servers; no others reach a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            patch.delenv(name, raising=False)
        for name, value in s3_server.ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def rclone(tmp_path_factory, aws_environment) -> Iterator[s3_server.S3Server]:
    """A real S3 server (it ignores conditional puts)."""
    server = s3_server.start_rclone(tmp_path_factory.mktemp("rclone"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def moto(aws_environment) -> Iterator[s3_server.S3Server]:
    """An S3 server that honours conditional puts."""
    server = s3_server.start_moto()
    yield server
    server.stop()


@pytest.fixture
def s3_folder(rclone) -> Storage:
    """A new, empty folder on the real S3 server."""
    bucket = rclone.make_bucket(f"bucket-{next(_numbers)}")
    return Storage(f"{bucket}/some folder", rclone.endpoint)


@pytest.fixture
def moto_folder(moto) -> Storage:
    """A new, empty folder on the S3 server that honours conditional puts."""
    bucket = moto.make_bucket(f"bucket-{next(_numbers)}")
    return Storage(f"{bucket}/some folder", moto.endpoint)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request) -> torch.device:
    """The CPU, and the GPU where there is one."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    return torch.device(request.param)


@pytest.fixture(params=["local", "s3"])
def storage(request, tmp_path) -> Storage:
    """A new, empty folder: local, and on the real S3 server."""
    if request.param == "local":
        return Storage(str(tmp_path / "ein Ordner ü"))
    return request.getfixturevalue("s3_folder")
