"""Who gets what: the shares of a small plan, of a growing cluster, of what one actor holds and another could do."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from test_shelf import shelf_of

from refine_batch.job.batch import Batch
from refine_batch.job.schedule import DEPTH, FIRST_DEPTH, Schedule
from refine_batch.job.sizing import Costs, Pace


class Rows:
    def __init__(self, count):
        self._shelf = shelf_of(np.full(count, 1e5))

    exhausted = property(lambda self: not self._shelf.rows)
    left = property(lambda self: self._shelf.weight)
    each = property(lambda self: self._shelf.each)

    def take(self, most, weight=np.inf):
        taken = self._shelf.take(most, weight)
        return None if taken is None else Batch(taken[0], weight=taken[1])


@dataclass(eq=False)
class Hand:
    batches: list = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)
    since: float = 0.0


def hand_of(speed):
    """One that has answered before, and was as fast as that."""
    hand = Hand()
    hand.pace.add(64.0, 64.0, Costs())
    hand.pace.speed = speed
    return hand


def schedule_of(count, hands, actors=None, exact=False, largest=64):
    return Schedule(
        Rows(count),
        largest=largest,
        exact=exact,
        actors=lambda: actors or len(hands),
        everyone=lambda: hands,
        clock=lambda: 0.0,
    )


def give(hand, batch):
    hand.batches.append(batch)


def test_a_thousand_changed_rows_reach_a_hundred_actors():
    hands = [Hand() for _ in range(100)]
    schedule_of(1000, hands).hand_out(hands, give)
    sizes = [sum(map(len, hand.batches)) for hand in hands]
    assert sum(sizes) == 1000
    assert min(sizes[:90]) >= 10
    assert max(sizes) <= 12


def test_a_cluster_that_scales_from_nothing_is_not_taken_for_one_actor():
    first = [Hand()]
    schedule_of(1000, first, actors=64).hand_out(first, give)
    assert sum(map(len, first[0].batches)) <= 2 * 1000 / 64


def test_where_much_is_left_batches_are_full_and_an_actor_holds_as_many_as_its_pipeline_takes():
    hands = [hand_of(1.0) for _ in range(3)]
    schedule_of(100_000, hands).hand_out(hands, give)
    assert [[len(batch) for batch in hand.batches] for hand in hands] == [[64] * DEPTH] * 3


def test_whoever_may_be_slow_or_is_has_less_in_hand():
    """Nobody else can begin what waits there, until others have nothing to do."""
    hands = [Hand(), hand_of(1.0), hand_of(0.3)]
    schedule_of(100_000, hands).hand_out(hands, give)
    assert [len(hand.batches) for hand in hands] == [FIRST_DEPTH, DEPTH, 2]


def test_the_speed_of_an_actor_is_what_it_is_by_all_that_it_did():
    hands = [Hand() for _ in range(10)]
    schedule = schedule_of(100_000, hands)
    schedule.hand_out(hands, give)
    for weight in (200.0, 100.0, 70.0, 64.0):
        for number, hand in enumerate(hands):
            slowness = 3.0 if number == 9 else 1.0
            schedule.took(hand, replace(hand.batches[0], weight=weight), slowness * (2.0 + 0.05 * weight))
    speeds = [hand.pace.speed for hand in hands]
    assert speeds[9] / np.mean(speeds[:9]) == pytest.approx(1 / 3, rel=0.1)
    assert speeds[:9] == pytest.approx([speeds[0]] * 9, rel=0.1)


def test_a_slow_actor_gets_less():
    hands = [hand_of(1.0), hand_of(0.25)]
    schedule_of(100, hands).hand_out(hands, give)
    fast, slow = (sum(map(len, hand.batches)) for hand in hands)
    assert slow == pytest.approx(20, abs=2)
    assert fast == pytest.approx(40, abs=2), "of its two equal batches the second is for whoever is free first"


def test_a_batch_size_that_was_asked_for_is_what_there_is():
    hands = [Hand() for _ in range(100)]
    schedule_of(100, hands, exact=True, largest=8).hand_out(hands, give)
    assert [len(batch) for hand in hands for batch in hand.batches] == [8] * 12 + [4]


def test_what_waits_in_a_busy_hand_is_taken_back_for_an_idle_one_and_shared_by_two():
    hands = [Hand(), Hand(), Hand()]
    schedule = schedule_of(64, [hands[0]], exact=True, largest=32)
    schedule.hand_out(hands[:1], give)
    assert len(hands[0].batches) == 2
    assert schedule.to_take_back(hands, []) == []
    [(hand, batch)] = schedule.to_take_back(hands, hands[1:])
    assert (hand, batch) == (hands[0], hands[0].batches[1])
    schedule._exact, schedule._everyone = False, lambda: hands
    schedule.ledger.put_back(hand.batches.pop())
    schedule.hand_out(hands[1:], give)
    assert [[len(batch) for batch in hand.batches] for hand in hands] == [[32], [16], [16]]
    ids = [name for hand in hands for batch in hand.batches for name in batch.ids]
    assert len(ids) == len(set(ids)) == 64


def with_costs(schedule):
    """A batch costs 2 s and each weight 0.05 s on top."""
    for weight in (40.0, 80.0):
        schedule.costs.add(weight, 2.0 + 0.05 * weight)
    return schedule


def batch_of(rows):
    return Rows(rows).take(rows)


def test_what_waits_is_left_where_it_is_done_sooner():
    """The idle one is so slow that the busy one has done both before."""
    busy, slow, quick = hand_of(1.0), hand_of(0.2), hand_of(1.0)
    busy.batches = [batch_of(32), batch_of(32)]
    schedule = with_costs(schedule_of(0, [busy, slow, quick]))
    assert schedule.to_take_back([busy], [slow]) == []
    assert schedule.to_take_back([busy], [slow, quick]) == [(busy, busy.batches[1])]


@pytest.mark.parametrize("again", [False, True])
def test_a_slow_actor_begins_nothing_that_others_do_sooner(again):
    """Beginning a batch takes the slow one 20 s; the others are free in a moment and do all that is left in less."""
    slow, others = hand_of(0.1), [hand_of(1.0), hand_of(1.0)]
    schedule = with_costs(schedule_of(0 if again else 40, [slow, *others]))
    for other in others:
        other.batches = [batch_of(8)]
    if again:
        schedule.ledger.put_back(batch_of(40))
    schedule.hand_out([slow], give)
    assert not slow.batches
    schedule.hand_out(others, give)
    assert [len(batch) for other in others for batch in other.batches] == [8, 8], "nor is little queued"
    for other in others:
        other.batches.clear()
    schedule.hand_out([slow, *others], give)
    assert [len(batch) for other in others for batch in other.batches] == pytest.approx([20, 20], abs=1)
    assert not slow.batches


def test_whoever_alone_is_left_does_what_is_left_however_slow():
    """Actors that were expected may never come."""
    slow = hand_of(0.1)
    schedule = with_costs(schedule_of(100, [slow], actors=3))
    while not schedule._work.exhausted:
        schedule.hand_out([slow], give)
        assert slow.batches, "some of it"
        slow.batches.clear()


def test_the_rows_of_a_lost_node_are_shared_out_near_the_end():
    hands = [hand_of(1.0) for _ in range(4)]
    schedule = with_costs(schedule_of(0, hands))
    lost = replace(batch_of(64), losses=1)
    schedule.ledger.put_back(lost)
    schedule.hand_out(hands, give)
    assert [[len(batch) for batch in hand.batches] for hand in hands] == [[16]] * 4
    assert {batch.losses for hand in hands for batch in hand.batches} == {1}
    assert sorted(name for hand in hands for batch in hand.batches for name in batch.ids) == sorted(lost.ids)


def test_a_batch_that_has_to_be_alone_is_given_to_an_actor_without_another():
    busy, free = Hand(), Hand()
    schedule = schedule_of(100, [busy, free], exact=True, largest=10)
    schedule.hand_out([busy], give, at_most=1)
    schedule.ledger.put_back(replace(busy.batches[0], alone=True))
    schedule.hand_out([busy], give, at_most=1)
    assert [batch.alone for batch in busy.batches] == [False, False]
    schedule.hand_out([free, busy], give)
    assert [batch.alone for batch in free.batches] == [True], "and it gets no other"


def fleet():
    path = Path(__file__).parents[2] / "benchmarks" / "fleet.py"
    specification = importlib.util.spec_from_file_location("fleet", path)
    module = importlib.util.module_from_spec(specification)
    sys.modules["fleet"] = module
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rows": 100, "spread": 0.0},
        {"spread": 1.5},
        {"losses": 0.5},
        {"grows": True},
        {"actors": 1, "rows": 2000},
        {"slow": 0.3, "losses": 0.5},
    ],
    ids=lambda changes: ", ".join(changes) or "plain",
)
def test_a_simulated_fleet_ends_within_a_tenth_of_the_bound(changes):
    """The real ledger, shelf and schedule; benchmarks/fleet.py prints larger ones."""
    simulation = fleet()
    scenario = simulation.Scenario(**{"name": "", "rows": 20_000, "actors": 20} | changes)
    makespan, bound = simulation.Fleet(scenario).run()
    assert makespan <= 1.1 * bound


@pytest.mark.parametrize("seed", [1, 2])
def test_nodes_that_are_slow_without_anybodys_knowing_it_cost_little(seed):
    """What a slow actor begins in the end is done soon after all else, or is left to others."""
    simulation = fleet()
    makespan, bound = simulation.Fleet(simulation.Scenario("", 20_000, 20, slow=0.2), seed).run()
    assert makespan <= 1.04 * bound
