from refine_batch.job.batch import Report, RowOutcome
from refine_batch.job.tally import Tally


def test_means_are_over_the_rows_that_have_a_figure_before_and_after():
    tally = Tally()
    rows = [
        RowOutcome("a", "refined", before={"iou_2d": 0.5, "emd": 1.0}, after={"iou_2d": 0.75}, seconds=2.0),
        RowOutcome("b", "kept", before={"iou_2d": 0.25}, after={"iou_2d": 0.25}, seconds=1.0),
        RowOutcome("c", "failed", seconds=0.5),
    ]
    tally.add(Report.of(rows[:1], {"load": 1.0, "optimise": 2.0}))
    tally.add(Report.of(rows[1:], {"optimise": 0.5}))
    assert tally.mean("iou_2d") == (0.375, 0.5)
    assert tally.mean("emd") is None
    assert tally.means() == {"iou_2d": {"before": 0.375, "after": 0.5, "count": 2}}
    assert tally.seconds == 3.5
    assert tally.stages == {"load": 1.0, "optimise": 2.5}


def test_what_is_in_doubt_and_how_busy_devices_were_is_added_up():
    tally = Tally()
    rows = [RowOutcome("a", "kept", doubtful=True), RowOutcome("b", "kept"), RowOutcome("c", "kept", doubtful=True)]
    tally.add(Report.of(rows[:1], device=(2.0, 1.0)))
    tally.add(Report.of(rows[1:], device=(1.0, 0.5)))
    assert (tally.doubtful, tally.busy, tally.idle) == (2, 3.0, 1.5)
