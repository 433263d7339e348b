"""Other people's data from their files to `status`, by the commands that a user would type.

    python benchmarks/public.py FOLDER WORK                 # whatever of the below FOLDER holds
    python benchmarks/public.py FOLDER WORK --only chicken  # one of them
    python benchmarks/public.py FOLDER WORK --method refine

FOLDER holds public repositories' files at their own paths, each in a folder of this name (commit none of them):

- `syncdreamer-chicken`: liuyuan-pal/SyncDreamer (MIT; the model is Google Scanned Objects', CC-BY-4.0):
  eval_examples/chicken-gt and eval_examples/chicken-mesh/meshes/model.obj;
- `sam-3d-objects`: facebookresearch/sam-3d-objects (SAM License): notebook/images/human_object/image.png and
  notebook/meshes/human_object/3DB_results;
- `diff-dope`: NVlabs/diff-dope (NVIDIA Source Code License-NC): data/example and configs/diffdope.yaml;
- `detailgen3d`: VAST-AI-Research/DetailGen3D (MIT): assets/image and assets/model.

WORK gets the inputs in the layouts that recipes.md describes, manifests, previews, outputs and reports. Each command is
printed before it runs. At the end a table: rows, status, 2D IoU and, where there is a true mesh, Chamfer-L2 before and
after.

The chicken: sixteen pictures of 256² from azimuth 0 in steps of 22.5° about z, elevation 30°, distance 1.5, 35 mm on 32
mm; the renderer centred the mesh's box on the origin, with a largest extent of 1 (SyncDreamer's blender_script.py). The
true mesh meets its pictures at 2D IoU 0.996 so. Its coarse mesh is made here, as in the benchmark of real shapes.

diff-dope's tin of soup: a photograph, its segmentation, intrinsics in pixels, and a pose in OpenCV's axes and
millimetres from which that tool starts. It is beside the object by a fifteenth of its size, which no camera here makes
good, so the scan is first fitted to the segmentation, as that tool does. It is refined as it is (it should be left
alone), and spoiled.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from spoil import KINDS

from refine_batch import Camera, Mesh
from refine_batch.cameras.conversions import from_opencv
from refine_batch.cameras.matrices import about_z, camera_of_pinhole
from refine_batch.figures.iou_2d import mask_iou
from refine_batch.io.meshes import parse_mesh, write_mesh
from refine_batch.mesh.welding import weld
from refine_batch.render import hard_silhouettes

Steps = tuple[list[str], list[str]]  # options of `manifest`, options of `run`
COARSE = ("grid", "warp", "flat")


def chicken(source: Path, work: Path) -> Steps:
    """Sixteen views of one object, its true mesh, and coarse meshes of three kinds."""
    model = source / "eval_examples" / "chicken-mesh" / "meshes" / "model.obj"
    truth = unit_box(weld(parse_mesh(model.read_bytes(), model.name))[0])
    camera = about_z(Camera(0.0, 30.0, 1.5, 49.134))
    for seed, kind in enumerate(COARSE):
        name = f"chicken-{kind}"
        coarse = KINDS[kind](truth, camera, np.random.default_rng(seed))
        put(work / "meshes" / f"{name}.ply", write_mesh(coarse, "ply"))
        put(work / "truth" / f"{name}.ply", write_mesh(truth, "ply"))
        for view in range(16):
            picture = source / "eval_examples" / "chicken-gt" / f"{view:03d}.png"
            put(work / "data" / name / picture.name, picture.read_bytes())
    cameras = ["--azimuths", "0:360:22.5", "--elevations", "30", "--distance", "1.5", "--fov", "49.134"]
    return ["--layout", "turntable", "--up-axis", "z", *cameras, "--ground-truth", "truth"], ["--camera-error", "0"]


def human(source: Path, work: Path) -> Steps:
    """A photo with a mask, and the mesh that a single-image method put before its camera."""
    results = source / "notebook" / "meshes" / "human_object" / "3DB_results"
    put(work / "data" / "human.png", (source / "notebook/images/human_object/image.png").read_bytes())
    put(work / "masks" / "human.png", (results / "mask_human.png").read_bytes())
    put(work / "meshes" / "human.ply", (results / "human.ply").read_bytes())
    focal = json.loads((results / "focal_length.json").read_text(encoding="utf-8"))
    put(work / "focal.json", json.dumps({"human": focal}).encode())
    options = ["--layout", "posed", "--axes", "opengl", "--cameras", "focal.json", "--masks", "masks"]
    return [*options, "--symmetry-axis", "none"], []


def tin(source: Path, work: Path) -> Steps:
    """A photograph of an object of which there is a scan, placed before its camera; coarse meshes made of the scan."""
    settings = yaml.safe_load((source / "configs" / "diffdope.yaml").read_text(encoding="utf-8"))
    lens, pose = settings["camera"], settings["object3d"]
    scan = weld(parse_mesh((source / "data/example/mesh/AlphabetSoup.ply").read_bytes(), "AlphabetSoup.ply"))[0]
    low, high = scan.vertices.min(axis=0), scan.vertices.max(axis=0)
    truth = unit_box(scan)
    k = np.array([[lens["fx"], 0, lens["cx"]], [0, lens["fy"], lens["cy"]], [0, 0, 1]])
    with Image.open(source / "data/example/scene/seg.png") as picture:
        mask = np.asarray(picture.convert("L")) > 127
    begun = np.reshape(pose["rotation"], (3, 3)), np.array(pose["position"])
    rotation, translation, before, after = fitted_pose(scan, mask, k, *begun)
    print(f"the scan's 2D IoU with its segmentation: {before:.3f} where the tool starts, {after:.3f} fitted")
    camera = {
        "R": rotation.tolist(),
        "t": translation.tolist(),
        "K": k.tolist(),
        "object": {"scale": float((high - low).max()), "translation": ((low + high) / 2).tolist()},
    }
    cameras = {}
    for seed, kind in enumerate(("scan", "grid", "warp")):
        name = f"tin-{kind}"
        seen = Camera(30.0, 20.0, 2.0)  # what a spoiled mesh is spoiled along
        coarse = truth if kind == "scan" else KINDS[kind](truth, seen, np.random.default_rng(seed))
        put(work / "meshes" / f"{name}.ply", write_mesh(coarse, "ply"))
        put(work / "truth" / f"{name}.ply", write_mesh(truth, "ply"))
        put(work / "data" / f"{name}.png", (source / "data/example/scene/rgb.png").read_bytes())
        put(work / "masks" / f"{name}.png", (source / "data/example/scene/seg.png").read_bytes())
        cameras[name] = camera
    put(work / "cameras.json", json.dumps(cameras).encode())
    options = ["--cameras", "cameras.json", "--camera-convention", "opencv", "--masks", "masks"]
    return ["--layout", "folder", *options, "--ground-truth", "truth"], []


def detailgen3d(source: Path, work: Path) -> Steps:
    """Seven image-to-3D meshes with the pictures that they were made from, their cameras told by nobody."""
    for model in sorted((source / "assets" / "model").glob("*.glb")):
        picture = source / "assets" / "image" / f"{model.stem}.png"
        put(work / "meshes" / model.name, model.read_bytes())
        put(work / "data" / picture.name, picture.read_bytes())
    return ["--layout", "folder", "--no-check-images"], ["--mask-from", "background"]


DATASETS: dict[str, tuple[str, Callable[[Path, Path], Steps]]] = {
    "chicken": ("syncdreamer-chicken", chicken),
    "human": ("sam-3d-objects", human),
    "tin": ("diff-dope", tin),
    "detailgen3d": ("detailgen3d", detailgen3d),
}


def fitted_pose(mesh: Mesh, mask: np.ndarray, k: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> tuple:
    """Rotation and translation (OpenCV) at which the silhouette meets the mask best, near those given; the 2D IoU there
    and at the end (Nelder and Mead's simplex)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    side = int(1.5 * max(np.ptp(rows), np.ptp(columns)))
    top, left = (int(place.mean() - side / 2) for place in (rows, columns))
    shown = np.zeros((side, side), bool)
    inside = mask[max(top, 0) : top + side, max(left, 0) : left + side]
    shown[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]] = inside
    small = np.asarray(Image.fromarray(shown).resize((192, 192)))
    size = np.ptp(mesh.vertices, axis=0).max()

    def pose(move: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return Rotation.from_rotvec(move[:3]).as_matrix() @ rotation, translation + size * move[3:]

    def loss(move: np.ndarray) -> float:
        pinhole = from_opencv(*pose(move), k, mask.shape[::-1]).window(left, top, side, side).resized(192, 192)
        camera = camera_of_pinhole(pinhole, mesh.vertices.mean(axis=0))
        return 1.0 - float(mask_iou(hard_silhouettes(mesh, [camera], 192)[0], small))

    simplex = np.vstack([np.zeros(6), np.diag([0.2, 0.2, 0.2, 0.1, 0.1, 0.2])])
    found = minimize(loss, np.zeros(6), method="Nelder-Mead", options={"initial_simplex": simplex, "maxfev": 400})
    return *pose(found.x), 1.0 - loss(np.zeros(6)), 1.0 - float(found.fun)


def unit_box(mesh: Mesh) -> Mesh:
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    return Mesh(((mesh.vertices - (low + high) / 2) / (high - low).max()).astype(np.float32), mesh.faces)


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def command(work: Path, *arguments: str, quiet: bool = False) -> str:
    """What `refine-batch ARGUMENTS` printed, in the folder `work`."""
    print("  $ refine-batch " + shlex.join(arguments), flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "refine_batch", *arguments], cwd=work, stdout=subprocess.PIPE, text=True, check=False
    )
    if not quiet:
        print("".join(f"    {line}\n" for line in done.stdout.splitlines()[:30]), flush=True)
    if done.returncode == 2:
        raise SystemExit(f"refine-batch {arguments[0]} ended with exit status 2")
    return done.stdout


def run(name: str, folder: Path, work: Path, method: str) -> dict:
    """All steps of one dataset; the summary that `status --json` gives."""
    place, prepare = DATASETS[name]
    shutil.rmtree(work, ignore_errors=True)
    manifest, options = prepare(folder / place, work)
    print(f"{name}", flush=True)
    command(work, "manifest", "data", "--meshes", "meshes", "--out", "manifest.parquet", *manifest)
    command(work, "validate", "manifest.parquet", "--preview", "preview.html")
    command(work, "run", "manifest.parquet", "output", "--method", method, "--address", "local", *options, quiet=True)
    command(work, "report", "output", "--out", "report.html")
    return json.loads(command(work, "status", "output", "--json", quiet=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", choices=DATASETS, nargs="+", default=list(DATASETS))
    parser.add_argument("--method", default="large-steps")
    options = parser.parse_args()
    found = [name for name in options.only if (options.folder / DATASETS[name][0]).is_dir()]
    for name in options.only:
        if name not in found:
            print(f"{name}: {options.folder / DATASETS[name][0]} is not there")
    summaries = {n: run(n, options.folder.resolve(), options.work.resolve() / n, options.method) for n in found}
    print(f"\n{'dataset':<12} {'refined':>8} {'kept':>5} {'failed':>7}  figures before → after")
    for name, summary in summaries.items():
        counts, figures = summary["overall"]["counts"], summary["overall"]["figures"]
        shown = [f"{f} {v['before']:.3f} → {v['after']:.3f}" for f, v in figures.items() if v["count"]]
        print(f"{name:<12} {counts['refined']:>8} {counts['kept']:>5} {counts['failed']:>7}  {', '.join(shown)}")


if __name__ == "__main__":
    main()
