from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_batch.dataset.row import ManifestRow
from refine_batch.errors import ErrorKind
from refine_batch.job.batch import Batch, Fault, Report, RowOutcome, Task
from refine_batch.job.ledger import (
    MAX_FAILURES_ALIKE,
    MAX_LOSSES,
    MAX_UNWRITTEN,
    MOST_WAITS,
    PUT_OFF,
    Ledger,
)

DIED = Fault(ErrorKind.PROCESS_DIED, "its process died")


def tasks(*names):
    return tuple(Task(ManifestRow(name, "m.obj", "i.png"), f"f-{name}") for name in names)


def ledger_of(*batches, **options):
    source = list(batches)
    return Ledger(lambda: source.pop(0) if source else None, **options)


def names(batch):
    return batch.ids


def ok(*names):
    return Report.of(RowOutcome(name, "refined") for name in names)


def simulate(ledger, killers, fault=DIED):
    """Work everything off with an actor that dies of `killers`; attempts of every row, and the rows given up."""
    begun, given_up = Counter(), {}
    while (batch := ledger.take()) is not None:
        begun.update(names(batch))
        if killers & set(names(batch)):
            end = ledger.faulted(batch, fault)
            if end is not None:
                given_up[end.row.ids[0]] = end
        else:
            ledger.answered(ok(*names(batch)))
    return begun, given_up


def test_a_batch_name_depends_on_its_rows_alone():
    batch = Batch.of(tasks("a", "b"))
    assert batch.name == Batch.of(tasks("a", "b"), tries=3, losses=1).name
    assert len({batch.name, Batch.of(tasks("b", "a")).name, Batch.of(tasks("a")).name, Batch.of(tasks("ab")).name}) == 4


def test_a_row_alone_is_given_up_after_its_second_death():
    ledger = ledger_of(Batch.of(tasks("a")))
    begun, given_up = simulate(ledger, {"a"})
    assert begun["a"] == 2
    assert given_up["a"].attempts == 2
    assert given_up["a"].fault == DIED


def test_a_batch_goes_once_more_whole_before_it_is_halved():
    ledger = ledger_of(Batch.of(tasks("a", "b", "c", "d")))
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
    ledger = ledger_of(Batch.of(tasks(*everyone)), patience=10**6)
    begun, given_up = simulate(ledger, killers)
    assert set(given_up) == killers
    assert ledger.counts["refined"] == size - len(killers)
    assert max(begun.values()) <= 2 + (size - 1).bit_length()


def test_one_killing_row_in_a_large_batch_does_not_look_hopeless():
    ledger = ledger_of(Batch.of(tasks(*(f"i{k}" for k in range(64)))))
    while (batch := ledger.take()) is not None:
        if "i63" in names(batch):
            ledger.faulted(batch, DIED)
        else:
            ledger.answered(ok(*names(batch)))
        assert ledger.hopeless() is None


def test_lost_nodes_cost_no_tries_but_only_so_often():
    lost = Fault(ErrorKind.PROCESS_DIED, "the node went away", blameless=True)
    ledger = ledger_of(Batch.of(tasks("a")))
    for _ in range(MAX_LOSSES):
        batch = ledger.take()
        assert batch.attempt == 1
        assert ledger.faulted(batch, lost) is None
        assert ledger.hopeless() is None
    assert ledger.faulted(ledger.take(), lost) is None
    assert ledger.take().attempt == 2


def test_what_cannot_be_written_is_put_again_and_then_stays_undone():
    ledger = ledger_of(Batch.of(tasks("a", "b")))
    batch = ledger.take()
    assert [ledger.write_again(batch) for _ in range(MAX_UNWRITTEN)] == [True] * (MAX_UNWRITTEN - 1) + [False]
    assert ledger.faulted(batch, Fault(ErrorKind.STORAGE, "its rows could not be written")) is None
    assert ledger.take() is None
    assert ledger.unwritten == 2
    assert not ledger.counts


def test_a_batch_nobody_began_comes_first_and_unchanged():
    ledger = ledger_of(Batch.of(tasks("a")), Batch.of(tasks("b")))
    batch = ledger.take()
    ledger.put_back(batch)
    assert ledger.take() is batch
    assert names(ledger.take()) == ["b"]


def test_faults_alike_end_the_run_and_one_finished_batch_forgives():
    ledger = ledger_of(*(Batch.of(tasks(f"i{k}")) for k in range(100)), patience=5)
    for _ in range(4):
        ledger.faulted(ledger.take(), DIED)
    assert ledger.hopeless() is None
    ledger.answered(ok("x"))
    for _ in range(4):
        ledger.faulted(ledger.take(), DIED)
    assert ledger.hopeless() is None
    ledger.faulted(ledger.take(), DIED)
    assert "process_died" in ledger.hopeless()
    assert "its process died" in ledger.hopeless()


def test_faults_of_different_kinds_are_not_alike():
    ledger = ledger_of(*(Batch.of(tasks(f"i{k}")) for k in range(100)), patience=3)
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
        (ErrorKind.INTERNAL, ["good"], True, False),
        (ErrorKind.INTERNAL, [], False, False),
    ],
)
def test_rows_that_all_fail_alike_end_the_run(kind, before, stops, expected):
    ledger = ledger_of(stop_on_failures_alike=stops)
    ledger.answered(ok(*before))
    failed = [RowOutcome(f"i{k}", "failed", kind, "no such thing") for k in range(MAX_FAILURES_ALIKE)]
    ledger.answered(Report.of(failed[:-1]))
    assert ledger.hopeless() is None
    ledger.answered(Report.of(failed[-1:]))
    assert (ledger.hopeless() is not None) == expected


def test_a_fault_that_every_batch_would_meet_ends_the_run_at_once():
    ledger = ledger_of(Batch.of(tasks("a")))
    assert ledger.faulted(ledger.take(), Fault(ErrorKind.INTERNAL, "there are no such weights", fatal=True)) is None
    assert ledger.hopeless() == "there are no such weights"


def test_a_batch_that_was_stored_all_the_same_is_a_finished_one():
    ledger = ledger_of(Batch.of(tasks("a", "b")), Batch.of(tasks("c", "d")))
    ledger.faulted(Batch.of(tasks("x")), DIED)
    batch = ledger.take()
    assert ledger.recovered(ok("a", "b"), None, DIED) is None
    assert (ledger.counts["refined"], ledger.faults[ErrorKind.PROCESS_DIED]) == (2, 2)
    assert names(batch) == ["x"]

    ledger.recovered(ok("c"), Batch.of(tasks("d")), DIED)
    assert ledger.counts["refined"] == 3
    again = ledger.take()
    assert (names(again), again.tries) == (["d"], 1)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_what_may_pass_is_tried_again_ever_later_and_the_last_time_for_good():
    clock = Clock()
    ledger = ledger_of(Batch.of(tasks("a")), Batch.of(tasks("b")), clock=clock)
    batch, waits = ledger.take(), []
    assert names(ledger.take()) == ["b"], "other work goes on meanwhile"
    while not batch.last:
        ledger.put_off(batch)
        assert (ledger.waiting, ledger.ready) == (1, 0)
        begun = clock.now
        while (again := ledger.take()) is None:
            clock.now += 1
        waits.append(clock.now - begun)
        batch = again
    assert waits == [PUT_OFF * 2**k for k in range(MOST_WAITS)]


def test_a_store_that_is_back_is_not_waited_for():
    ledger = ledger_of(Batch.of(tasks("a")), Batch.of(tasks("b")), clock=Clock())
    batches = [ledger.take(), ledger.take()]
    for batch in batches:
        ledger.put_off(batch, counts=False)
    assert ledger.take() is None
    ledger.hurry()
    assert [names(ledger.take()) for _ in batches] == [["a"], ["b"]]
    assert ledger.waiting == 0


def test_what_was_in_hand_when_another_batch_killed_its_actor_goes_again_alone():
    ledger = ledger_of(Batch.of(tasks("fresh")))
    other = Batch.of(tasks("a", "b"))
    ledger.recovered(ok(), other, replace(DIED, collateral=True))
    assert not ledger.faults, "it met none"
    assert names(ledger.take(alone=False)) == ["fresh"]
    again = ledger.take()
    assert (names(again), again.alone, again.tries) == (["a", "b"], True, 0)
