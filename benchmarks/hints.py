"""What further pictures and hints are worth: several views, occluders, pictures cut by the frame, depth and normals.

    python benchmarks/hints.py FOLDER                              # all cases, the first eight shapes
    python benchmarks/hints.py FOLDER --cases one views --kinds grid warp --limit 13
    python benchmarks/hints.py --synthetic 20 --cases one occluded   # --skip 20: of the objects from the 21st on
    python benchmarks/hints.py FOLDER --cases depth --options large_steps.weights.depth=10000
    python benchmarks/hints.py --summary --out lines.jsonl         # the tables of what has been run, no run

FOLDER holds true meshes, as for `benchmarks/shapes.py`, whose cameras, coarse meshes and measures are used;
`--synthetic` takes so many of the package's own objects instead. Each case is refined by large-steps with defaults:

    one                 one picture
    blur2, blur4        its mask is an alpha channel blurred by 2 or 4 pixels, read as a manifest's picture is
    views               four pictures, a quarter turn apart, by the true cameras
    one-off, views-off  the cameras that are told are off by 5°, each in a direction of its own
    views-foreign       the third of the four is a picture of another object; views-warped: is stretched by a fifth
    occluded            a half-plane over a quarter of the object, which is not known; blind: nobody says so, and the
                        mask ends there
    band, band-blind    the same with a bar across the object
    frame               the picture ends where a quarter of the object is left out
    depth               of every pixel, metric, with noise of 5 % of the depth; depth-scale: times 3.7, called relative;
                        depth-range: from 0 to 1 over the object, called relative; inverse: 1/depth times 3.7
    depth-smooth        metric, with slow waves of 5 % of the extent instead
    normals             with noise of 10° in each of two directions; normals-smooth: slow waves of as much instead
    depth-foreign, normals-foreign  of another object's picture; -cut: of what is within this one's outline alone;
                        -whole: with a wall behind it, told as well

Chamfer-L2 in place as in `shapes.py`; the F-score in place at 0.05, the true shape's largest extent being 2; 2D IoU
with the true outline at the camera that was used. Beneath the table stands what was aimed at and what was reached
(`hint_aims.py`). `--out` keeps a line of JSON per instance; a run repeated with the same file goes on where it was.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from hint_aims import aims, table
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter, map_coordinates
from scipy.spatial import cKDTree
from shapes import (
    FORMATS,
    SAMPLES,
    Setting,
    disturbed,
    filling_camera,
    generator,
    shaded,
    true_mesh,
)
from spoil import KINDS

from refine_batch import Camera, Instance, Mesh, RefineConfig
from refine_batch.cameras.camera import project, stack_cameras
from refine_batch.dataset.synth.dataset import make_instance
from refine_batch.figures.iou_2d import mask_iou
from refine_batch.instance import Depth, PictureView
from refine_batch.io.images import decode
from refine_batch.io.masks import alpha_levels
from refine_batch.io.resample import Frame
from refine_batch.losses.hints import seen_surface
from refine_batch.mesh.sampling import sample_surface
from refine_batch.refinement.optimise import Optimised, optimise
from refine_batch.refinement.pipeline import concluded_all
from refine_batch.refinement.prepare import prepare
from refine_batch.render import hard_silhouettes
from refine_batch.render.warp_rasterise import rasterise

SIZE = 224
OFF = (5.0, 0.0)
HIDDEN = 0.25
USUAL = {"views": ("grid", "warp"), "mask": ("grid", "warp"), "hint": ("flat", "warp", "good")}


class Scenery:
    """A true shape, its camera and one coarse mesh: what every case is made of."""

    def __init__(self, name: str, truth: Mesh, kind: str, foreign: Mesh, seed: int):
        self.name, self.truth, self.kind, self.foreign, self.seed = name, truth, kind, foreign, seed
        self.camera = filling_camera(truth, self.random("camera"))
        self.coarse = KINDS[kind](truth, self.camera, self.random(kind))
        self.mask = self.silhouette(self.camera)
        self.before = in_place(self.coarse, truth)

    def random(self, *words: object) -> np.random.Generator:
        return generator(self.name, self.seed, *words)

    def silhouette(self, camera: Camera, mesh: Mesh | None = None) -> np.ndarray:
        return hard_silhouettes(mesh or self.truth, [camera], SIZE)[0]

    def instance(self, case: str, **more) -> Instance:
        picture = shaded(self.truth, self.camera, SIZE)
        given = {"mask": self.mask, "camera": self.camera} | more
        return Instance(f"{self.name} {self.kind} {case}", self.coarse, picture, **given)

    def told(self, camera: Camera, case: str, number: int = 0) -> Camera:
        """The camera that is told: off where the case says so."""
        return disturbed(camera, OFF, False, self.random("error", number)) if case.endswith("-off") else camera

    def seen(self, foreign: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """True depth (H, H) and normals (H, H, 3), NaN where there is nothing; or those of the other's picture."""
        mesh = self.foreign if foreign else self.truth
        camera = stack_cameras([filling_camera(mesh, self.random("foreign")) if foreign else self.camera])
        vertices, faces = torch.from_numpy(mesh.vertices)[None], torch.from_numpy(mesh.faces)[None]
        count, view = torch.tensor([len(mesh.faces)], dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
        face = rasterise(project(vertices, camera), faces, count, view, SIZE)
        seen = seen_surface(vertices, faces, camera, face)
        there = seen.hit[0, :, None]
        depth = torch.where(there[:, 0], seen.depth[0], torch.nan).reshape(SIZE, SIZE)
        return depth.numpy(), torch.where(there, seen.normal[0], torch.nan).reshape(SIZE, SIZE, 3).numpy()


def one(it: Scenery, case: str) -> Instance:
    return it.instance(case, camera=it.told(it.camera, case))


def blurred(it: Scenery, case: str) -> Instance:
    """From a file and back: what a manifest's row would hold."""
    alpha = gaussian_filter(it.mask.astype(np.float32), float(case.removeprefix("blur")))
    levels = np.round(alpha * 255.0).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.dstack([shaded(it.truth, it.camera, SIZE), levels])).save(file, "PNG")
    found = alpha_levels(decode(file.getvalue(), it.name, "image"))
    assert found is not None
    share, _ = found.share(Frame(SIZE, SIZE, SIZE), RefineConfig().picture.mask_threshold)
    return it.instance(case, mask=share)


def views(it: Scenery, case: str) -> Instance:
    more = []
    for number in range(1, 4):
        camera = replace(it.camera, azimuth=it.camera.azimuth + 90.0 * number)
        mask = it.silhouette(camera)
        if number == 2 and case == "views-foreign":
            mask = it.silhouette(camera, it.foreign)
        if number == 2 and case == "views-warped":
            y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
            mask = map_coordinates(mask.astype(float), [y * 1.2 + SIZE / 2, x / 1.2 + SIZE / 2], order=1) > 0.5
        if mask.any():
            more.append(PictureView(mask, it.told(camera, case, number)))
    return it.instance(case, camera=it.told(it.camera, case), views=tuple(more))


def occluded(it: Scenery, case: str) -> Instance:
    random = it.random("occluder")
    angle = random.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:SIZE, :SIZE]
    along = x * math.cos(angle) + y * math.sin(angle)
    if case.startswith("band"):
        middle = np.quantile(along[it.mask], random.uniform(0.3, 0.7))
        along = -np.abs(along - middle)
    hidden = along >= np.quantile(along[it.mask], 1.0 - HIDDEN)
    known = None if case.endswith("blind") else ~hidden
    return it.instance(case, mask=it.mask & ~hidden, known=known)


def frame(it: Scenery, case: str) -> Instance:
    """The object moved in the picture, the camera told so."""
    side = it.random("side").choice([-1.0, 1.0])
    columns = np.flatnonzero(it.mask.any(axis=0))
    share = np.cumsum(it.mask.sum(axis=0)) / it.mask.sum()
    if side > 0:  # Beyond the left edge lies what has the first columns, +x being left.
        move = np.searchsorted(share, HIDDEN) * 2.0 / SIZE
    else:
        move = -(SIZE - np.searchsorted(share, 1.0 - HIDDEN)) * 2.0 / SIZE
    assert len(columns)
    camera = replace(it.camera, offset_x=it.camera.offset_x + move)
    mask = it.silhouette(camera)
    known = np.ones_like(mask)
    edge = np.s_[:, 0] if side > 0 else np.s_[:, -1]
    known[edge] &= ~binary_dilation(mask[edge])
    return it.instance(case, mask=mask, camera=camera, known=known)


def foreign(it: Scenery, case: str, values: np.ndarray) -> np.ndarray:
    """Depth (H, H) or normals (H, H, 3), NaN where nothing is told, as the case has them."""
    if case.endswith("-cut"):
        values[~it.mask] = np.nan
    elif case.endswith("-whole"):
        wall = np.nanmax(values) + 0.2 if values.ndim == 2 else np.array([0.0, 0.0, 1.0], values.dtype)
        values = np.where(np.isfinite(values), values, wall)
    return values


def depth(it: Scenery, case: str) -> Instance:
    values, random = foreign(it, case, it.seen("foreign" in case)[0]), it.random("noise")
    if case == "depth-smooth":
        waves = gaussian_filter(random.normal(size=values.shape), 15.0)
        values = values + 0.05 * waves / waves.std()
    else:
        values = values * (1.0 + 0.05 * random.normal(size=values.shape))
    kind = "metric"
    if case == "depth-scale" or "foreign" in case:
        values, kind = 3.7 * values, "relative"
    elif case == "depth-range":
        low, high = np.nanquantile(values, [0.01, 0.99])
        values, kind = (values - low) / (high - low), "relative"
    elif case == "inverse":
        values, kind = 3.7 / values, "inverse"
    return it.instance(case, depth=Depth(values.astype(np.float32), kind))


def normals(it: Scenery, case: str) -> Instance:
    values = foreign(it, case, it.seen("foreign" in case)[1])
    noise = it.random("noise").normal(size=values.shape)
    if case == "normals-smooth":
        noise = gaussian_filter(noise, (15.0, 15.0, 0.0))
        noise /= noise.std()
    values = values + math.radians(10.0) * noise
    values /= np.linalg.norm(values, axis=-1, keepdims=True)
    return it.instance(case, normals=values.astype(np.float32))


Case = Callable[[Scenery, str], Instance]
CASES: dict[str, tuple[Case, str]] = {
    **dict.fromkeys(("one", "one-off"), (one, "views")),
    **dict.fromkeys(("views", "views-off", "views-foreign", "views-warped"), (views, "views")),
    **dict.fromkeys(("blur2", "blur4"), (blurred, "mask")),
    **dict.fromkeys(("occluded", "occluded-blind", "band", "band-blind"), (occluded, "mask")),
    "frame": (frame, "mask"),
    **dict.fromkeys(("depth", "depth-scale", "depth-range", "inverse", "depth-smooth"), (depth, "hint")),
    **dict.fromkeys(("normals", "normals-smooth"), (normals, "hint")),
    **dict.fromkeys(("depth-foreign", "depth-foreign-cut", "depth-foreign-whole"), (depth, "hint")),
    **dict.fromkeys(("normals-foreign", "normals-foreign-cut", "normals-foreign-whole"), (normals, "hint")),
}


def in_place(mesh: Mesh, truth: Mesh) -> tuple[float, float]:
    """Chamfer-L2 as `shapes.chamfer_in_place` has it, and the F-score at 0.05, from the same points."""
    scale = 2.0 / float(np.ptp(truth.vertices, axis=0).max())
    cloud, true_cloud = (scale * sample_surface(m, SAMPLES, k) for k, m in enumerate((mesh, truth)))
    there, back = cKDTree(true_cloud).query(cloud)[0], cKDTree(cloud).query(true_cloud)[0]
    precision, recall = (there < 0.05).mean(), (back < 0.05).mean()
    f_score = 2 * precision * recall / max(precision + recall, 1e-12)
    return float(1000.0 * (np.mean(there**2) + np.mean(back**2))), float(f_score)


def measured(case: str, sceneries: list[Scenery], config: RefineConfig) -> list[dict]:
    """One line for each coarse mesh of one shape."""
    make, _ = CASES[case]
    instances = [make(it, case) for it in sceneries]
    instance_of = {it.kind: instance for it, instance in zip(sceneries, instances, strict=True)}
    begun = time.process_time()
    prepared = [prepare(instance, config) for instance in instances]
    found = optimise(prepared, config, torch.device("cpu"))
    results = concluded_all([p.instance_id for p in prepared], found, config)
    seconds = (time.process_time() - begun) / len(instances)
    lines = []
    for it, outcome, result in zip(sceneries, found, results, strict=True):
        line = {"case": case, "shape": it.name, "kind": it.kind, "seed": it.seed, "status": result.status}
        line |= {"cpu": seconds, "ran": isinstance(outcome, Optimised) and outcome.output is not None}
        line |= {"reason": result.kept_reason or result.error_message}
        if result.mesh is not None and isinstance(outcome, Optimised):
            working = outcome.prepared.working
            free = it.before
            if outcome.output is not None:
                free = in_place(Mesh(working.carry(outcome.output.vertices), it.coarse.faces), it.truth)
            after = free if result.share == 1.0 else in_place(result.mesh, it.truth)
            line["chamfer"], line["f_score"] = zip(it.before, after, strict=True)
            line["free"] = free[0]
            line["notes"] = result.notes
            line["iou"] = [result.before.iou_2d, result.after.iou_2d]
            # A picture whose frame was moved shows another outline.
            outline = it.mask if case != "frame" else instance_of[it.kind].mask
            if result.camera is not None:
                line["outline"] = float(mask_iou(it.silhouette(result.camera, result.mesh), outline))
        lines.append(line)
    return lines


def centred(mesh: Mesh) -> Mesh:
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    return Mesh((mesh.vertices - (low + high) / 2) / (high - low).max(), mesh.faces)


def shapes_of(arguments: argparse.Namespace) -> list[tuple[str, Mesh]]:
    if arguments.synthetic:
        made = (make_instance(i) for i in range(arguments.skip, arguments.skip + arguments.synthetic))
        return [(it.instance_id, centred(it.ground_truth)) for it in made if it.ground_truth is not None]
    paths = sorted((p for p in arguments.folder.rglob("*") if p.suffix.lower() in FORMATS), key=lambda p: p.stem)
    if arguments.shapes:
        paths = [p for p in paths if p.stem in arguments.shapes]
    return [(path.stem, true_mesh(path)) for path in paths[: arguments.limit]]


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="true meshes; subfolders too")
    parser.add_argument("--synthetic", type=int, default=0, metavar="N", help="so many of the package's own objects")
    parser.add_argument(
        "--skip", type=int, default=0, metavar="N", help="of the package's own objects, the first so many"
    )
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), help="default: what suits each case")
    parser.add_argument("--limit", type=int, default=8, help="the first so many shapes by name")
    parser.add_argument("--shapes", nargs="+", help="only these, by file name without extension")
    parser.add_argument("--guard", choices=["on", "off"], default="on")
    parser.add_argument("--exact", action="store_true", help="cameras are told to be exact")
    parser.add_argument("--options", nargs="+", default=[], metavar="KEY=VALUE", help="of RefineConfig")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of cameras, meshes and refinement")
    parser.add_argument("--out", type=Path, help="a file of one JSON line per instance")
    parser.add_argument("--summary", action="store_true", help="only print the tables of what --out holds")
    return parser


def main(words: list[str] | None = None) -> None:
    arguments = parser().parse_args(words)
    out = arguments.out
    lines = [json.loads(text) for text in out.read_text().splitlines()] if out and out.exists() else []
    if not arguments.summary:
        if arguments.folder is None and not arguments.synthetic:
            raise SystemExit("a folder of true meshes is needed, or --synthetic N, or --summary with --out")
        for found in runs(arguments, {key(line) for line in lines}):
            lines += found
            if out:
                with out.open("a") as file:
                    file.writelines(json.dumps(line) + "\n" for line in found)
        print(file=sys.stderr)
    print("\n".join([*table(lines), "", *aims(lines)]))


def key(line: dict) -> tuple:
    return line["case"], line["shape"], line["kind"], line["seed"]


def runs(arguments: argparse.Namespace, done: set[tuple]) -> Iterator[list[dict]]:
    """The lines of one case of one shape after the other, without what is done."""
    torch.set_num_threads(1)
    setting = Setting("large-steps", arguments.guard == "on", tuple(arguments.options))
    shapes = shapes_of(arguments)
    for seed in arguments.seeds:
        config = setting.config(seed)
        if arguments.exact:
            config = config.model_copy(update={"camera_error": "0,0"})
        for number, (name, truth) in enumerate(shapes):
            foreign = shapes[(number + 1) % len(shapes)][1]
            made: dict[str, Scenery] = {}
            for case in arguments.cases:
                kinds = arguments.kinds or USUAL[CASES[case][1]]
                kinds = [kind for kind in kinds if (case, name, kind, seed) not in done]
                for kind in kinds:
                    if kind not in made:
                        made[kind] = Scenery(name, truth, kind, foreign, seed)
                if kinds:
                    yield measured(case, [made[kind] for kind in kinds], config)
                print(f"\r{number + 1}/{len(shapes)} {name} {case}", end="\033[K", file=sys.stderr)


if __name__ == "__main__":
    main()
