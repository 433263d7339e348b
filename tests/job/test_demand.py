"""How many actors are asked for as a cluster grows, shrinks or stays."""

import pytest

from refine_batch.job.demand import ASKED_BEYOND, Demand


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def demand(actors="auto", grows=True):
    clock = Clock()
    return Demand(actors, grows=grows, node_start=600.0, clock=clock), clock


@pytest.mark.parametrize("slots", [0, 1, 7])
def test_a_number_is_what_is_asked_for_whatever_there_is(slots):
    fixed, _ = demand(5)
    assert fixed.target(slots) == fixed.room(slots) == 5


@pytest.mark.parametrize(("slots", "target"), [(0, 1), (1, 1), (7, 7)])
def test_a_machine_of_its_own_does_not_grow(slots, target):
    own, _ = demand(grows=False)
    assert own.target(slots) == target


def test_a_cluster_without_nodes_is_asked_for_many():
    growing, _ = demand()
    assert growing.target(0) == ASKED_BEYOND
    assert growing.room(0) == 1


def test_asking_ends_where_nothing_comes_of_it():
    growing, clock = demand()
    assert growing.target(4) == 4 + ASKED_BEYOND
    clock.now += 599
    assert growing.target(4) == 4 + ASKED_BEYOND
    clock.now += 1
    assert growing.target(4) == 4


@pytest.mark.parametrize("slots", [5, 3, 0])
def test_a_node_that_comes_or_goes_renews_it(slots):
    growing, clock = demand()
    growing.target(4)
    clock.now += 10_000
    assert growing.target(4) == 4
    assert growing.target(slots) == slots + ASKED_BEYOND
    clock.now += 600
    assert growing.target(slots) == max(1, slots)
