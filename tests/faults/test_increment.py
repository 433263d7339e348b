"""What tomorrow's run does: what is new or changed, nothing else; whatever became of the runs before."""

from __future__ import annotations

import csv

import pytest
import trimesh
from trial import write_dataset

from refine_batch.results.compact import compact

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_connection")]


def rewrite(manifest, change):
    """Write the manifest again with `change(row)` in place of each row, None to leave it out."""
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    changed = [new for row in rows if (new := change(dict(row))) is not None]
    with manifest.open("w", newline="") as file:
        sheet = csv.DictWriter(file, list(rows[0]))
        sheet.writeheader()
        sheet.writerows(changed)


def test_new_and_changed_rows_are_refined_and_no_others(trial):
    assert trial.run().exit_status == 0
    before = trial.check()
    first = len(trial.begun())

    ids = [*trial.ids, "new"]
    write_dataset(trial.folder, ids)
    trimesh.creation.icosphere(subdivisions=1, radius=0.28).export(trial.folder / "i02.obj")

    def change(row):
        if row["instance_id"] == "i00":
            return None
        return row | {"azimuth": "31"} if row["instance_id"] == "i01" else row

    rewrite(trial.manifest, change)
    second = trial.run()
    assert second.exit_status == 0
    assert (second.record.counts["refined"], second.record.skipped) == (3, 5)
    assert sorted(name for _, some in trial.begun()[first:] for name in some) == ["i01", "i02", "new"]
    assert second.record.not_in_manifest == 1

    rewrite(trial.manifest, lambda row: row)
    third = trial.run()
    assert (third.record.counts, third.record.skipped) == ({}, 8), "that the manifest was written anew says nothing"

    gone = trial.undisturbed["i00"]
    del trial.undisturbed
    trial.undisturbed["i00"] = gone
    trial.check(ids=ids, repeated=2, superseded=2)
    compact(trial.output)
    rows = trial.check(ids=ids, repeated=2)
    assert rows["i00"] == before["i00"], "a row that the manifest no longer names stays as it is"
    assert (rows["i01"]["azimuth"], rows["i03"]["azimuth"]) == (31.0, 30.0)


def test_a_file_that_comes_later_is_a_change(trial):
    mesh = trial.folder / "i05.obj"
    content = mesh.read_bytes()
    mesh.unlink()
    first = trial.run(max_failed_fraction=0.2)
    assert first.record.counts == {"refined": 7, "kept": 0, "failed": 1}
    mesh.write_bytes(content)
    second = trial.run()
    assert (second.exit_status, second.record.skipped, second.record.counts["refined"]) == (0, 7, 1)
    trial.check(superseded=1)
