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
