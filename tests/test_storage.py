"""Folders and files, local and on a real S3 server alike."""

import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import s3_server
from fault_proxy import FaultProxy

from refine_batch.errors import UsageError
from refine_batch.io import local, remote, retry
from refine_batch.io.storage import FileTooLargeError, Storage, StorageError, fetch, stamp


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    monkeypatch.setattr(retry, "POLICY", retry.RetryPolicy(attempts=5, base=0.01, cap=0.02))


ODD_NAMES = ["a.bin", "ü b/c d.bin", "deep/er/and/deeper.bin", "1+1=2 & co.bin", "50%25.bin"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_what_is_written_is_read(storage, name):
    assert not storage.exists(name)
    storage.write(name, b"first")
    storage.write(name, b"second, longer")
    assert storage.read(name) == b"second, longer" == fetch(storage.path_of(name), s3_endpoint=storage.s3_endpoint)
    assert storage.exists(name)
    assert [f.path for f in storage.list()] == [name]
    storage.delete(name, "not there")
    assert not storage.exists(name)
    assert storage.list() == []


def test_listing_sees_what_is_there_now(storage):
    assert storage.list("results") == []
    for n in (2, 0, 1):
        storage.write(f"results/{n}.parquet", b"x" * n)
        storage.write(f"results-other/{n}", b"")
    listed = storage.list("results")
    assert [(f.path, f.size) for f in listed] == [(f"results/{n}.parquet", n) for n in range(3)]
    assert all(f.modified is not None and f.modified.tzinfo for f in listed)
    other = Storage(storage.uri, storage.s3_endpoint)
    other.write("results/3.parquet", b"new")
    assert len(storage.list("results")) == 4
    assert [f.path for f in storage.list("results", "2.par")] == ["results/2.parquet"]
    assert [f.path for f in storage.list("", "results-other/1")] == ["results-other/1"]
    assert storage.list("results", "4") == []
    assert [f.path for f in storage.child("results").list()] == [f"{n}.parquet" for n in range(4)]


def test_a_folder_that_comes_into_being_while_it_is_listed_is_no_file(s3_folder):
    def meanwhile(method, path, number):
        if number == 1:
            s3_folder.write("results/a", b"1")

    with FaultProxy(s3_folder.s3_endpoint, meanwhile) as proxy:
        assert Storage(s3_folder.uri, proxy.endpoint).list("results") == []
        assert len(proxy.requests) > 1, "it was looked at once more"


def test_empty_files(storage):
    storage.write("empty", b"")
    assert storage.read("empty") == b""
    assert fetch(storage.path_of("empty"), s3_endpoint=storage.s3_endpoint, max_bytes=10) == b""
    with storage.open("empty") as file:
        assert file.read() == b""


def test_fetch_reads_no_more_than_the_limit(storage):
    storage.write("ten", b"0123456789")
    uri = storage.path_of("ten")
    assert fetch(uri, s3_endpoint=storage.s3_endpoint, max_bytes=10) == b"0123456789"
    with pytest.raises(FileTooLargeError, match=r"ten is larger than 9 bytes"):
        fetch(uri, s3_endpoint=storage.s3_endpoint, max_bytes=9)


def test_missing_file_is_named(storage):
    for action in (storage.read, storage.open, lambda p: stamp(storage.path_of(p), s3_endpoint=storage.s3_endpoint)):
        with pytest.raises(FileNotFoundError, match="there is no such file") as caught:
            action("no/such.obj")
        assert caught.value.filename == storage.path_of("no/such.obj")


def test_open_seeks_and_reads_ranges(storage):
    data = bytes(range(256)) * 40
    storage.write("data", data)
    for size in (None, len(data)):
        with storage.open("data", size=size, buffer=100) as file:
            assert file.read(10) == data[:10]
            file.seek(-5, os.SEEK_END)
            assert file.read() == data[-5:]
            file.seek(5000)
            assert file.read(300) == data[5000:5300]
            assert file.tell() == 5300


def test_create_is_exclusive(storage):
    assert storage.create("lock", b"mine")
    assert not storage.create("lock", b"yours")
    assert storage.read("lock") == b"mine"


@pytest.mark.parametrize("where", ["local", "moto"])
def test_create_has_one_winner_among_many(where, request, tmp_path):
    storage = Storage(str(tmp_path)) if where == "local" else request.getfixturevalue("moto_folder")
    barrier = threading.Barrier(8)

    def attempt(n: int) -> bool:
        barrier.wait()
        return storage.create("lock", f"{n}".encode())

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(attempt, range(8)))
    assert sum(won) == 1
    assert storage.read("lock") == f"{won.index(True)}".encode()


def test_stamp_changes_with_the_file(storage):
    storage.write("a", b"one")
    uri = storage.path_of("a")
    first = stamp(uri, s3_endpoint=storage.s3_endpoint)
    assert first == stamp(uri, s3_endpoint=storage.s3_endpoint)
    storage.write("a", b"two!")
    second = stamp(uri, s3_endpoint=storage.s3_endpoint)
    assert str(first) != str(second)
    assert str(first)


def test_storage_pickles_and_works_in_a_forked_process(storage):
    storage.write("before", b"1")  # the parent's connection is open
    copy = pickle.loads(pickle.dumps(storage))
    assert copy == storage
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            copy.write("from the child", copy.read("before") + b"2")
            os.write(writer, b"ok")
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as answer:
        assert answer.read() == b"ok"
    assert storage.read("from the child") == b"12"


def test_many_threads_share_one_storage(storage):
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: storage.write(f"{n:03}", str(n).encode()), range(64)))
        assert list(pool.map(lambda n: storage.read(f"{n:03}"), range(64))) == [str(n).encode() for n in range(64)]


def test_filesystem_is_what_pyarrow_takes(storage):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1, 2]}), sink)
    storage.write("t/x.parquet", sink.getvalue().to_pybytes())
    fs, root = storage.filesystem()
    assert pq.read_table(f"{root}/t", filesystem=PyFileSystem(FSSpecHandler(fs))).column("a").to_pylist() == [1, 2]


# Local folders


@pytest.mark.parametrize("spelling", ["{}", "{}/", "file://{}", "file://{}/", "{}/x/.."])
def test_local_spellings_are_one_folder(tmp_path, spelling):
    folder = tmp_path / "with space"
    Storage(spelling.format(folder)).write("f", b"1")
    assert (folder / "f").read_bytes() == b"1"
    assert Storage(spelling.format(folder)) == Storage(str(folder))


def test_relative_folder_is_made_absolute_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = Storage("out")
    monkeypatch.chdir("/")
    storage.write("f", b"1")
    assert (tmp_path / "out" / "f").exists()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    storage = Storage(str(tmp_path))
    storage.write("f", b"old")
    monkeypatch.setattr(local.os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StorageError, match="the disk is full"):
        storage.write("f", b"new")
    assert storage.read("f") == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_create_without_hard_links(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(local.os, "link", refuse)
    storage = Storage(str(tmp_path))
    assert storage.create("f", b"1")
    assert not storage.create("f", b"2")
    assert storage.read("f") == b"1"


def test_folders_and_pipes_are_not_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(StorageError, match="not a file"):
            fetch(str(tmp_path / name))


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*/out/f"):
        Storage(str(tmp_path / "out")).write("f", b"")


# S3


def test_missing_bucket_is_an_error_that_says_so(rclone):
    storage = Storage("s3://no-such-bucket/x", rclone.endpoint)
    for action in (storage.list, lambda: storage.write("a", b""), lambda: storage.read("a")):
        with pytest.raises(StorageError, match="bucket does not exist"):
            action()


def test_wrong_credentials_are_not_shown(s3_folder, monkeypatch):
    monkeypatch.setattr(remote, "_cache", {})
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-right-one")
    with pytest.raises(StorageError, match="access denied") as caught:
        s3_folder.write("a", b"")
    assert "not-the-right-one" not in str(caught.value)
    assert s3_server.SECRET_KEY not in str(caught.value)


def test_unreachable_endpoint(aws_environment):
    storage = Storage("s3://bucket/x", f"http://127.0.0.1:{s3_server.free_port()}")
    with pytest.raises(StorageError, match=r"cannot read s3://bucket/x/a"):
        storage.read("a")


def test_unknown_scheme():
    with pytest.raises(UsageError, match="nonsense://"):
        fetch("nonsense://a/b")


@pytest.mark.parametrize("fault", ["503", "500", "torn", "reset", "lost-answer"])
def test_faults_are_ridden_out(s3_folder, fault):
    with FaultProxy(s3_folder.s3_endpoint, lambda method, path, number: fault if number % 3 != 2 else None) as proxy:
        storage = Storage(s3_folder.uri, proxy.endpoint)
        before = retry.retries()
        storage.write("a", b"0123456789" * 1000)
        assert storage.read("a") == b"0123456789" * 1000
        with storage.open("a") as file:
            assert file.read(10) == b"0123456789"
        assert [f.path for f in storage.list()] == ["a"]
        storage.delete("a")
        assert s3_folder.list() == []
        assert retry.retries() > before
        assert {f for _, _, f in proxy.requests} == {fault, None}


def test_faults_that_do_not_pass_end_in_a_bounded_time(s3_folder):
    with FaultProxy(s3_folder.s3_endpoint, lambda *request: "503") as proxy:
        with pytest.raises(StorageError, match=r"cannot write s3://.*: Please reduce your request rate"):
            Storage(s3_folder.uri, proxy.endpoint).write("a", b"")
        assert len(proxy.requests) == retry.POLICY.attempts


@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD", "POST"])
def test_a_stalled_store_is_given_up_and_asked_again(s3_folder, monkeypatch, method):
    monkeypatch.setattr(remote, "READ_TIMEOUT", 0.5)
    monkeypatch.setattr(remote, "ANSWER_TIMEOUT", 1.0)
    stalls = iter([True])
    fault = lambda m, path, number: "stall" if m == method and next(stalls, False) else None  # noqa: E731
    with FaultProxy(s3_folder.s3_endpoint, fault) as proxy:
        storage = Storage(s3_folder.uri, proxy.endpoint)
        storage.write("a", b"1")
        assert storage.read("a") == b"1"
        assert storage.exists("a")
        storage.delete("a")
        assert not s3_folder.exists("a")
        assert [f for _, _, f in proxy.requests].count("stall") == 1
        assert proxy.stalled == 1, "the one that stalls was not waited for"


def test_create_knows_its_own_file_after_a_lost_answer(moto_folder):
    lost = iter([True])
    fault = lambda method, path, number: "lost-answer" if method == "PUT" and next(lost, False) else None  # noqa: E731
    with FaultProxy(moto_folder.s3_endpoint, fault) as proxy:
        storage = Storage(moto_folder.uri, proxy.endpoint)
        assert storage.create("lock", b"mine")
        assert not storage.create("lock", b"yours")


def test_other_fsspec_stores_work():
    storage = Storage("memory://some/folder")
    assert storage.list() == []
    storage.write("a/b", b"1")
    assert storage.read("a/b") == b"1"
    assert storage.exists("a/b")
    assert not storage.create("a/b", b"2")
    assert storage.create("c", b"3")
    assert [f.path for f in storage.list()] == ["a/b", "c"]
    storage.delete("a/b", "c", "d")
    assert storage.list() == []


def test_a_password_in_a_bucket_s_place_is_not_shown(aws_environment):
    with pytest.raises(StorageError, match="cannot read") as caught:
        fetch("s3://user:geheim@bucket/file", s3_endpoint="http://127.0.0.1:9")
    assert "geheim" not in str(caught.value)


def walks_of(monkeypatch, *walks):
    """`local.walk` sees these, one after the other; the last again and again."""
    made = []

    def walk(folder, prefix=""):
        names = walks[min(len(made), len(walks) - 1)]
        made.append(names)
        names = names(len(made)) if callable(names) else names
        return iter([(name, os.stat_result([0] * 10)) for name in names])

    monkeypatch.setattr(local, "walk", walk)
    return made


def test_a_listing_ends_beside_one_who_keeps_writing(tmp_path, monkeypatch):
    made = walks_of(monkeypatch, lambda count: [f"{n}.parquet" for n in range(min(count, 9))])
    assert [f.path for f in Storage(str(tmp_path)).list()] == ["0.parquet", "1.parquet"]
    assert len(made) == 2


@pytest.mark.parametrize("walks", [(["other"], ["new", "other"]), (["old", "other"], ["other"])])
def test_a_file_and_what_replaces_it_are_not_both_missed(tmp_path, monkeypatch, walks):
    walks_of(monkeypatch, *walks)
    names = {f.path for f in Storage(str(tmp_path)).list()}
    assert names & {"old", "new"}


def test_update_sees_what_it_replaces(storage):
    storage.write("f", b"one")
    assert storage.update("f", lambda data: data + b" two", 10) == b"one two"
    assert storage.update("f", lambda data: b"x" if data == b"one" else None, 10) is None
    assert storage.update("f", lambda data: b"3", 10) == b"3" == storage.read("f")
    with pytest.raises(FileNotFoundError):
        storage.update("none", lambda data: b"", 10)


@pytest.mark.parametrize("where", ["local", "moto"])
def test_of_two_updates_at_once_neither_is_lost(where, request, tmp_path):
    storage = Storage(str(tmp_path)) if where == "local" else request.getfixturevalue("moto_folder")
    storage.write("f", b"a")

    def change(data: bytes) -> bytes:
        if data == b"a":
            storage.delete("f")
            storage.create("f", b"b")
        return data + b"c"

    if where == "local":
        with pytest.raises(FileNotFoundError):
            storage.update("f", change, 60)
        assert storage.read("f") == b"b"
    else:
        assert storage.update("f", change, 60) == b"bc" == storage.read("f")


def test_update_ends_in_time(s3_folder, monkeypatch):
    monkeypatch.setattr(retry, "POLICY", retry.RetryPolicy(attempts=1000, base=0.05, cap=0.1))
    s3_folder.write("f", b"a")
    with FaultProxy(s3_folder.s3_endpoint, lambda *request: "503") as proxy:
        with pytest.raises(StorageError):
            Storage(s3_folder.uri, proxy.endpoint).update("f", lambda data: b"b", 1.0)
        assert len(proxy.requests) < 1000
