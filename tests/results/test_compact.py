"""Compaction: the same rows in fewer parts, for every reader and whenever it is killed."""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pyarrow.parquet as pq
import pytest
from result_rows import put, result

from refine_batch.errors import UsageError
from refine_batch.io import local
from refine_batch.io.storage import Storage
from refine_batch.results import compact as compact_module
from refine_batch.results.committed import CommittedIndex
from refine_batch.results.compact import CompactionStoppedError, compact, finish
from refine_batch.results.live import live_rows
from refine_batch.results.lock import OutputLock, OutputLockedError
from refine_batch.results.parts import generation, list_parts, open_part

HELD = SimpleNamespace(check=lambda: None)


class Killed(BaseException):
    """What no handler catches, as no handler runs in a process that is killed."""


@pytest.fixture(params=["local", "local without swapping", "s3"])
def output(request, tmp_path, monkeypatch) -> Storage:
    if request.param == "s3":
        return request.getfixturevalue("s3_folder")
    if request.param == "local without swapping":
        monkeypatch.setattr(local, "exchange", lambda *folders: False)
    return Storage(str(tmp_path / "out put"))


def fill(storage: Storage, each: int = 10, parts: int = 10) -> dict[str, str]:
    """Parts of `each` instances, some rows superseded, one part wholly; the newest run of each instance."""
    for n in range(parts):
        put(storage, [result(f"{i}", n) for i in range(each * n, each * (n + 1))])
    whole = [f"{i}" for i in range(2 * each, 3 * each)]
    put(storage, [result("1", 20), result(f"{each}", 20, status="failed"), result("new", 20)])
    put(storage, [result(i, 21) for i in whole])
    truth = {f"{i}": f"run{i // each}" for i in range(each * parts)}
    return truth | {"1": "run20", f"{each}": "run20", "new": "run20"} | dict.fromkeys(whole, "run21")


def ours(storage: Storage) -> list[tuple[str, str]]:
    batches = live_rows(storage, ["instance_id", "run_id"])
    return sorted((row["instance_id"], row["run_id"]) for batch in batches for row in batch.to_pylist())


def plainly(storage: Storage) -> Counter:
    """How often each (instance, run) stands in the parts, as one who knows nothing of this package reads them."""
    fs, root = storage.filesystem()
    parts = fs.glob(f"{root}/results/*.parquet")
    tables = [pq.read_table(fs.open(part), columns=["instance_id", "run_id"]).to_pylist() for part in parts]
    return Counter((row["instance_id"], row["run_id"]) for table in tables for row in table)


def test_parts_become_few_and_rows_stay(output):
    truth = fill(output)
    meshes = {r["instance_id"]: r["vertices"] for b in live_rows(output) for r in b.to_pylist()}
    done = compact(output)
    assert (done.parts_before, done.parts_after, done.rows, done.rows_dropped) == (12, 1, 101, 12)
    assert plainly(output) == Counter(truth.items())
    assert ours(output) == sorted(truth.items())
    assert {r["instance_id"]: r["vertices"] for b in live_rows(output) for r in b.to_pylist()} == meshes
    assert len(CommittedIndex.load(output)) == 101
    if output.local:
        with duckdb.connect() as db:
            parts = f"read_parquet('{output.path_of('results/*.parquet')}')"
            assert db.execute(f"SELECT count(*), count(DISTINCT instance_id) FROM {parts}").fetchall() == [(101, 101)]
    assert not output.exists("lock.json")
    assert done.bytes_after == sum(part.size for part in list_parts(output)) < done.bytes_before


def test_a_second_compaction_changes_nothing(output):
    fill(output)
    compact(output)
    before = list_parts(output)
    compact(output)
    assert list_parts(output) == before


def test_compaction_goes_on_from_what_it_left(output):
    truth = fill(output)
    compact(output)
    put(output, [result("1", 30), result("later", 30)])
    compact(output)
    truth |= {"1": "run30", "later": "run30"}
    assert plainly(output) == Counter(truth.items())
    assert [generation(part.path) for part in list_parts(output)] == [2]


def test_target_size_bounds_the_parts(output):
    truth = fill(output)
    size = max(part.size for part in list_parts(output))
    compact(output, target_bytes=3 * size)
    parts = list_parts(output)
    assert 2 <= len(parts) <= 6
    assert max(part.size for part in parts) <= 3.5 * size
    assert plainly(output) == Counter(truth.items())
    large = [part for part in parts if part.size >= 1.5 * size]
    compact(output, target_bytes=3 * size)
    assert [part for part in list_parts(output) if part in large] == large


def test_large_parts_without_superseded_rows_stay_as_they_are(output):
    put(output, [result("a"), result("b")])
    put(output, [result("c", 1)])
    before = list_parts(output)
    compact(output, target_bytes=1)
    assert list_parts(output) == before
    put(output, [result("c", 2)])
    compact(output, target_bytes=1)
    assert plainly(output) == Counter({("a", "run0"): 1, ("b", "run0"): 1, ("c", "run2"): 1})
    assert before[0] in list_parts(output)


def test_a_run_that_writes_keeps_compaction_away(output):
    fill(output)
    with OutputLock(output, "busy"), pytest.raises(OutputLockedError, match="run busy"):
        compact(output)


def test_one_that_is_stopped_leaves_nothing_half_done(output):
    truth = fill(output)
    before = plainly(output)
    asked = iter([False] * 5)
    with pytest.raises(CompactionStoppedError):
        compact(output, stop=lambda: next(asked, True))
    assert plainly(output) == before
    if output.local:
        assert os.listdir(output.uri) == ["results"]
    assert not output.exists("lock.json")
    compact(output)
    assert plainly(output) == Counter(truth.items())


def test_nothing_to_compact(output):
    with pytest.raises(UsageError, match="holds no results"):
        compact(output)


@contextlib.contextmanager
def killed_at(step: int, after: bool):
    """Kill the process at the step-th change that it makes to storage: before the change, or just after it."""
    steps = iter(range(10**6))

    def killing(original, partial=None):
        def call(*arguments, **options):
            if next(steps) != step:
                return original(*arguments, **options)
            if after:
                (partial or original)(*arguments, **options)
            raise Killed

        return call

    def remove_one(folder, **options):
        next(Path(folder).iterdir()).unlink()

    delete = Storage.delete
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Storage, "write", killing(Storage.write))
        patch.setattr(Storage, "delete", killing(delete, lambda storage, *p: delete(storage, *p[:1])))
        patch.setattr(local, "write", killing(local.write))
        patch.setattr(local, "exchange", killing(local.exchange))
        patch.setattr(compact_module.os, "link", killing(os.link))
        patch.setattr(compact_module.os, "replace", killing(os.replace))
        patch.setattr(compact_module.shutil, "rmtree", killing(shutil.rmtree, remove_one))
        yield


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("merged", ["all", "a few"])
def test_killed_at_any_point(output, after, merged):
    truth = fill(output, each=2, parts=4)
    before = plainly(output)
    target = 1 << 20 if merged == "all" else int(2.5 * max(part.size for part in list_parts(output)))
    swaps = output.local and local.exchange(*(_folder(output, n) for n in "ab"))
    finished, step = False, 0
    original = Path(output.uri)
    saved = {part.path: output.read(part.path) for part in list_parts(output)}
    while not finished:
        try:
            with killed_at(step, after):
                compact(output, target_bytes=target, lock=HELD)
            finished = True
        except Killed:
            step += 1
        assert ours(output) == sorted(truth.items())
        seen = plainly(output)
        assert set(truth.items()) <= set(seen) <= set(before)
        if swaps:
            assert seen in (before, Counter(truth.items()))
        compact(output, target_bytes=target, lock=HELD)
        assert plainly(output) == Counter(truth.items())
        if output.local:
            assert sorted(p.name for p in original.iterdir()) == ["results"]
            assert not [n for n in os.listdir(original / "results") if n.startswith(".")]
        output.delete(*(part.path for part in list_parts(output)))
        for path, data in saved.items():
            output.write(path, data)
    assert step >= (2 if merged == "all" else 4)


def _folder(storage: Storage, name: str) -> str:
    folder = Path(storage.uri).parent / f"probe-{name}"
    folder.mkdir(exist_ok=True)
    return str(folder)


def test_readers_never_notice(output):
    truth = fill(output)
    stop = threading.Event()
    problems: list = []

    def read() -> None:
        while not stop.is_set():
            found = Counter(ours(output))
            if found != Counter(truth.items()):
                problems.append((found - Counter(truth.items()), Counter(truth.items()) - found))
            try:
                seen = plainly(output)
            except FileNotFoundError:
                continue  # listed before, opened after: an error that says so, and no wrong answer
            if not set(truth.items()) <= set(seen):
                problems.append(seen)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for round_ in range(4):
            compact(output, target_bytes=30_000, lock=HELD)
            put(
                output,
                [result("1", 20, batch=str(round_)), result(f"{40 + round_}", 4)],
                f"part-again-{round_}.parquet",
            )
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert problems == []


def test_a_part_written_again_after_the_kill_is_not_lost(output, monkeypatch):
    """Sources are removed by what they were, not by their names alone."""
    fill(output)
    first = list_parts(output)[0].path
    with contextlib.suppress(Killed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Storage, "delete", lambda *arguments: (_ for _ in ()).throw(Killed))
        patch.setattr(compact_module.shutil, "rmtree", lambda *arguments, **o: (_ for _ in ()).throw(Killed))
        compact(output, lock=HELD)
    put(output, [result(f"{i}", 50) for i in range(10)], first.rpartition("/")[2])
    finish(output)
    assert {r for i, r in ours(output) if i in map(str, range(10))} == {"run50"}


def test_a_part_that_an_outliving_actor_writes_meanwhile_is_kept(tmp_path, monkeypatch):
    output = Storage(str(tmp_path / "out"))
    truth = fill(output)
    exchange = local.exchange

    def late(first, second):
        if first.endswith("results"):
            put(output, [result("late", 40)])
            put(output, [result("0", 41)], list_parts(output)[0].path.rpartition("/")[2])
        return exchange(first, second)

    monkeypatch.setattr(local, "exchange", late)
    compact(output)
    assert dict(ours(output)) == truth | {"late": "run40", "0": "run41"}
    assert os.listdir(tmp_path / "out") == ["results"]


def test_small_row_groups_are_joined(output):
    fill(output)
    compact(output)
    (part,) = list_parts(output)
    with open_part(output, part) as file:
        assert file.num_row_groups == 1


def test_killed_for_real(output):
    """SIGKILL at a moment of chance, several times over."""
    truth = fill(output)
    script = (
        "import sys\n"
        "from refine_batch.io.storage import Storage\n"
        "from refine_batch.results.compact import compact\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "compact(Storage(sys.argv[1], sys.argv[2] or None), target_bytes=40_000)\n"
    )
    for delay in (0.0, 0.05, 0.2):
        command = [sys.executable, "-c", script, output.uri, output.s3_endpoint or ""]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            process.stdin.write("\n")
            process.stdin.flush()
            time.sleep(delay)
            process.kill()
        assert ours(output) == sorted(truth.items())
        assert set(truth.items()) <= set(plainly(output))
    compact(output)
    assert plainly(output) == Counter(truth.items())
