import os
import socket
import subprocess
import sys

import pytest

from refine_batch.errors import UsageError
from refine_batch.job import address as addresses
from refine_batch.job.cluster import Request, connect, describe


@pytest.mark.parametrize(
    ("request_", "nodes", "slots"),
    [
        (Request(1), [{"CPU": 8.0}], 8),
        (Request(3), [{"CPU": 8.0}, {"CPU": 2.0}], 2),
        (Request(1, 1), [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 64.0}], 2),
        (Request(1, 0.1), [{"CPU": 64.0, "GPU": 1.0}], 10),
        (Request(1, 0.3), [{"CPU": 64.0, "GPU": 1.0}], 3),
        (Request(1, memory=4_000_000_000), [{"CPU": 8.0, "memory": 10e9}], 2),
        (Request(1), [], 0),
    ],
)
def test_slots(request_, nodes, slots):
    assert request_.slots(nodes) == slots


def test_requests_and_clusters_read_as_sentences():
    assert str(Request(1)) == "1 CPU"
    assert str(Request(0.5, 0.25, 4_000_000_000)) == "0.5 CPU, 0.25 GPU and 4 GB of memory"
    assert describe({"a": {"CPU": 2.0, "memory": 8e9}}) == "2 CPU, 0 GPU and 8 GB of memory"
    assert describe({}) == "no nodes"


def test_rays_client_is_refused_with_the_way_that_works():
    with pytest.raises(UsageError, match="ray job submit"):
        connect("ray://user:secret@head:10001")
    with pytest.raises(UsageError) as caught:
        connect("ray://user:secret@head:10001")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "no.such.host.invalid:6379", "127.0.0.1:99999999999"])
def test_an_address_at_which_nothing_listens_is_refused(monkeypatch, address):
    monkeypatch.setattr(addresses, "ANSWERS_WITHIN", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    wanted = address.format(port=port)
    with pytest.raises(UsageError, match=f"--address {wanted}: nothing answers there .*ray start --head"):
        connect(wanted)


def test_a_token_that_is_missing_is_asked_for(tmp_path):
    """In a process of its own: Ray reads the mode once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        code = f"from refine_batch.job.cluster import connect; connect({address!r})"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
    assert f"UsageError: --address {address}: RAY_AUTH_MODE is token, but there is no token" in done.stderr
