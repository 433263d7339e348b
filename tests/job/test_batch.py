"""A batch on its way between processes."""

from __future__ import annotations

import pyarrow as pa
from ray import cloudpickle

from refine_batch.dataset.row import ManifestRow
from refine_batch.job.batch import Batch, Task


def tasks(count):
    names = [f"i{number:05} \N{CHAIR}" for number in range(count)]
    return [
        Task(ManifestRow(n, f"/{n}.obj", f"/{n}.png", azimuth=1.5, intrinsics=[1.0] * 4), f"f-{n}", 2) for n in names
    ]


def test_a_batch_arrives_as_it_was_sent():
    batch = Batch.of(tasks(7), tries=1, losses=2, waits=3, alone=True, last=True, weight=4.5)
    arrived = cloudpickle.loads(cloudpickle.dumps(batch))
    assert arrived == batch
    assert arrived.rows.equals(batch.rows)
    assert (arrived.tasks, arrived.name, arrived.weight) == (batch.tasks, batch.name, 4.5)
    none = cloudpickle.loads(cloudpickle.dumps(batch.chosen([])))
    assert len(none) == 0


def test_a_few_rows_travel_without_those_they_came_with():
    some = Batch(pa.RecordBatch.from_pylist([], schema=Batch.of([]).rows.schema))
    many = Batch.of(tasks(5000))
    few = Batch(many.rows.slice(100, 3))
    data = cloudpickle.dumps(few)
    assert len(data) < len(cloudpickle.dumps(some)) + 10_000
    assert cloudpickle.loads(data).ids == many.ids[100:103]
