"""What the tests of mesh readers share."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from refine_batch.errors import InstanceError
from refine_batch.io.meshes import parse_mesh
from refine_batch.mesh import Mesh

URI = "s3://bucket/thing"


@pytest.fixture
def nothing_else_is_opened(monkeypatch):
    """No reader may open a file or a connection."""

    def refuse(*args, **kwargs):
        raise AssertionError(f"a reader opened {args}")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(socket, "socket", refuse)


def assert_same(mesh: Mesh, vertices, faces) -> None:
    np.testing.assert_array_equal(mesh.vertices, np.asarray(vertices, dtype=np.float32))
    np.testing.assert_array_equal(mesh.faces, np.asarray(faces, dtype=np.int32))


def refusal(data: bytes, extension: str, **limits) -> InstanceError:
    with pytest.raises(InstanceError) as caught:
        parse_mesh(data, f"{URI}.{extension}", **limits)
    assert f"{URI}.{extension}" in caught.value.message
    return caught.value
