"""One batch on the device, the others behind it in their order, and none after it was taken back."""

from __future__ import annotations

import threading

import pytest

from refine_batch.job.turns import Turns, Withdrawn


def waiting(turns, name, log):
    def work():
        try:
            with turns.at_the_device(name):
                log.append(name)
        except Withdrawn:
            log.append(f"not {name}")

    thread = threading.Thread(target=work)
    thread.start()
    while name not in turns._ready:
        pass
    return thread


def test_turns_go_by_who_came_first_among_those_that_are_ready():
    turns, log = Turns(), []
    for name in "abcd":
        turns.enter(name)
    with turns.at_the_device("b"):  # `a` is still being loaded
        threads = [waiting(turns, name, log) for name in "dca"]
        turns.withdraw("c")
        turns.withdraw("b")
        threads[1].join(10)
        assert log == ["not c"]
    for thread in threads:
        thread.join(10)
    assert log == ["not c", "a", "d"]
    turns.enter("e")
    turns.withdraw("e")
    with pytest.raises(Withdrawn):
        turns.check("e")


def test_busy_and_idle_are_told_apart():
    turns = Turns()
    for name in "ab":
        turns.enter(name)
        with turns.at_the_device(name):
            pass
    assert turns.busy >= 0
    assert turns.idle >= 0
    assert turns.busy + turns.idle > 0


def test_a_batch_that_comes_again_after_it_was_taken_back_has_its_turn():
    turns = Turns()
    turns.enter("a")
    turns.withdraw("a")
    turns.leave("a")
    turns.enter("a")
    with turns.at_the_device("a"):
        pass
