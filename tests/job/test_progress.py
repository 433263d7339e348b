import io

import pytest
from rich.console import Console
from rich.text import Text

from refine_batch.job.progress import Lines, Live, Rate, Snapshot, line
from refine_batch.results.durations import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3599, "1 h"), (12_000, "3 h 20 min"), (200_000, "2 d 7 h")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_rate_is_that_of_the_last_minutes():
    rate = Rate()
    assert rate.update(0, 0.0) is None
    assert rate.update(10, 10.0) == 1.0
    for second in range(20, 1000, 10):
        last = rate.update(10 + 3 * (second - 10), float(second))
    assert last == pytest.approx(3.0)


def test_line_says_what_a_person_asks_first():
    snapshot = Snapshot(rows=400, skipped=2, refined=8, kept=1, failed=1, iou=(0.7124, 0.9033), actors=1, starting=2)
    assert line(snapshot, 0.35) == (
        "12/400 rows, 0.35/s, 18 min left, 2 done before, 1 kept, 1 failed, 2D IoU 0.712 → 0.903, 1 actor (+2 starting)"
    )
    assert line(Snapshot(rows=3, stopping=True), None) == "0/3 rows, 0 failed, 0 actors, stopping"


def test_lines_are_plain_and_rare():
    stream = io.StringIO()
    reporter = Lines(stream, interval=1000)
    for finished in range(50):
        reporter.show(Snapshot(rows=50, refined=finished))
    reporter.say("failed: two\nlines\x1b[31m: mesh_broken")
    reporter.close()
    shown = stream.getvalue().splitlines()
    assert len(shown) == 3
    assert shown[0].endswith("0/50 rows, 0 failed, 0 actors")
    assert "two lines" in shown[1]
    assert "49/50 rows" in shown[2], "the last state is shown in any case"
    assert "\x1b" not in stream.getvalue()


def test_lines_do_not_repeat_what_has_not_changed(monkeypatch):
    now = 1000.0
    monkeypatch.setattr("refine_batch.job.progress.time.monotonic", lambda: now)
    stream = io.StringIO()
    reporter = Lines(stream, interval=5)
    for _ in range(61):
        reporter.show(Snapshot(rows=9, refined=4))
        now += 2.0
    assert len(stream.getvalue().splitlines()) == 3, "at 0, 60 and 120 seconds"
    reporter.show(Snapshot(rows=9, refined=5))
    reporter.close()
    assert "5/9 rows" in stream.getvalue().splitlines()[-1]
    assert len(stream.getvalue().splitlines()) == 4


def test_live_view_takes_an_id_of_markup_as_text():
    stream = io.StringIO()
    reporter = Live(Console(file=stream, force_terminal=True, width=100))
    reporter.show(Snapshot(rows=4, refined=1, iou=(0.5, 0.75), actors=2))
    reporter.say("failed: [red]x[/red]: mesh_broken")
    reporter.close()
    shown = stream.getvalue()
    assert "1/4 rows" in shown
    assert "0.500 → 0.750" in shown
    assert "[red]x[/red]" in shown


@pytest.mark.parametrize("width", [60, 80, 200])
def test_live_view_says_everything_on_a_terminal_of_any_width(monkeypatch, width):
    now = 1000.0
    monkeypatch.setattr("refine_batch.job.progress.time.monotonic", lambda: now)
    stream = io.StringIO()
    reporter = Live(Console(file=stream, force_terminal=True, width=width, height=30))
    reporter.show(Snapshot(rows=4000, refined=1))
    now += 10.0
    reporter.show(
        Snapshot(rows=4000, skipped=20, refined=8, kept=1, failed=1, iou=(0.7124, 0.9033), actors=1, starting=2)
    )
    reporter.close()
    shown = " ".join(Text.from_ansi(stream.getvalue()).plain.split())
    for words in ("30/4000 rows", "0.9/s, 1 h 14 min left", "20 done before", "1 kept", "1 failed", "0.712 → 0.903"):
        assert words in shown
    assert "1 actor (+2 starting)" in shown
