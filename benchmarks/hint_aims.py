"""What lines of `benchmarks/hints.py` come to: a table, and what was aimed at beside what was reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from shapes import WORSE

# Coarse meshes up to this Chamfer-L2 are good: there is nothing to gain.
GOOD = 0.5


def table(lines: list[dict]) -> Iterator[str]:
    heads = [
        "case",
        "kind",
        "n",
        "kept",
        "Chamfer-L2 in place",
        "of coarse",
        "without the guard",
        "of one picture's",
        "worse",
        "F-score",
        "true outline",
        "CPU s",
    ]
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    single = {_of(line): line for line in lines if line["case"] == "one" and "chamfer" in line}
    for case in dict.fromkeys(line["case"] for line in lines):
        of_case = [line for line in lines if line["case"] == case and "chamfer" in line]
        for kind in [*dict.fromkeys(line["kind"] for line in of_case), "all"]:
            some = [line for line in of_case if kind in ("all", line["kind"])]
            before, after = np.array([line["chamfer"] for line in some]).T
            alike = [single.get(_of(line)) for line in some]
            beside = "–"
            if all(alike):
                beside = f"{after.mean() / np.mean([line['chamfer'][1] for line in alike if line]):.2f}"
            f_score = np.mean([line["f_score"] for line in some], axis=0)
            cells = [case, kind, str(len(some)), f"{np.mean([line['status'] == 'kept' for line in some]):.0%}"]
            cells += [f"{before.mean():.2f} → {after.mean():.2f}", f"{after.mean() / before.mean():.2f}"]
            cells += [f"{np.mean([line['free'] for line in some]) / before.mean():.2f}", beside]
            cells += [f"{(after > WORSE * before).mean():.0%}", f"{f_score[0]:.3f} → {f_score[1]:.3f}"]
            cells += [f"{np.mean([line.get('outline', np.nan) for line in some]):.3f}"]
            yield "| " + " | ".join([*cells, f"{np.mean([line['cpu'] for line in some]):.1f}"]) + " |"


def aims(lines: list[dict]) -> Iterator[str]:
    """Rows of a table: what, how many instances, aimed at, reached; what was not run is left out."""
    yield "| aim | n | at most or at least | reached | |"
    yield "|---|---|---|---|---|"
    by_case: dict[str, dict[tuple, dict]] = {}
    for line in lines:
        if "chamfer" in line:
            by_case.setdefault(line["case"], {})[_of(line)] = line

    def row(
        name: str,
        limit: float,
        values: list[float],
        least: bool = False,
        find: Callable = np.mean,
        count: int | None = None,
    ) -> str:
        found = float(find(values))
        met = found >= limit if least else found <= limit
        aimed = f"{'≥' if least else '≤'} {limit:g}"
        return f"| {name} | {count or len(values)} | {aimed} | {found:.3f} | {'' if met else 'missed'} |"

    def pairs(case: str, other: str) -> list[tuple[dict, dict]]:
        found, beside = by_case.get(case, {}), by_case.get(other, {})
        return [(found[k], beside[k]) for k in found if k in beside]

    for case, limit in (("blur2", 0.97), ("blur4", 0.95)):
        if both := pairs(case, "one"):
            alpha = f"alpha blurred by {case[-1]} px"
            yield row(f"{alpha}: 2D IoU with the true outline", limit, [a["outline"] for a, _ in both], True)
            gone = [b["outline"] - a["outline"] for a, b in both]
            yield row(f"{alpha}: less of it than by a hard mask", 1.0 - limit, gone)
    for case, name, limit in (
        ("occluded", "a quarter hidden and said so, to all seen", 1.25),
        ("frame", "cut by the frame, to all seen", 1.15),
        ("views", "four views, to one", 0.6),
        ("views-off", "four views off by 5°, to one", 0.75),
    ):
        beside = "one-off" if case == "views-off" else "one"
        if both := pairs(case, beside):
            yield row(f"{name}: mean Chamfer", limit, [_ratio(both)], count=len(both))
    for case in ("occluded-blind", "band-blind"):
        if found := [line["chamfer"] for line in by_case.get(case, {}).values()]:
            change = np.array(found)[:, 1].mean() / np.array(found)[:, 0].mean()
            yield row(f"{case}: mean Chamfer to the coarse", 1.1, [change], count=len(found))
            worse = [float(after > 1.1 * before) for before, after in found]
            yield row(f"{case}: share worse by more than 10 %", 0.0, worse)
    yield from _hints(by_case, row)
    for case in ("depth-smooth", "normals-smooth"):
        if good := [line["chamfer"] for (_, kind, _), line in by_case.get(case, {}).items() if kind == "good"]:
            yield row(f"{case}, good: share made worse", 0.0, [float(after > WORSE * before) for before, after in good])
    wrong = [f"{what}-foreign{how}" for what in ("depth", "normals") for how in ("", "-cut", "-whole")]
    for case in (*wrong, "views-foreign"):
        if found := list(by_case.get(case, {}).values()):
            silent = [line for line in found if line["chamfer"][1] > WORSE * line["chamfer"][0] and not line["notes"]]
            yield row(f"{case}: worse in silence", 0.0, [float(line in silent) for line in found])
    for case, limit in (("views", 2.5), ("depth-scale", 1.5), ("normals", 1.5)):
        if ratio := _cost(by_case, case):
            yield row(f"{case}: CPU seconds to one picture's", limit, ratio, find=np.median)


def _hints(by_case: dict[str, dict[tuple, dict]], row: Callable) -> Iterator[str]:
    for case in ("depth", "depth-scale", "depth-range", "inverse", "normals"):
        of_case = list(by_case.get(case, {}).values())
        flat = [line for line in of_case if line["kind"] == "flat"]
        if flat:
            before, after = np.array([line["chamfer"] for line in flat]).T
            if case == "normals":
                gains = [line["f_score"][1] - line["f_score"][0] for line in flat]
                yield row("normals, flat: gain in F-score", 0.05, gains, True)
            else:
                yield row(
                    f"{case}, flat: mean Chamfer to the coarse", 0.4, [after.mean() / before.mean()], count=len(flat)
                )
        good = [line["chamfer"] for line in of_case if line["kind"] == "good" and line["chamfer"][0] <= GOOD]
        if good:
            yield row(f"{case}, good: share made worse", 0.0, [float(after > WORSE * before) for before, after in good])


def _ratio(both: list[tuple[dict, dict]]) -> float:
    return float(np.mean([a["chamfer"][1] for a, _ in both]) / np.mean([b["chamfer"][1] for _, b in both]))


def _cost(by_case: dict[str, dict[tuple, dict]], case: str) -> list[float]:
    """Of the shapes of which both were refined: CPU seconds to those with one picture."""
    seconds: list[dict[tuple, list[dict]]] = []
    for name in (case, "one"):
        of_shape: dict[tuple, list[dict]] = {}
        for line in by_case.get(name, {}).values():
            of_shape.setdefault((line["shape"], line["seed"]), []).append(line)
        seconds.append({k: some for k, some in of_shape.items() if all(line["ran"] for line in some)})
    found, beside = seconds
    return [found[k][0]["cpu"] / beside[k][0]["cpu"] for k in found if k in beside]


def _of(line: dict) -> tuple:
    return line["shape"], line["kind"], line["seed"]
