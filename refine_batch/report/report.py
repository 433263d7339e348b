"""From an output to one HTML file."""

from __future__ import annotations

import math
import os
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from refine_batch.config import PictureOptions, RefineConfig
from refine_batch.errors import UsageError
from refine_batch.io.storage import Storage
from refine_batch.io.uri import is_local, normalise, parent, redact
from refine_batch.report.gallery import Exhibit, exhibits
from refine_batch.report.page import render, shortened
from refine_batch.report.survey import GROUPS, Survey, survey
from refine_batch.results.parts import list_parts
from refine_batch.results.run_record import RunRecord
from refine_batch.results.schema import LOWER_IS_BETTER
from refine_batch.results.summary import FigureSummary, GroupSummary, Summary, summarise

SAMPLE = 24
_RUNS_SHOWN = 10
# Distances of an orthographic camera from which a perspective one shows the same, to the eye.
_FAR_AWAY = 50.0
# The largest categories, where there are more than a table and a chart have room for.
_CATEGORIES_LISTED = 200
_CATEGORIES_DRAWN = 24


def write_report(
    output_uri: str, destination: str, *, sample: int = SAMPLE, seed: int = 0, s3_endpoint: str | None = None
) -> None:
    """Write a page about an output: one HTML file that needs nothing else, not even a network.

    Parameters
    ----------
    output_uri
        The OUTPUT of a run: local path or fsspec URI.
    destination
        Of the HTML file: local path or fsspec URI.
    sample
        Instances shown one by one, with image and meshes. The file grows by up to half a megabyte with each.
    seed
        Of the choice among those that were kept and those that failed.

    Raises
    ------
    UsageError
        OUTPUT holds no results, or `destination` names no file.
    StorageError
        One of the two cannot be reached.
    """
    output = Storage(normalise(output_uri), s3_endpoint)
    if not list_parts(output):
        raise UsageError(f"{redact(output.uri)} holds no results; give the OUTPUT of a `refine-batch run`")
    write_page(html_of(output, sample=sample, seed=seed), destination, s3_endpoint)


def write_page(html: str, destination: str, s3_endpoint: str | None = None) -> None:
    """Put a page at `destination`, a path or URI. Raises UsageError where that names no file."""
    folder, name = check_destination(destination)
    Storage(folder, s3_endpoint).write(name, html.encode("utf-8", "replace"))


def check_destination(destination: str) -> tuple[str, str]:
    """(folder, name) of a page to write. Raises UsageError where there is no name, or a folder of that name."""
    target = normalise(destination)
    folder, name = parent(target), target.rpartition("/")[2]
    if not name or folder == target or destination.endswith("/"):
        raise UsageError(f"{redact(destination)} is not the path of a file; write something like report.html")
    if is_local(target) and os.path.isdir(target):
        raise UsageError(f"{redact(destination)} is a folder; write something like {redact(destination)}/report.html")
    return folder, name


def _picture_options(run: RunRecord) -> PictureOptions | None:
    """How a run read its pictures; None where its record holds what this version does not know."""
    try:
        return PictureOptions.model_validate(run.config.get("picture", {}))
    except ValidationError:
        return None


def html_of(output: Storage, *, sample: int = SAMPLE, seed: int = 0) -> str:
    """The page about an output that holds results."""
    summary = summarise(output)
    surveyed = survey(output, sample=sample, seed=seed)
    runs = RunRecord.load_latest(output, _RUNS_SHOWN)
    gallery = exhibits(output, surveyed.choices, _picture_options(runs[0]) if runs else None)
    counts = summary.overall.counts
    known = [name for name, values in summary.overall.figures.items() if values.count]
    values = {
        "output": str(output),
        "rows": sum(counts.values()),
        "summary": summary,
        "categories": dict(_by_name(_largest(summary, _CATEGORIES_LISTED))),
        "drawn": _CATEGORIES_DRAWN,
        "figures": known,
        "lower_is_better": LOWER_IS_BETTER,
        "ranked_by": surveyed.ranked_by,
        "histograms": surveyed.histograms,
        "runs": runs,
        "changed_options": _changed_options(runs[0]) if runs else {},
        "gallery": gallery,
        "groups": [group for group in GROUPS if any(exhibit.group == group for exhibit in gallery)],
    }
    return render(values, _data(summary, surveyed, gallery, known))


def _changed_options(run: RunRecord) -> dict[str, Any]:
    """Options of a run that differ from their defaults, by their dotted names."""

    def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in values.items():
            found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        return found

    defaults = flat(RefineConfig().model_dump(mode="json"))
    return {name: value for name, value in flat(run.config).items() if value != defaults.get(name)}


def _largest(summary: Summary, number: int) -> list[tuple[str | None, GroupSummary]]:
    return sorted(summary.categories.items(), key=lambda item: -sum(item[1].counts.values()))[:number]


def _by_name(groups: list[tuple[str | None, GroupSummary]]) -> list[tuple[str | None, GroupSummary]]:
    """Instances without a category come last."""
    return sorted(groups, key=lambda item: (item[0] is None, item[0]))


def _data(summary: Summary, surveyed: Survey, gallery: list[Exhibit], known: list[str]) -> dict[str, Any]:
    """What the scripts draw."""
    return {
        "histograms": {name: asdict(histogram) for name, histogram in surveyed.histograms.items()},
        "lowerIsBetter": sorted(LOWER_IS_BETTER),
        "categories": [
            {
                "name": shortened(name or "(none)"),
                "figures": {figure: _before_after(group.figures[figure]) for figure in known},
            }
            for name, group in _by_name(_largest(summary, _CATEGORIES_DRAWN))
        ],
        "curves": [
            {"id": shortened(e.row["instance_id"]), "group": e.group, "steps": e.row["steps"], "loss": e.loss_curve}
            for e in gallery
            if e.loss_curve
        ],
        "views": [{"camera": _view(e), "meshes": e.meshes, "look": e.materials} for e in gallery],
    }


def _before_after(values: FigureSummary) -> list[float] | None:
    return None if values.before is None or values.after is None else [values.before, values.after]


def _view(exhibit: Exhibit) -> dict[str, float] | None:
    """What the page's viewer, which knows perspective cameras alone, shows the meshes by."""
    camera = exhibit.camera
    if camera is None:
        return None
    values = {name: getattr(camera, name) for name in ("azimuth", "elevation", "distance", "fov")}
    if camera.projection == "orthographic":
        fov = 2.0 * math.atan(math.tan(math.radians(camera.fov) / 2.0) / _FAR_AWAY)
        values |= {"distance": camera.distance * _FAR_AWAY, "fov": math.degrees(fov)}
    return values
