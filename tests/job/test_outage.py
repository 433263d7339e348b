"""A store that does not answer is waited for, with a look now and then, and not for ever."""

from __future__ import annotations

from refine_batch.job.outage import LOOK_EVERY, SUSPECT, Outage


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_a_store_is_away_for_everyone_when_batch_after_batch_comes_to_nothing():
    clock = Clock()
    outage = Outage(60.0, clock)
    outage.met("503")
    assert not outage.over(), "one batch is no outage"
    for _ in range(SUSPECT):
        assert not outage.waiting
        outage.met("503")
    assert outage.waiting
    assert not outage.look()
    clock.now += LOOK_EVERY
    assert outage.look()
    assert not outage.look(), "one batch looks, not all of them"
    assert outage.over()
    assert not outage.waiting


def test_patience_ends():
    clock = Clock()
    outage = Outage(60.0, clock)
    for _ in range(SUSPECT):
        outage.met("503")
    clock.now += 60
    assert (outage.waiting, outage.too_long) == (False, True)
    assert not outage.over(), "nobody waited any more"
    assert not outage.too_long
