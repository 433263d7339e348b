from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_batch.dataset.row import ManifestRow
from refine_batch.errors import ErrorKind
from refine_batch.job.batch import Batch, Fault, RowOutcome, Task
from refine_batch.job.ledger import MAX_FAILURES_ALIKE, MAX_LOSSES, MAX_UNWRITTEN, Ledger

DIED = Fault(ErrorKind.PROCESS_DIED, "its process died")


def tasks(*names):
    return tuple(Task(ManifestRow(name, "m.obj", "i.png"), f"f-{name}") for name in names)


def ledger_of(*batches, **options):
    source = list(batches)
    return Ledger(lambda: source.pop(0) if source else None, **options)


def names(batch):
    return [task.row.instance_id for task in batch.tasks]


def ok(name):
    return RowOutcome(name, "refined")


def simulate(ledger, killers, fault=DIED):
    """Work everything off with an actor that dies of `killers`; attempts of every row, and the rows given up."""
    begun, given_up = Counter(), {}
    while (batch := ledger.take()) is not None:
        begun.update(names(batch))
        if killers & set(names(batch)):
            end = ledger.faulted(batch, fault)
            if end is not None:
                given_up[end.task.row.instance_id] = end
        else:
            ledger.answered([ok(name) for name in names(batch)])
    return begun, given_up


def test_a_batch_name_depends_on_its_rows_alone():
    batch = Batch(tasks("a", "b"))
    assert batch.name == Batch(tasks("a", "b"), tries=3, losses=1).name
    assert len({batch.name, Batch(tasks("b", "a")).name, Batch(tasks("a")).name, Batch(tasks("ab")).name}) == 4


def test_a_row_alone_is_given_up_after_its_second_death():
    ledger = ledger_of(Batch(tasks("a")))
    begun, given_up = simulate(ledger, {"a"})
    assert begun["a"] == 2
    assert given_up["a"].attempts == 2
    assert given_up["a"].fault == DIED


def test_a_batch_goes_once_more_whole_before_it_is_halved():
    ledger = ledger_of(Batch(tasks("a", "b", "c", "d")))
    first = ledger.take()
    assert ledger.faulted(first, DIED) is None
    again = ledger.take()
    assert (names(again), again.attempt) == (["a", "b", "c", "d"], 2)
    assert ledger.faulted(again, DIED) is None
    halves = [ledger.take(), ledger.take()]
    assert [names(half) for half in halves] == [["a", "b"], ["c", "d"]]
    assert {half.attempt for half in halves} == {3}
    assert ledger.take() is None


@given(st.integers(1, 64), st.data())
def test_only_rows_that_kill_are_lost_and_nothing_loops(size, data):
    everyone = [f"i{k}" for k in range(size)]
    killers = data.draw(st.sets(st.sampled_from(everyone), max_size=4))
    ledger = ledger_of(Batch(tasks(*everyone)), patience=10**6)
    begun, given_up = simulate(ledger, killers)
    assert set(given_up) == killers
    assert ledger.counts["refined"] == size - len(killers)
    assert max(begun.values()) <= 2 + (size - 1).bit_length()


def test_one_killing_row_in_a_large_batch_does_not_look_hopeless():
    ledger = ledger_of(Batch(tasks(*(f"i{k}" for k in range(64)))))
    while (batch := ledger.take()) is not None:
        if "i63" in names(batch):
            ledger.faulted(batch, DIED)
        else:
            ledger.answered([ok(name) for name in names(batch)])
        assert ledger.hopeless() is None


def test_lost_nodes_cost_no_tries_but_only_so_often():
    lost = Fault(ErrorKind.PROCESS_DIED, "the node went away", blameless=True)
    ledger = ledger_of(Batch(tasks("a")))
    for _ in range(MAX_LOSSES):
        batch = ledger.take()
        assert batch.attempt == 1
        assert ledger.faulted(batch, lost) is None
        assert ledger.hopeless() is None
    assert ledger.faulted(ledger.take(), lost) is None
    assert ledger.take().attempt == 2


def test_what_cannot_be_written_stays_undone():
    ledger = ledger_of(Batch(tasks("a", "b")))
    unwritable = Fault(ErrorKind.STORAGE, "its rows could not be written")
    for _ in range(MAX_UNWRITTEN):
        assert ledger.faulted(ledger.take(), unwritable) is None
    assert ledger.take() is None
    assert ledger.unwritten == 2
    assert not ledger.counts


def test_a_batch_nobody_began_comes_first_and_unchanged():
    ledger = ledger_of(Batch(tasks("a")), Batch(tasks("b")))
    batch = ledger.take()
    ledger.put_back(batch)
    assert ledger.take() is batch
    assert names(ledger.take()) == ["b"]


def test_faults_alike_end_the_run_and_one_finished_batch_forgives():
    ledger = ledger_of(*(Batch(tasks(f"i{k}")) for k in range(100)), patience=5)
    for _ in range(4):
        ledger.faulted(ledger.take(), DIED)
    assert ledger.hopeless() is None
    ledger.answered([ok("x")])
    for _ in range(4):
        ledger.faulted(ledger.take(), DIED)
    assert ledger.hopeless() is None
    ledger.faulted(ledger.take(), DIED)
    assert "process_died" in ledger.hopeless()
    assert "its process died" in ledger.hopeless()


def test_faults_of_different_kinds_are_not_alike():
    ledger = ledger_of(*(Batch(tasks(f"i{k}")) for k in range(100)), patience=3)
    for k in range(10):
        kind = (ErrorKind.PROCESS_DIED, ErrorKind.TIMEOUT)[k % 2]
        ledger.faulted(ledger.take(), Fault(kind, "…"))
    assert ledger.hopeless() is None


@pytest.mark.parametrize(
    ("kind", "before", "stops", "expected"),
    [
        (ErrorKind.INTERNAL, [], True, True),
        (ErrorKind.STORAGE, [], True, True),
        (ErrorKind.MISSING_FILE, [], True, False),
        (ErrorKind.INTERNAL, [ok("good")], True, False),
        (ErrorKind.INTERNAL, [], False, False),
    ],
)
def test_rows_that_all_fail_alike_end_the_run(kind, before, stops, expected):
    ledger = ledger_of(stop_on_failures_alike=stops)
    ledger.answered(before)
    failed = [RowOutcome(f"i{k}", "failed", kind, "no such thing") for k in range(MAX_FAILURES_ALIKE)]
    ledger.answered(failed[:-1])
    assert ledger.hopeless() is None
    ledger.answered(failed[-1:])
    assert (ledger.hopeless() is not None) == expected


def test_a_fault_that_every_batch_would_meet_ends_the_run_at_once():
    ledger = ledger_of(Batch(tasks("a")))
    assert ledger.faulted(ledger.take(), Fault(ErrorKind.INTERNAL, "there are no such weights", fatal=True)) is None
    assert ledger.hopeless() == "there are no such weights"


def test_a_batch_that_was_stored_all_the_same_is_a_finished_one():
    ledger = ledger_of(Batch(tasks("a", "b")), Batch(tasks("c", "d")))
    ledger.faulted(Batch(tasks("x")), DIED)
    batch = ledger.take()
    assert ledger.recovered([ok("a"), ok("b")], None, DIED) is None
    assert (ledger.counts["refined"], ledger.faults[ErrorKind.PROCESS_DIED]) == (2, 2)
    assert names(batch) == ["x"]

    ledger.recovered([ok("c")], Batch(tasks("d")), DIED)
    assert ledger.counts["refined"] == 3
    again = ledger.take()
    assert (names(again), again.tries) == (["d"], 1)
