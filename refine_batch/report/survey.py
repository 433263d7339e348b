"""One pass over an output's small columns: how the figures changed, and which instances are worth looking at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refine_batch.io.storage import Storage
from refine_batch.results.live import live_rows
from refine_batch.results.schema import FIGURES, LOWER_IS_BETTER, STATUSES

# Which figure says best whether a refinement helped: that of the shape where a ground truth tells, else the mask's.
_RANKED_BY = ("chamfer_l2", "iou_2d")
# Of a sample, in this order; what a group cannot fill goes to the others.
GROUPS = ("best", "median", "worst", "kept", "failed")
_SHARES = {"best": 0.25, "median": 0.25, "worst": 0.25, "kept": 0.125, "failed": 0.125}
_BINS = 40
# Of fewer, none is left out of the scale.
_TRIMMED_FROM = 200


@dataclass(frozen=True)
class Histogram:
    """How often a figure changed by how much, over the refined instances; gains are positive, whatever the figure.

    `edges` (B + 1,) are multiples of one width, so that zero is an edge; what lies beyond the first or last one, of
    many instances at most 1 %, is counted in the outermost bin.
    """

    edges: list[float]
    counts: list[int]
    beyond: int
    unchanged: int


@dataclass(frozen=True)
class Survey:
    """What the gallery and the charts are made from.

    Attributes
    ----------
    ranked_by
        The figure by which instances are best, median or worst; None where none has any.
    choices
        (instance_id, group) in the order of GROUPS.
    """

    histograms: dict[str, Histogram]
    ranked_by: str | None
    choices: list[tuple[str, str]]


def survey(storage: Storage, *, sample: int, seed: int) -> Survey:
    """Read status and figures of every instance; about 60 bytes a row and the ids are held.

    Parameters
    ----------
    sample
        Instances to choose.
    seed
        Of the choice among those kept and failed.
    """
    columns = ["instance_id", "status", "error_kind", *(f"{f}_{when}" for f in FIGURES for when in ("before", "after"))]
    ids: list[pa.Array] = []
    kinds: list[pa.Array] = []
    statuses: list[np.ndarray] = []
    gains: dict[str, list[np.ndarray]] = {figure: [] for figure in FIGURES}
    for batch in live_rows(storage, columns):
        ids.append(batch["instance_id"])
        kinds.append(batch["error_kind"].dictionary_encode())
        statuses.append(pc.fill_null(pc.index_in(batch["status"], pa.array(STATUSES)), -1).to_numpy().astype(np.int8))
        for figure in FIGURES:
            before, after = (
                batch[f"{figure}_{when}"].to_numpy(zero_copy_only=False).astype(np.float32)
                for when in ("before", "after")
            )
            gains[figure].append(before - after if figure in LOWER_IS_BETTER else after - before)
    status = np.concatenate([np.empty(0, np.int8), *statuses])
    gain = {figure: np.concatenate([np.empty(0, np.float32), *parts]) for figure, parts in gains.items()}
    refined = status == STATUSES.index("refined")
    ranked_by = _ranking_figure(gain, refined)
    groups = _groups(status, kinds, gain, ranked_by, np.random.default_rng(seed))
    names = pa.chunked_array(ids, pa.string())
    choices = [(names[int(row)].as_py(), group) for group, rows in _shared_out(groups, sample).items() for row in rows]
    histograms = {f: made for f in FIGURES if (made := histogram(gain[f][status != STATUSES.index("failed")]))}
    return Survey(histograms, ranked_by, choices)


def _ranking_figure(gain: dict[str, np.ndarray], refined: np.ndarray) -> str | None:
    known = {figure: np.count_nonzero(np.isfinite(gain[figure][refined])) for figure in _RANKED_BY}
    half = np.count_nonzero(refined) / 2
    return next((f for f in _RANKED_BY if known[f] and known[f] >= half), next((f for f in known if known[f]), None))


def _groups(
    status: np.ndarray,
    kinds: Sequence[pa.Array],
    gain: dict[str, np.ndarray],
    ranked_by: str | None,
    random: np.random.Generator,
) -> dict[str, np.ndarray]:
    """By group the rows in the order in which they are wanted, each row in every group that it could stand in."""
    refined = np.flatnonzero(status == STATUSES.index("refined"))
    kept = random.permutation(np.flatnonzero(status == STATUSES.index("kept")))
    failed = random.permutation(np.flatnonzero(status == STATUSES.index("failed")))
    if ranked_by is not None:
        gains = gain[ranked_by][refined]
        known = np.isfinite(gains)
        refined = refined[known][np.argsort(-gains[known], kind="stable")]
    middle = np.argsort(np.abs(np.arange(len(refined)) - (len(refined) - 1) / 2), kind="stable")
    return {
        "best": refined,
        "median": refined[middle],
        "worst": refined[::-1],
        "kept": kept,
        "failed": _one_of_each_first(failed, kinds),
    }


def _one_of_each_first(rows: np.ndarray, kinds: Sequence[pa.Array]) -> np.ndarray:
    """Rows with the first of each kind of failure before the second of any."""
    if not len(rows):
        return rows
    kind = pa.chunked_array(kinds).unify_dictionaries().combine_chunks()
    codes = pc.fill_null(kind.indices.take(pa.array(rows)), -1).to_numpy()
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(codes[order]) != 0])
    sizes = np.diff(np.r_[starts, len(order)])
    turn = np.empty(len(rows), np.int64)
    turn[order] = np.arange(len(rows)) - np.repeat(starts, sizes)
    return rows[np.argsort(turn, kind="stable")]


def _shared_out(groups: dict[str, np.ndarray], sample: int) -> dict[str, list[int]]:
    """Rows for each group, none twice, `sample` in all as far as there are so many."""
    quota = {group: round(sample * share) for group, share in _SHARES.items()}
    # Of a few instances no more than a third are called the best, and no more the worst.
    third = -(-len(groups["best"]) // 3)
    quota |= {group: min(quota[group], third) for group in ("best", "worst")}
    chosen: dict[str, list[int]] = {group: [] for group in GROUPS}
    taken: set[int] = set()

    def take(group: str, number: int) -> None:
        for row in map(int, groups[group]):
            if number <= 0:
                return
            if row not in taken:
                taken.add(row)
                chosen[group].append(row)
                number -= 1

    for group in ("worst", "kept", "failed", "best", "median"):
        take(group, min(quota[group], sample - len(taken)))
    for group in ("median", "failed", "kept"):
        take(group, sample - len(taken))
    return chosen


def histogram(gains: np.ndarray) -> Histogram | None:
    """The distribution of finite gains; None where there are none."""
    gains = gains[np.isfinite(gains)].astype(np.float64)
    if not len(gains):
        return None
    moved = gains[gains != 0]
    unchanged = len(gains) - len(moved)
    if not len(moved):
        return Histogram([], [], 0, unchanged)
    low, high = np.percentile(moved, [0.5, 99.5]) if len(moved) >= _TRIMMED_FROM else (moved.min(), moved.max())
    low, high = min(low, 0.0), max(high, 0.0)
    width = _round_width((high - low) / min(_BINS, 10 + len(moved) // 10))
    first, last = int(np.floor(low / width)), int(np.ceil(high / width))
    edges = np.arange(first, max(last, first + 1) + 1) * width
    beyond = int(np.count_nonzero((moved < edges[0]) | (moved > edges[-1])))
    # A gain of exactly an edge lies above it, a loss below: none may cross zero.
    inside = np.clip(moved, edges[0], np.nextafter(edges[-1], -np.inf))
    counts = np.bincount(np.searchsorted(edges, inside, side="right") - 1, minlength=len(edges) - 1)
    return Histogram(edges.tolist(), counts.tolist(), beyond, unchanged)


def _round_width(width: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(max(width, 1e-12)))
    return float(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= width * (1 - 1e-9)))
