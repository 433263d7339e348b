"""Real shapes: a folder of true meshes of any origin, spoiled in several ways and refined, measured in place.

    python benchmarks/shapes.py FOLDER                                    # large-steps, the four usual kinds
    python benchmarks/shapes.py FOLDER --kinds all --jobs 2 --out lines.jsonl
    python benchmarks/shapes.py FOLDER --camera-error 5,0.1 --guard on off
    python benchmarks/shapes.py FOLDER --methods large-steps refine --limit 8 --options symmetry_axis=auto
    python benchmarks/shapes.py FOLDER --options large_steps.weights.depth=1000 --out lines.jsonl
    python benchmarks/shapes.py --summary --out lines.jsonl               # the tables of what has been run, no run

FOLDER holds OBJ, PLY, OFF, STL and GLB files, each one object with y up. Each is centred, its largest extent made 1,
and seen by one random camera (azimuth any, elevation −10° to 50°, fov 40° to 60°, as near as the picture holds the
object), which draws mask and shaded picture. `benchmarks/spoil.py` makes the coarse meshes: by default grid, warp, flat
and good.

`--camera-error DEGREES,SHARE`: the picture is by the true camera; the one that is told is off by exactly so many
degrees, in a random direction, and nearer or farther by exactly this share (`--gaussian`: by normal deviates of that
size). `--trust DEGREES,SHARE` says with each instance how far its camera is to be trusted.

The Chamfer distance is in place: both clouds in the object's own coordinates, scaled by what makes the true shape's
largest extent 2, (mean d² + mean d²)·1000. `worse`: by more than 1 %. 2D IoU: at the camera that was used, and at the
true one. `--guard on off` refines twice. `--out` keeps a line of JSON per instance; a run repeated with the same file
goes on where it was, as long as configuration and algorithm's version are the same: other code wants another file.
Options are those of RefineConfig, nested by dots, their values JSON or text.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from spoil import KINDS

from refine_batch import Camera, Instance, Mesh, RefineConfig, RefinedInstance, refine
from refine_batch.cameras.camera import angle_between, camera_axes, project, stack_cameras
from refine_batch.figures.iou_2d import mask_iou
from refine_batch.instance import CameraError
from refine_batch.io.meshes import parse_mesh, write_mesh
from refine_batch.mesh.normals import area_normals
from refine_batch.mesh.sampling import sample_surface
from refine_batch.mesh.welding import weld
from refine_batch.render import hard_silhouettes
from refine_batch.render.warp_rasterise import rasterise

FORMATS = (".obj", ".ply", ".off", ".stl", ".glb")
USUAL = ("grid", "warp", "flat", "good")
SAMPLES = 10_000
WORSE = 1.01
# Share of the picture's half-width that the object reaches.
FILL = 0.9


@dataclass(frozen=True)
class Setting:
    """What is the same for every shape of one line of the tables."""

    method: str
    guard: bool
    options: tuple[str, ...] = ()
    error: tuple[float, float] = (0.0, 0.0)
    gaussian: bool = False
    trust: tuple[float, float] | None = None
    soft: bool = False
    size: int = 224

    def config(self, seed: int) -> RefineConfig:
        return RefineConfig(method=self.method, guard=self.guard, seed=seed, **nested(self.options))

    @property
    def name(self) -> str:
        """For the tables, and what lines of one setting have in common."""
        words = [self.method, *self.options, "guard" if self.guard else "no guard"]
        if self.error != (0.0, 0.0):
            words.append(f"camera off by {self.error[0]:g}°, {self.error[1]:.0%}{', normal' * self.gaussian}")
        if self.trust is not None:
            words.append(f"trust {self.trust[0]:g}°, {self.trust[1]:.0%}")
        return ", ".join(words + ["soft masks"] * self.soft + [f"{self.size} px"] * (self.size != 224))


# What is refined together: a shape's file, the setting, the seed, the kinds.
Job = tuple[Path, Setting, int, tuple[str, ...]]
# Of a line: setting, configuration's hash, shape, kind, seed.
Key = tuple[str, str, str, str, int]


def nested(options: Iterable[str]) -> dict[str, Any]:
    """`a.b=1` as {"a": {"b": 1}}; a value that is no JSON is text."""
    found: dict[str, Any] = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not equals:
            raise SystemExit(f"--options: {option!r} is not key=value")
        *path, last = key.split(".")
        inner = found
        for name in path:
            inner = inner.setdefault(name, {})
        try:
            inner[last] = json.loads(text)
        except ValueError:
            inner[last] = text
    return found


def chamfer_in_place(mesh: Mesh, truth: Mesh, seed: int = 0, samples: int = SAMPLES) -> float:
    """(mean d² + mean d²)·1000 between points of both surfaces as they stand, the true one's largest extent being 2.

    One factor for both clouds, and no shift: a mesh beside its place or of another size is wrong by as much.
    """
    scale = 2.0 / float(np.ptp(truth.vertices, axis=0).max())
    cloud, true_cloud = (scale * sample_surface(m, samples, seed + k) for k, m in enumerate((mesh, truth)))
    there, back = cKDTree(true_cloud).query(cloud)[0], cKDTree(cloud).query(true_cloud)[0]
    return float(1000.0 * (np.mean(there**2) + np.mean(back**2)))


def true_mesh(path: Path) -> Mesh:
    """The file's mesh, welded, centred on its box, largest extent 1."""
    mesh = weld(parse_mesh(path.read_bytes(), path.name))[0]
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    return Mesh((mesh.vertices - (low + high) / 2) / (high - low).max(), mesh.faces)


def generator(*words: object) -> np.random.Generator:
    """Seeded by the words alone, whatever else is run."""
    return np.random.default_rng(zlib.crc32(" ".join(map(str, words)).encode()))


def filling_camera(mesh: Mesh, random: np.random.Generator) -> Camera:
    """A random camera that looks at the origin, at the distance from which the mesh just fits."""
    camera = Camera(random.uniform(0, 360), random.uniform(-10, 50), 1.0, random.uniform(40, 60))
    across = mesh.vertices @ camera_axes(camera)
    # |x|·f / (distance + depth) ≤ FILL for each vertex, f the focal length in half-widths; the camera looks along z.
    focal = 1.0 / math.tan(math.radians(camera.fov / 2))
    distance = float((np.abs(across[:, :2]).max(axis=1) * focal / FILL - across[:, 2]).max())
    return replace(camera, distance=distance)


def disturbed(camera: Camera, error: tuple[float, float], gaussian: bool, random: np.random.Generator) -> Camera:
    """The camera as an estimator would tell it: off by this many degrees and this share of the distance."""
    sizes = np.abs(random.normal(size=2)) if gaussian else np.ones(2)
    degrees, share = sizes * error
    # A small circle about the true direction: right and up are as far as any direction across it.
    right, up, forward = camera_axes(camera).T
    turn, bearing = math.radians(degrees), random.uniform(0, 2 * math.pi)
    aside = math.cos(bearing) * right + math.sin(bearing) * up
    x, y, z = -math.cos(turn) * forward + math.sin(turn) * aside
    sign = random.choice([-1.0, 1.0])
    return replace(
        camera,
        azimuth=math.degrees(math.atan2(x, z)),
        elevation=math.degrees(math.asin(max(-1.0, min(1.0, y)))),
        distance=camera.distance * (math.exp(sign * share) if gaussian else 1.0 + sign * share),
    )


def shaded(mesh: Mesh, camera: Camera, size: int) -> np.ndarray:
    """(H, H, 3) uint8: grey, lit from above beside the camera, faces flat, on white."""
    points = project(torch.from_numpy(mesh.vertices)[None], stack_cameras([camera]))
    count, view = torch.tensor([len(mesh.faces)], dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    face = rasterise(points, torch.from_numpy(mesh.faces)[None], count, view, size)[0].numpy()
    normals = area_normals(mesh)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    right, up, forward = camera_axes(camera).T
    lamp = -forward + 0.6 * up + 0.3 * right
    # Whichever side is seen is lit: not every file's faces are turned outwards.
    light = 60 + 170 * np.abs(normals @ lamp) / np.linalg.norm(lamp)
    grey = np.where(face >= 0, light[face], 255.0)
    return np.repeat(grey.round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def instance_of(path: Path, truth: Mesh, kind: str, setting: Setting, seed: int) -> tuple[Instance, Camera]:
    """The coarse instance of a kind, and the camera that took its picture."""
    camera = filling_camera(truth, generator(path.stem, seed, "camera"))
    size = setting.size
    if setting.soft:
        fine = hard_silhouettes(truth, [camera], 2 * size)[0].astype(np.float32)
        mask = fine.reshape(size, 2, size, 2).mean(axis=(1, 3))
    else:
        mask = hard_silhouettes(truth, [camera], size)[0]
    instance = Instance(
        f"{path.stem} {kind}",
        KINDS[kind](truth, camera, generator(path.stem, seed, kind)),
        shaded(truth, camera, size),
        mask,
        disturbed(camera, setting.error, setting.gaussian, generator(path.stem, seed, "error")),
        category=kind,
    )
    if setting.trust is not None:
        instance = replace(instance, camera_error=CameraError(*setting.trust))
    return instance, camera


def measured(job: Job, device: str = "cpu", meshes: Path | None = None) -> list[dict]:
    """The kinds of one shape refined together: one line each."""
    path, setting, seed, kinds = job
    torch.set_num_threads(1)
    truth = true_mesh(path)
    made = [instance_of(path, truth, kind, setting, seed) for kind in kinds]
    begun = time.process_time()
    results = refine([instance for instance, _ in made], setting.config(seed), device=device)
    seconds = (time.process_time() - begun) / len(made)
    lines = []
    for kind, (instance, camera), result in zip(kinds, made, results, strict=True):
        line = {"setting": setting.name, "shape": path.stem, "kind": kind, "seed": seed, "cpu_seconds": seconds}
        line["config"] = setting.config(seed).config_hash()
        lines.append(line | _figures(instance, camera, truth, result))
        if meshes is not None:
            _keep(meshes / setting.name.replace("/", " ") / f"{path.stem} {kind} {seed}", instance, truth, result)
    return lines


def _figures(instance: Instance, camera: Camera, truth: Mesh, result: RefinedInstance) -> dict:
    found: dict[str, Any] = {"status": result.status, "error": result.error_message, "kept_reason": result.kept_reason}
    if result.mesh is None:
        return found
    after = [chamfer_in_place(mesh, truth) for mesh in (instance.mesh, result.mesh)]
    mask = hard_silhouettes(truth, [camera], len(instance.mask))[0]
    true_iou = [
        float(mask_iou(hard_silhouettes(mesh, [camera], len(mask))[0], mask)) for mesh in (instance.mesh, result.mesh)
    ]
    found |= {"chamfer": after, "iou": [result.before.iou_2d, result.after.iou_2d], "iou_true": true_iou}
    found |= {"symmetry_axis": result.symmetry_axis, "camera_source": result.camera_source}
    found |= {"share": result.share, "risk": result.risk}
    given = instance.camera
    assert isinstance(given, Camera)
    cameras = (given, result.camera or given)
    found["degrees"] = [angle_between(c, camera) for c in cameras]
    found["distance"] = [c.distance / camera.distance for c in cameras]
    return found


def _keep(stem: Path, instance: Instance, truth: Mesh, result: RefinedInstance) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    for name, mesh in (("coarse", instance.mesh), ("refined", result.mesh), ("true", truth)):
        if mesh is not None:
            stem.with_name(f"{stem.name} {name}.ply").write_bytes(write_mesh(mesh, "ply"))


def tables(lines: list[dict]) -> Iterator[str]:
    """Markdown: one table per setting, one row per kind and one for all."""
    for setting in dict.fromkeys(line["setting"] for line in lines):
        of_setting = [line for line in lines if line["setting"] == setting]
        failed = [line for line in of_setting if line["status"] == "failed"]
        rest = [line for line in of_setting if line["status"] != "failed"]
        yield f"\n{setting}\n"
        heads = ["", "n", "kept", "Chamfer-L2 in place", "ratio of means", "median ratio", "worse", "worst ratio"]
        heads += ["2D IoU", "at the true camera", "camera off by", "CPU s"]
        yield "| " + " | ".join(heads) + " |"
        yield "|" + "---|" * len(heads)
        kinds = list(dict.fromkeys(line["kind"] for line in rest))
        for kind in sorted(kinds, key=list(KINDS).index):
            yield _row(kind, [line for line in rest if line["kind"] == kind])
        if len(kinds) > 1:
            yield _row("all", rest)
        yield from (f"failed: {line['shape']} {line['kind']}: {line['error']}" for line in failed)


def _row(name: str, lines: list[dict]) -> str:
    before, after = np.array([line["chamfer"] for line in lines]).T
    ratio = after / before
    worst = lines[int(ratio.argmax())]
    kept = sum(line["status"] == "kept" for line in lines)
    cells = [name, str(len(lines)), f"{kept / len(lines):.0%}", f"{before.mean():.2f} → {after.mean():.2f}"]
    cells += [f"{after.mean() / before.mean():.2f}", f"{np.median(ratio):.2f}", f"{(ratio > WORSE).mean():.1%}"]
    cells += [f"{ratio.max():.2f} ({worst['shape']})"]
    cells += [" → ".join(f"{v:.3f}" for v in np.mean([line[k] for line in lines], axis=0)) for k in ("iou", "iou_true")]
    cells += [" → ".join(f"{v:.1f}°" for v in np.mean([line["degrees"] for line in lines], axis=0))]
    cells += [f"{statistics.mean(line['cpu_seconds'] for line in lines):.1f}"]
    return "| " + " | ".join(cells) + " |"


def pair(text: str) -> tuple[float, float]:
    """`5,0.1`: degrees and a share; `0`: none of either."""
    numbers = [float(word) for word in text.split(",")]
    if numbers == [0.0]:
        return 0.0, 0.0
    if len(numbers) != 2:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 0 nor DEGREES,SHARE")
    return numbers[0], numbers[1]


def key(line: dict) -> Key:
    return line["setting"], line["config"], line["shape"], line["kind"], line["seed"]


def jobs(
    paths: list[Path], settings: list[Setting], seeds: list[int], kinds: list[str]
) -> Iterator[tuple[Job, list[Key]]]:
    """Everything that is asked for, by what is refined together, with the keys of the lines."""
    for setting in settings:
        for seed in seeds:
            config = setting.config(seed).config_hash()
            for path in paths:
                keys = [(setting.name, config, path.stem, kind, seed) for kind in kinds]
                yield (path, setting, seed, tuple(kinds)), keys


def left(asked: Iterable[tuple[Job, list[Key]]], done: set[Key]) -> Iterator[Job]:
    for (path, setting, seed, kinds), keys in asked:
        missing = tuple(kind for kind, k in zip(kinds, keys, strict=True) if k not in done)
        if missing:
            yield path, setting, seed, missing


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="true meshes; subfolders too")
    parser.add_argument("--methods", nargs="+", default=["large-steps"])
    parser.add_argument("--kinds", nargs="+", default=list(USUAL), choices=[*KINDS, "all"])
    parser.add_argument("--camera-error", type=pair, default=(0.0, 0.0), metavar="DEGREES,SHARE")
    parser.add_argument("--gaussian", action="store_true", help="camera errors are normal deviates of that size")
    parser.add_argument("--trust", type=pair, metavar="DEGREES,SHARE", help="told with each instance; default: nothing")
    parser.add_argument("--guard", nargs="+", default=["on"], choices=["on", "off"])
    parser.add_argument("--options", nargs="+", default=[], metavar="KEY=VALUE", help="of RefineConfig")
    parser.add_argument("--soft", action="store_true", help="masks are covered shares, drawn at twice the size")
    parser.add_argument("--size", type=int, default=224, help="side of the picture, pixels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of cameras, coarse meshes and refinement")
    parser.add_argument("--limit", type=int, help="the first so many shapes by name")
    parser.add_argument("--shapes", nargs="+", help="only these, by file name without extension")
    parser.add_argument("--jobs", type=int, default=1, help="processes; each uses one core")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="a file of one JSON line per instance")
    parser.add_argument("--meshes", type=Path, help="folder for coarse, refined and true meshes, as PLY")
    parser.add_argument("--summary", action="store_true", help="only print the tables of what --out holds")
    return parser


def outcomes(work: Callable[[Job], list[dict]], todo: list[Job], processes: int) -> Iterator[list[dict]]:
    """In whatever order they are ready."""
    if processes == 1:
        yield from map(work, todo)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(work, todo)


def main(words: list[str] | None = None) -> None:
    arguments = parser().parse_args(words)
    old = arguments.out.read_text().splitlines() if arguments.out and arguments.out.exists() else []
    lines = [json.loads(text) for text in old]
    if arguments.summary:
        print("\n".join(tables(lines)))
        return
    if arguments.folder is None:
        raise SystemExit("a folder of true meshes is needed, or --summary with --out")
    paths = sorted((p for p in arguments.folder.rglob("*") if p.suffix.lower() in FORMATS), key=lambda p: p.stem)
    if arguments.shapes:
        paths = [p for p in paths if p.stem in arguments.shapes]
    paths = paths[: arguments.limit]
    if not paths:
        raise SystemExit(f"{arguments.folder}: no OBJ, PLY, OFF, STL or GLB file there")
    settings = [
        Setting(
            method=method,
            guard=guard == "on",
            options=tuple(arguments.options),
            error=arguments.camera_error,
            gaussian=arguments.gaussian,
            trust=arguments.trust,
            soft=arguments.soft,
            size=arguments.size,
        )
        for method in arguments.methods
        for guard in arguments.guard
    ]
    kinds = list(KINDS) if "all" in arguments.kinds else arguments.kinds
    asked = list(jobs(paths, settings, arguments.seeds, kinds))
    todo = list(left(asked, {key(line) for line in lines}))
    work = partial(measured, device=arguments.device, meshes=arguments.meshes)
    for number, found in enumerate(outcomes(work, todo, arguments.jobs), 1):
        lines += found
        if arguments.out:
            with arguments.out.open("a") as file:
                file.writelines(json.dumps(line) + "\n" for line in found)
        print(f"\r{number}/{len(todo)} {found[0]['setting']} {found[0]['shape']}", end="\033[K", file=sys.stderr)
    print(file=sys.stderr)
    wanted = {k for _, keys in asked for k in keys}
    print("\n".join(tables([line for line in lines if key(line) in wanted])))


if __name__ == "__main__":
    main()
