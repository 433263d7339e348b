"""Actors that wait, on a real Ray."""

from __future__ import annotations

import pytest

from refine_batch.config import RefineConfig
from refine_batch.io.storage import Storage
from refine_batch.job.actor import Assignment
from refine_batch.job.cluster import Cluster, Request


@pytest.fixture
def pool(tmp_path, ray_connection, monkeypatch):
    """Three actors that no node can hold."""
    from refine_batch.job import pool as pool_module

    monkeypatch.setattr(pool_module, "FORGOTTEN_AFTER", -1.0)
    assignment = Assignment("run", Storage(str(tmp_path)), RefineConfig(), "0.1")
    made = pool_module.ActorPool(assignment, Request(cpus=64), instance_timeout=1.0, start_timeout=1.0)
    made.scale(3)
    yield made
    made.close()


def waiting(pool):
    return [worker.handle for worker in pool.of("starting")]


@pytest.mark.parametrize(("room", "kept"), [(0, 3), (1, 2), (2, 1), (5, 0)])
def test_as_many_as_there_is_room_for_are_asked_for_anew(pool, room, kept):
    first = waiting(pool)
    pool.forget_the_forgotten(Cluster(own=False).place_of, [], room)
    assert waiting(pool) == first[3 - kept :]
    pool.scale(3)
    assert len(waiting(pool)) == 3


def test_who_waits_on_a_node_that_can_hold_it_is_not_forgotten(pool):
    first = waiting(pool)
    pool.forget_the_forgotten(lambda actor: "able", ["able"], 3)
    assert waiting(pool) == first
    pool.forget_the_forgotten(lambda actor: "able" if actor is first[1] else None, ["able"], 2)
    assert waiting(pool) == first[1:]


def test_room_that_has_only_come_is_no_reason_yet(pool, monkeypatch):
    monkeypatch.setattr("refine_batch.job.pool.FORGOTTEN_AFTER", 1000.0)
    first = waiting(pool)
    for _ in range(2):
        pool.forget_the_forgotten(Cluster(own=False).place_of, [], 3)
    assert waiting(pool) == first


def test_an_actor_s_place_is_the_node_it_is_on(ray_connection):
    import ray

    class Anybody:
        def answer(self):
            return 1

    [node] = Cluster(own=False).nodes()
    actor = ray.remote(Anybody).options(num_cpus=1).remote()
    assert ray.get(actor.answer.remote()) == 1
    assert Cluster(own=False).place_of(actor) == node
