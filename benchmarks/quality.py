"""Every figure of merit before and after, per method: on real examples with their cameras, and on synthetic objects.

    python benchmarks/quality.py                                     # both methods, 200 and 40 synthetic instances
    python benchmarks/quality.py --methods large-steps --jobs 2
    python benchmarks/quality.py --examples data/manifest.csv --synthetic 0
    python benchmarks/quality.py --seeds 0 1 2 3 4 --synthetic 0     # the spread over seeds
    python benchmarks/quality.py --device cuda --refine-instances 200

Each instance is refined with the guard, and with `--guard on off` without it besides. `worse` is the share of instances
whose Chamfer distance grew by more than 1 %. `--out` keeps a line of JSON per instance; a run that is repeated with the
same file goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from refine_batch import Instance, RefineConfig, refine
from refine_batch.dataset.load import load_instance
from refine_batch.dataset.manifest import Manifest
from refine_batch.dataset.row import ManifestRow
from refine_batch.dataset.synth import make_instance
from refine_batch.instance import CameraError

SHARED = Path(__file__).parents[1].parent / "shared" / "refine-examples" / "manifest.csv"
FIGURES = ("iou_2d", "chamfer_l2", "f_score", "emd", "iou_3d", "iou_multiview")
WORSE = 1.01

# Dataset, method, guard, seed, and a synthetic object's number or an example's row.
Job = tuple[str, str, bool, int, int | ManifestRow]


def synthetic(index: int) -> Instance:
    """Instance `index` of the synthetic dataset with seed 0, as `refine-batch synth` writes it."""
    made = make_instance(index)
    image, mask = made.image[..., :3].copy(), made.image[..., 3] > 0
    return Instance(
        made.instance_id,
        made.coarse,
        image,
        mask,
        made.camera,
        ground_truth=made.ground_truth,
        category=made.category,
        camera_error=CameraError(0.0, 0.0),
    )


def example(row: ManifestRow) -> Instance:
    return load_instance(row)


def measured(job: Job, device: str, options: dict) -> dict:
    """One instance refined by one method, with the figures of what came back."""
    dataset, method, guard, seed, source = job
    torch.set_num_threads(1)
    instance = synthetic(source) if isinstance(source, int) else example(source)
    config = RefineConfig(method=method, seed=seed, guard=guard, **options)
    begun = time.perf_counter()
    [result] = refine([instance], config, device=device)
    line = {"dataset": dataset, "method": method, "guard": guard, "seed": seed, "instance": instance.instance_id}
    line |= {"status": result.status, "error": result.error_message, "seconds": time.perf_counter() - begun}
    line |= {"kept_reason": result.kept_reason, "share": result.share, "risk": result.risk}
    return line | {"before": asdict(result.before), "after": asdict(result.after)}


def jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    for method in arguments.methods:
        for guard in (word == "on" for word in arguments.guard):
            for seed in arguments.seeds:
                if arguments.examples:
                    for batch in Manifest.open(str(arguments.examples)).batches():
                        for i in range(batch.num_rows):
                            yield "examples", method, guard, seed, ManifestRow.from_batch(batch, i)
                count = arguments.refine_instances if method == "refine" else arguments.synthetic
                for index in range(min(count, arguments.synthetic)):
                    yield "synthetic", method, guard, seed, arguments.first + index


def name_of(job: Job) -> tuple:
    dataset, method, guard, seed, source = job
    name = make_instance(source).instance_id if isinstance(source, int) else source.instance_id
    return dataset, method, guard, seed, name


def key(line: dict) -> tuple:
    return tuple(line[name] for name in ("dataset", "method", "guard", "seed", "instance"))


def table(lines: list[dict]) -> Iterable[str]:
    """Markdown: one row per dataset and method, with the guard and without."""
    heads = ["dataset", "method", "guard", "n", "kept", *FIGURES, "worse", "s/instance"]
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    groups: dict[tuple[str, str, bool], list[dict]] = {}
    for line in lines:
        if line["status"] != "failed":
            groups.setdefault((line["dataset"], line["method"], line["guard"]), []).append(line)
    for (dataset, method, guard), members in groups.items():
        kept = sum(line["status"] == "kept" for line in members)
        after = [line["after"] for line in members]
        cells = [dataset, method, "on" if guard else "off", str(len(members)), f"{kept / len(members):.0%}"]
        cells += [_change(members, after, figure) for figure in FIGURES]
        cells += [_worse(members, after), f"{statistics.mean(line['seconds'] for line in members):.1f}"]
        yield "| " + " | ".join(cells) + " |"
    failed = [line for line in lines if line["status"] == "failed"]
    yield from (f"failed: {line['instance']} ({line['method']}): {line['error']}" for line in failed)


def _change(members: list[dict], after: list[dict], figure: str) -> str:
    """Mean (median) before → after over the instances for which the figure is known both times."""
    pairs = [(m["before"][figure], a[figure]) for m, a in zip(members, after, strict=True)]
    known = [(b, a) for b, a in pairs if b is not None and a is not None]
    if not known:
        return "–"
    digits = 2 if figure == "chamfer_l2" else 3
    shown = [
        f"{statistics.mean(values):.{digits}f} ({statistics.median(values):.{digits}f})"
        for values in zip(*known, strict=True)
    ]
    return " → ".join(shown) + ("" if len(known) == len(pairs) else f", n = {len(known)}")


def _worse(members: list[dict], after: list[dict]) -> str:
    known = [
        a["chamfer_l2"] > WORSE * m["before"]["chamfer_l2"]
        for m, a in zip(members, after, strict=True)
        if a["chamfer_l2"] is not None and m["before"]["chamfer_l2"] is not None
    ]
    return f"{sum(known) / len(known):.1%}" if known else "–"


def _remembered(path: Path | None) -> list[dict]:
    if path is None or not path.exists():
        return []
    return [json.loads(text) for text in path.read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["large-steps", "refine"])
    parser.add_argument("--examples", type=Path, default=SHARED if SHARED.exists() else None, help="a manifest")
    parser.add_argument("--synthetic", type=int, default=200, help="instances; 0: none")
    parser.add_argument("--first", type=int, default=0, help="index of the first of them")
    parser.add_argument("--refine-instances", type=int, default=40, help="at most so many of them for `refine`")
    parser.add_argument("--guard", nargs="+", default=["on"], choices=["on", "off"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--options", type=json.loads, default={}, help='of RefineConfig, as JSON: {"steps": 100}')
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="processes; each uses one core")
    parser.add_argument("--out", type=Path, help="a file of one JSON line per instance")
    parser.add_argument("--no-examples", action="store_true", help="synthetic objects only")
    arguments = parser.parse_args()
    if arguments.no_examples:
        arguments.examples = None
    lines = _remembered(arguments.out)
    done = {key(line) for line in lines}
    todo = [job for job in jobs(arguments) if not done or name_of(job) not in done]
    work = partial(measured, device=arguments.device, options=arguments.options)
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        for number, line in enumerate(pool.imap_unordered(work, todo), 1):
            lines.append(line)
            if arguments.out:
                with arguments.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            print(f"\r{number}/{len(todo)} {line['method']} {line['instance']}", end="\033[K", file=sys.stderr)
    print(file=sys.stderr)
    print("\n".join(table(lines)))


if __name__ == "__main__":
    main()
