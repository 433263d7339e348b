"""Identities of input files: right for every store, and with few requests."""

import os
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pyarrow as pa
import pytest
from fault_proxy import FaultProxy

from refine_batch.dataset import stamps as stamps_module
from refine_batch.dataset.stamps import AWAY, MISSING, UNREADABLE, InputStamper, stamp_one
from refine_batch.io import retry
from refine_batch.io.storage import Storage, StorageError


def stamps(uris, endpoint=None, stamper=None):
    return (stamper or InputStamper(endpoint)).stamps(pa.array(uris, pa.string())).to_pylist()


def test_stamps_follow_files(storage):
    for n in range(50):
        storage.write(f"many/{n:03}.obj", f"{n}".encode())
    storage.write("few/a.obj", b"a")
    uris = [storage.path_of(f"many/{n:03}.obj") for n in range(50)]
    uris += [
        storage.path_of("few/a.obj"),
        None,
        storage.path_of("many/none.obj"),
        storage.path_of("no/folder.obj"),
        uris[0],
    ]
    first = stamps(uris, storage.s3_endpoint)
    assert first[51:54] == [None, MISSING, MISSING]
    assert first[54] == first[0]
    assert len(set(first[:51])) > 1
    assert not {MISSING, UNREADABLE, None} & set(first[:51])
    assert stamps(uris, storage.s3_endpoint) == first
    storage.write("many/007.obj", b"changed")
    storage.write("few/a.obj", b"changed")
    second = stamps(uris, storage.s3_endpoint)
    assert [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b] == [7, 50]


@pytest.mark.parametrize("far", [0.0, 1.0])
def test_local_files_have_one_stamp_whether_near_or_far(tmp_path, monkeypatch, far):
    monkeypatch.setattr(stamps_module, "_FAR", far)
    monkeypatch.setattr(stamps_module, "_CHUNK", 7)
    for n in range(30):
        (tmp_path / f"{n}").write_bytes(bytes(n))
    uris = [str(tmp_path / f"{n}") for n in range(32)]
    found = stamps(uris)
    assert [text.split(",")[0] for text in found] == [f"size:{n}" for n in range(30)] + [MISSING] * 2


def test_a_file_has_one_stamp_however_it_is_found(s3_folder):
    for n in range(40):
        s3_folder.write(f"in/{n}", bytes([n]))
    uris = [s3_folder.path_of(f"in/{n}") for n in range(40)]
    listed = stamps(uris, s3_folder.s3_endpoint)
    assert listed == [stamps([uri], s3_folder.s3_endpoint)[0] for uri in uris]
    assert len(set(listed)) == 40


def requests(proxy: FaultProxy) -> Counter:
    return Counter("LIST" if "list-type=2" in path else method for method, path, _ in proxy.requests)


def test_a_folder_is_listed_once_for_all_batches(s3_folder):
    for n in range(120):
        s3_folder.write(f"in/{n:03}", b"")
    with FaultProxy(s3_folder.s3_endpoint) as proxy:
        stamper = InputStamper(proxy.endpoint)
        for start in range(0, 120, 40):
            uris = [s3_folder.path_of(f"in/{n:03}") for n in range(start, start + 40)]
            assert MISSING not in stamps(uris, stamper=stamper)
        assert stamps([s3_folder.path_of("in/other")], stamper=stamper) == [MISSING]
        assert requests(proxy) == {"LIST": 1}


def test_one_file_per_folder_is_listed_from_above(s3_folder):
    for n in range(60):
        s3_folder.write(f"shapes/{n:03}/models/m.obj", b"")
    with FaultProxy(s3_folder.s3_endpoint) as proxy:
        uris = [s3_folder.path_of(f"shapes/{n:03}/models/m.obj") for n in range(60)]
        assert MISSING not in stamps(uris, proxy.endpoint)
        assert requests(proxy) == {"LIST": 1}


def test_a_few_files_are_asked_for_singly(s3_folder):
    for n in range(40):
        s3_folder.write(f"in/{n}", b"")
    with FaultProxy(s3_folder.s3_endpoint) as proxy:
        assert MISSING not in stamps([s3_folder.path_of(f"in/{n}") for n in range(5)], proxy.endpoint)
        assert requests(proxy) == {"HEAD": 5}


def test_a_listing_ends_where_it_does_not_pay(s3_folder, monkeypatch):
    monkeypatch.setattr(stamps_module, "_LIST_AT_LEAST", 0)
    monkeypatch.setattr(stamps_module, "_LIST_PER_WANTED", 0.01)
    pages = []

    def page_of_one(folder, endpoint):
        for n in range(200):
            pages.append(n)
            yield [(s3_folder.path_of(f"in/{n:03}").removeprefix("s3://"), "etag")]

    monkeypatch.setattr(stamps_module.remote, "s3_pages", page_of_one)
    for n in range(40):
        s3_folder.write(f"in/{n:03}", b"")
    stamper = InputStamper(s3_folder.s3_endpoint)
    assert MISSING not in stamps([s3_folder.path_of(f"in/{n:03}") for n in range(40)], stamper=stamper)
    assert len(pages) == 1


def test_a_listing_that_is_refused_gives_way_to_single_looks(s3_folder):
    for n in range(40):
        s3_folder.write(f"in/{n}", b"")
    with FaultProxy(s3_folder.s3_endpoint, lambda m, path, n: "403" if "list-type" in path else None) as proxy:
        assert MISSING not in stamps([s3_folder.path_of(f"in/{n}") for n in range(40)], proxy.endpoint)
        assert requests(proxy) == {"LIST": 1, "HEAD": 40}


def test_a_store_that_is_down_is_an_error_and_no_change(s3_folder, monkeypatch):
    """A run that took an outage for vanished inputs would replace good rows by failures."""
    monkeypatch.setattr(retry, "POLICY", retry.RetryPolicy(attempts=3, base=0.01))
    with FaultProxy(s3_folder.s3_endpoint, lambda *request: "503") as proxy:
        for count in (1, 50):
            uris = [s3_folder.path_of(f"in/{n}") for n in range(count)]
            assert stamps(uris, proxy.endpoint) == [AWAY] * count
        with pytest.raises(StorageError, match=r"cannot read s3://.*the store does not answer"):
            stamp_one(s3_folder.path_of("weights"), proxy.endpoint)


def test_a_store_that_is_down_is_not_asked_for_each_file(s3_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(retry, "POLICY", retry.RetryPolicy(attempts=3, base=0.01))
    (tmp_path / "here").write_text("v")
    with FaultProxy(s3_folder.s3_endpoint, lambda *request: "503") as proxy:
        stamper = InputStamper(proxy.endpoint)
        uris = [str(tmp_path / "here")] + [s3_folder.path_of(f"{n}/in") for n in range(200)]
        for _ in range(3):
            found = stamps(uris, stamper=stamper)
            assert found[0].startswith("size:1,")
            assert found[1:] == [AWAY] * 200
        assert len(proxy.requests) <= 3 * stamps_module.remote.CONNECTIONS


def test_a_store_that_comes_back_is_asked_again(s3_folder, monkeypatch):
    """Where a listing was cut off, what came before it is kept and nothing is taken for missing."""
    monkeypatch.setattr(retry, "POLICY", retry.RetryPolicy(attempts=2, base=0.01))
    monkeypatch.setattr(stamps_module, "_REST", 0.0)
    monkeypatch.setattr(stamps_module.remote, "_PAGE", 40)
    for n in range(120):
        s3_folder.write(f"in/{n:03}", f"{n}".encode())
    uris = [s3_folder.path_of(f"in/{n:03}") for n in range(120)]
    down = lambda method, path, number: "503" if 0 < number < 3 else None  # noqa: E731
    with FaultProxy(s3_folder.s3_endpoint, down) as proxy:
        stamper = InputStamper(proxy.endpoint)
        assert stamps(uris, stamper=stamper) == [AWAY] * 120
        assert stamps(uris, stamper=stamper) == stamps(uris, s3_folder.s3_endpoint)
        assert stamps([s3_folder.path_of("in/other")], stamper=stamper) == [MISSING]
        assert requests(proxy) == {"LIST": 5}


def test_a_listing_reads_pages(s3_folder, monkeypatch):
    monkeypatch.setattr(stamps_module.remote, "_PAGE", 7)
    for n in range(20):
        s3_folder.write(f"in/{n:02}", b"")
    pages = list(stamps_module.remote.s3_pages(s3_folder.path_of("in"), s3_folder.s3_endpoint, "some folder/in/03"))
    assert [key.rpartition("/")[2] for page in pages for key, _ in page] == [f"{n:02}" for n in range(4, 20)]
    assert len(pages) == 3


def test_refused_files_are_told_from_missing_ones(s3_folder):
    s3_folder.write("a", b"")
    with FaultProxy(s3_folder.s3_endpoint, lambda *request: "403") as proxy:
        assert stamps([s3_folder.path_of("a")], proxy.endpoint) == [UNREADABLE]


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    odd = [str(tmp_path), str(tmp_path / "pipe"), "s3://", "nonsense://x/y", "a\x00b", str(tmp_path / "file" / "below")]
    assert stamps(odd) == [UNREADABLE, UNREADABLE, UNREADABLE, UNREADABLE, UNREADABLE, MISSING]


def test_a_file_system_that_is_not_mounted_is_a_store_that_is_away(tmp_path):
    (tmp_path / "point").mkdir()
    paths = [
        str(tmp_path / "point" / "a.obj"),
        str(tmp_path / "point" / "b" / "c.obj"),
        str(tmp_path / "pint" / "a.obj"),
    ]
    assert stamps(paths) == [AWAY, AWAY, MISSING]
    # Who asks for one file is told at once.
    assert stamp_one(paths[0]) == MISSING
    (tmp_path / "point" / "b").mkdir()
    assert stamps(paths) == [MISSING, AWAY, MISSING]


def test_content_counts_where_a_server_tells_nothing_else():
    content = {"/a.obj": b"one"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = content.get(self.path)
            self.send_response(200 if body else 404)
            self.end_headers()
            self.wfile.write(body or b"")

        def do_HEAD(self):
            self.send_response(200 if self.path in content else 404)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        first = stamps([f"{base}/a.obj", f"{base}/b.obj"])
        assert first[0].startswith("content:")
        assert first[1] == MISSING
        assert stamps([f"{base}/a.obj"]) == first[:1]
        content["/a.obj"] = b"two"
        assert stamps([f"{base}/a.obj"]) != first[:1]
        server.shutdown()


def test_other_stores():
    storage = Storage("memory://stamps")
    storage.write("a", b"1")
    first = stamps(["memory://stamps/a", "memory://stamps/b"])
    assert first[1] == MISSING
    assert first[0] not in (MISSING, UNREADABLE)
