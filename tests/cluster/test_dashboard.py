"""The Grafana dashboard asks for the metrics that there are, all of them and no others."""

from __future__ import annotations

import json
import re

from cluster_files import CLUSTER
from ray.util.metrics import Histogram

from refine_batch.job.metrics import ALL

DASHBOARD = json.loads((CLUSTER / "grafana/refine-batch.json").read_text(encoding="utf-8"))
PANELS = DASHBOARD["panels"]
METRIC = re.compile(r"\bray_[a-z_]+")
LABELS = {"run", "le"} | {tag for metric in ALL for tag in metric.tags}


def series() -> set[str]:
    """What Prometheus stores of the metrics."""
    names = set()
    for metric in ALL:
        parts = ("_bucket", "_sum", "_count") if metric.kind is Histogram else ("",)
        names |= {metric.exported + part for part in parts}
    return names


def expressions() -> list[str]:
    return [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_every_panel_asks_for_metrics_that_exist():
    for expression in expressions():
        named = METRIC.findall(expression)
        assert named
        assert set(named) <= series(), expression


def test_every_metric_has_a_panel():
    named = set(METRIC.findall(" ".join(expressions())))
    for metric in ALL:
        assert any(name.startswith(metric.exported) for name in named), metric.name


def test_labels_are_those_of_the_metrics_and_every_panel_can_be_narrowed_to_a_run():
    for expression in expressions():
        assert 'run=~"$run"' in expression
        used = re.findall(r"[{,]\s*(\w+)(?:=~|=)", expression)
        used += [label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")]
        assert set(used) <= LABELS, expression


def test_panels_explain_themselves_and_do_not_overlap():
    assert all(panel["title"] and panel["description"] for panel in PANELS)
    cells = [
        (x, y)
        for panel in PANELS
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
