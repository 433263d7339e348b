"""Building manifests of what a test wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from refine_batch.dataset.layouts import LayoutOptions, build_manifest
from refine_batch.dataset.layouts.build import Built
from refine_batch.io.storage import Storage


@pytest.fixture
def build(storage: Storage) -> Callable[..., Built]:
    """`build(layout, **options)` of the folders data/ and meshes/ of the storage into out/manifest.parquet."""

    def call(layout: str, **options: Any) -> Built:
        given = {
            "source": storage.path_of("data"),
            "meshes": storage.path_of("meshes"),
            "out": storage.path_of("out/manifest.parquet"),
            "s3_endpoint": storage.s3_endpoint,
        }
        return build_manifest(layout, LayoutOptions(**(given | options)))

    return call
