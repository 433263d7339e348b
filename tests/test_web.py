"""Inputs behind a plain web server: what is missing is told from what is away or refused."""

import functools
import http.server
import threading

import pytest
import s3_server
from fault_proxy import FaultProxy

from refine_batch.dataset.load import load_instance
from refine_batch.dataset.manifest import Manifest
from refine_batch.dataset.row import ManifestRow
from refine_batch.errors import ErrorKind, InstanceError, UsageError
from refine_batch.io import remote, retry
from refine_batch.io.storage import AccessDeniedError, FileTooLargeError, Storage, StorageError, fetch, stamp


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    monkeypatch.setattr(retry, "POLICY", retry.RetryPolicy(attempts=4, base=0.01, cap=0.02))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Knows no ranges, as many do."""

    def log_message(self, *arguments):
        pass


@pytest.fixture
def web(tmp_path):
    """(folder, its address)."""
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield tmp_path, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def opened(uri: str) -> bytes:
    folder, _, name = uri.rpartition("/")
    with Storage(folder).open(name) as file:
        return file.read()


WAYS = [fetch, lambda uri: fetch(uri, max_bytes=100), stamp, opened]


@pytest.mark.parametrize("look", WAYS)
def test_a_server_that_refuses_connections_is_not_a_missing_file(look):
    with pytest.raises(StorageError, match=r"cannot read http://127\.0\.0\.1:\d+/a\.obj"):
        look(f"http://127.0.0.1:{s3_server.free_port()}/a.obj")


@pytest.mark.parametrize("look", WAYS)
def test_a_name_that_cannot_be_looked_up_is_not_a_missing_file(look):
    with pytest.raises(StorageError, match=r"cannot read http://no-such-host\.invalid/a\.obj"):
        look("http://no-such-host.invalid/a.obj")


@pytest.mark.parametrize("look", WAYS)
def test_what_a_server_says_is_told_apart(web, look):
    folder, address = web
    (folder / "a.obj").write_bytes(b"v 0 0 0")
    with pytest.raises(FileNotFoundError):
        look(f"{address}/b.obj")
    for fault in ("503", "500", "403"):
        with FaultProxy(address, lambda *request, fault=fault: fault) as proxy:
            with pytest.raises(StorageError) as caught:
                look(f"{proxy.endpoint}/a.obj")
            # What is away or broken may come back; what is not allowed does not.
            assert isinstance(caught.value, AccessDeniedError) == (fault == "403")


@pytest.mark.parametrize("look", WAYS)
@pytest.mark.parametrize("fault", ["503", "reset"])
def test_faults_that_pass_are_ridden_out(web, look, fault):
    folder, address = web
    (folder / "a.obj").write_bytes(b"v 0 0 0")
    fault_of = lambda method, path, number: fault if number < 3 else None  # noqa: E731
    with FaultProxy(address, fault_of) as proxy:
        look(f"{proxy.endpoint}/a.obj")


def test_torn_answers_are_asked_for_again(web):
    folder, address = web
    (folder / "a.obj").write_bytes(b"0123456789")
    with FaultProxy(address, lambda method, path, number: "torn" if number == 0 else None) as proxy:
        assert fetch(f"{proxy.endpoint}/a.obj") == b"0123456789"


def test_a_stalled_server_is_given_up(web, monkeypatch):
    folder, address = web
    (folder / "a.obj").write_bytes(b"0123456789")
    monkeypatch.setattr(remote, "READ_TIMEOUT", 0.3)
    monkeypatch.setattr(remote, "_cache", {})
    with FaultProxy(address, lambda method, path, number: "stall" if number == 0 else None) as proxy:
        assert fetch(f"{proxy.endpoint}/a.obj") == b"0123456789"


def test_no_more_is_read_than_the_limit(web):
    folder, address = web
    (folder / "big").write_bytes(bytes(3_000_000))
    (folder / "empty").write_bytes(b"")
    with pytest.raises(FileTooLargeError):
        fetch(f"{address}/big", max_bytes=2_999_999)
    assert len(fetch(f"{address}/big", max_bytes=3_000_000)) == 3_000_000
    assert fetch(f"{address}/empty", max_bytes=0) == b""


def test_one_request_a_file(web):
    folder, address = web
    (folder / "a.obj").write_bytes(b"v")
    with FaultProxy(address) as proxy:
        fetch(f"{proxy.endpoint}/a.obj", max_bytes=100)
        assert [method for method, _, _ in proxy.requests] == ["GET"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_manifest_on_a_server_that_knows_no_ranges(web, suffix):
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    folder, address = web
    columns = ("instance_id", "mesh_uri", "image_uri", "azimuth", "elevation", "distance")
    table = pa.table({name: pa.array(["1", "2"]) for name in columns})
    write = {"csv": pa.csv.write_csv, "parquet": pa.parquet.write_table}[suffix]
    write(table, str(folder / f"m.{suffix}"))
    manifest = Manifest.open(f"{address}/m.{suffix}")
    assert manifest.check_ids() == 2
    [batch] = manifest.batches(["mesh_uri"])
    assert batch.column(0).to_pylist() == [f"{address}/1", f"{address}/2"]


def test_a_manifest_whose_server_is_away_is_said_to_be_so():
    with pytest.raises(UsageError, match="cannot be read: cannot read http"):
        Manifest.open(f"http://127.0.0.1:{s3_server.free_port()}/m.csv")


@pytest.mark.parametrize(("fault", "kind"), [("503", ErrorKind.STORAGE), ("403", ErrorKind.ACCESS_DENIED)])
def test_a_row_fails_with_a_kind_that_may_pass(web, fault, kind):
    with FaultProxy(web[1], lambda *request: fault) as proxy:
        row = ManifestRow("it", f"{proxy.endpoint}/a.obj", f"{proxy.endpoint}/i.png", None, 0.0, 0.0, 2.0)
        with pytest.raises(InstanceError, match="column mesh_uri") as caught:
            load_instance(row)
        assert caught.value.kind is kind
        assert caught.value.kind.transient


def test_what_is_no_file_does_not_become_one_by_waiting(tmp_path):
    (tmp_path / "folder.obj").mkdir()
    (tmp_path / "file").write_text("")
    for name in ("folder.obj", "file/m.obj", "x" * 300, "nothing"):
        row = ManifestRow("it", str(tmp_path / name), "i.png", None, 0.0, 0.0, 2.0)
        with pytest.raises(InstanceError) as caught:
            load_instance(row)
        assert caught.value.kind is ErrorKind.MISSING_FILE


def test_a_file_system_that_is_not_mounted_may_come_back(tmp_path):
    (tmp_path / "point").mkdir()
    for name in ("point/m.obj", "point/a/b/m.obj"):
        with pytest.raises(
            InstanceError, match=r"m\.obj: no such file .*mesh_uri.* is there something to be mounted"
        ) as caught:
            load_instance(ManifestRow("it", str(tmp_path / name), "i.png", None, 0.0, 0.0, 2.0))
        assert caught.value.kind is ErrorKind.STORAGE
    (tmp_path / "point" / "other").write_text("")
    with pytest.raises(InstanceError) as caught:
        load_instance(ManifestRow("it", str(tmp_path / "point" / "a" / "m.obj"), "i.png", None, 0.0, 0.0, 2.0))
    assert caught.value.kind is ErrorKind.MISSING_FILE
