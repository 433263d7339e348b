"""What a night does besides refining, and when it raises an alert."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from refine_batch.results.schema import FIGURES

Share = Annotated[float, Field(ge=0, le=1)]


class NightlyOptions(BaseModel):
    """Options of jobs/nightly.py besides those of `run`. Nothing here changes a result."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    compact: bool = Field(
        True,
        description="Merge small result files and drop superseded rows after refining. On, because a night's increment "
        "is many small files, which make every later reader slow.",
    )
    target_size: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        128.0, description="Size of the merged files, MB: large enough to scan fast, small enough to read one by one."
    )
    report: str | None = Field(
        None,
        description="Where to write the HTML report: a path or a URI such as s3://bucket/report.html. By default none.",
    )
    report_sample: Annotated[int, Field(ge=1)] = Field(
        24, description="Instances in the report's gallery: enough to see what is typical, few enough for one page."
    )
    max_increment_failed: Share = Field(
        0.5,
        description="Largest share of this night's rows that may fail. Beside --max-failed-fraction, which is of the "
        "whole dataset: in a large one a night that fails altogether would not show.",
    )
    max_regression: Share = Field(
        0.05,
        description="Largest relative worsening of a figure's mean since the last night, of the dataset and of the "
        "instances that were refined anew. Not 0, because other seeds and a few new instances move a mean as well.",
    )
    figure_limits: str = Field(
        "",
        description="Limits of the dataset's mean figures after refinement, such as iou_2d=0.85,chamfer_l2=6: at least "
        "that for figures where more is better, at most that for the others. By default none.",
    )
    lock_wait: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        75.0,
        description="Seconds to wait for another night to end before refusing to start. A little more than it takes to "
        "notice that one was killed, so that a retry need not fail for it.",
    )

    @field_validator("figure_limits")
    @classmethod
    def _readable(cls, text: str) -> str:
        parse_limits(text)
        return text

    def limits(self) -> dict[str, float]:
        """`figure_limits` by figure."""
        return parse_limits(self.figure_limits)


def parse_limits(text: str) -> dict[str, float]:
    """`iou_2d=0.85,chamfer_l2=6` as a dict. Raises ValueError, saying what was found and what would be right."""
    limits = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (part.strip() for part in entry.partition("="))
        if name not in FIGURES:
            raise ValueError(f"there is no figure {name!r}; there are {', '.join(FIGURES)}")
        try:
            limits[name] = float(value) if equals else math.nan
        except ValueError:
            limits[name] = math.nan
        if not math.isfinite(limits[name]):
            raise ValueError(f"write each limit as FIGURE=NUMBER, such as iou_2d=0.85; found {entry!r}")
    return limits
