"""`refine-batch manifest`."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import click

from refine_batch.cli.group import COMMANDS, Command

if TYPE_CHECKING:
    from refine_batch.dataset.layouts.build import Built

# Said here again, so that `--help` need not import the layouts.
_LAYOUTS = ("folder", "pix3d", "r2n2", "transforms", "colmap", "turntable", "posed", "webdataset", "huggingface")
_CONVENTIONS = ("look-at", "opencv", "colmap", "opengl", "pytorch3d")
_FRAMES = ("same", "shapenet-v1", "shapenet-v2", "pix3d", "y-up")
_COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (127, 127, 127)}
_INTERVAL = 5.0  # seconds between lines of progress


class _Numbers(click.ParamType):
    """Numbers with commas between them, or a range START:STOP:STEP without its end."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if not isinstance(value, str):
            return tuple(value)
        try:
            if ":" not in value:
                return tuple(float(part) for part in value.split(","))
            start, stop, step = (float(part) for part in value.split(":"))
            count = min(max(0, math.ceil((stop - start) / step - 1e-9)), 1000)
            return tuple(start + i * step for i in range(count))
        except (ValueError, ZeroDivisionError, OverflowError):
            self.fail(f"{value!r} is not a list like 0,90,180,270 nor a range like 0:360:90", param, ctx)


class _Grid(click.ParamType):
    name = "grid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if not isinstance(value, str):
            return tuple(value)  # type: ignore[return-value]
        columns, _, rows = value.lower().partition("x")
        if not (columns.isdecimal() and rows.isdecimal() and int(columns) and int(rows)):
            self.fail(f"{value!r} is not COLUMNSxROWS, 2x3 say", param, ctx)
        return int(columns), int(rows)


class _Colour(click.ParamType):
    name = "colour"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int, int]:
        if not isinstance(value, str):
            return tuple(value)  # type: ignore[return-value]
        if value.lower() in _COLOURS:
            return _COLOURS[value.lower()]
        text = value.removeprefix("#")
        try:
            red, green, blue = bytes.fromhex(text)
        except ValueError:
            self.fail(f"{value!r} is not {', '.join(_COLOURS)} or #rrggbb", param, ctx)
        return red, green, blue


class _Error(click.ParamType):
    name = "error"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        from refine_batch.config import RefineConfig

        if not isinstance(value, str):
            return tuple(value)  # type: ignore[return-value]
        try:
            return RefineConfig(camera_error=value).camera_spread
        except ValueError:
            self.fail(f"{value!r} is not DEGREES,SHARE such as 5,0.1, nor 0 for exact cameras", param, ctx)


@click.command(cls=Command, short_help=COMMANDS["manifest"])
@click.argument("source")
@click.option("--layout", type=click.Choice(_LAYOUTS), required=True, help="How SOURCE is laid out.")
@click.option(
    "--meshes", metavar="DIR", help="Folder of the coarse meshes, or one mesh file for all.  [default: SOURCE/meshes]"
)
@click.option("--out", metavar="MANIFEST", required=True, help="The manifest to write, .parquet or .csv.")
@click.option(
    "--ground-truth",
    metavar="DIR",
    help="Folder of the true meshes (r2n2: ShapeNetCore v1; Pix3D has its own).",
)
@click.option(
    "--category", "categories", multiple=True, metavar="NAME", help="Only this category; several are allowed."
)
@click.option("--masks", metavar="DIR", help="Masks of the images' stems, where these have no alpha channel.")
@click.option(
    "--cameras",
    metavar="FILE",
    help="folder, posed: a CSV, JSON or NPZ file of cameras (posed: of intrinsics), keyed by the images' stems.",
)
@click.option(
    "--camera-convention",
    type=click.Choice(_CONVENTIONS),
    help="folder: what the cameras' numbers mean.  [default: look-at: azimuth, elevation, distance]",
)
@click.option(
    "--view-separator",
    metavar="TEXT",
    help="folder: what stands between an object's stem and the name of a view; _ makes chair_03 a view of chair.",
)
@click.option(
    "--image-source", "image_sources", multiple=True, metavar="NAME", help="pix3d: only images of this source."
)
@click.option("--without-truncated", is_flag=True, help="pix3d: leave out objects that the image's edge cuts.")
@click.option("--without-occluded", is_flag=True, help="pix3d: leave out objects that others hide, even slightly.")
@click.option(
    "--view",
    "views",
    multiple=True,
    type=click.IntRange(min=0),
    metavar="N",
    help="r2n2: only this view of each model; several are allowed.",
)
@click.option(
    "--axes",
    type=click.Choice(["opencv", "opengl", "pytorch3d"]),
    help="posed: where the camera's axes point in the meshes' frame. transforms: of a file that is not in OpenGL's.",
)
@click.option(
    "--azimuths",
    type=_Numbers(),
    default=(),
    metavar="LIST",
    help="turntable: degrees, one per view in order: 0,90,180,270 or 0:360:90. 0 looks along −z, 90 along −x.",
)
@click.option(
    "--elevations",
    type=_Numbers(),
    default=(),
    metavar="LIST",
    help="turntable: degrees above the object, one for all views or one for each.",
)
@click.option("--distance", type=float, metavar="X", help="turntable: of the cameras from the origin, object units.")
@click.option(
    "--span", type=float, metavar="X", help="turntable: object units that the picture's side shows, if orthographic."
)
@click.option("--grid", type=_Grid(), metavar="CxR", help="turntable: a picture holds all views in C columns, R rows.")
@click.option(
    "--up-axis", type=click.Choice(["y", "z"]), help="turntable: axis that the angles are about.  [default: y]"
)
@click.option(
    "--background",
    type=_Colour(),
    metavar="COLOUR",
    help="turntable: white, black, grey or #rrggbb; all else is the object, where there are no masks.",
)
@click.option(
    "--most-views",
    type=click.IntRange(1, 256),
    default=16,
    show_default=True,
    metavar="N",
    help="transforms, colmap: pictures used of each object, evenly through their order.",
)
@click.option(
    "--fov",
    type=float,
    metavar="DEGREES",
    help="turntable, posed: field of view over the longer side. r2n2: of renderings other than Choy et al.'s.",
)
@click.option(
    "--distance-unit", type=float, metavar="X", help="r2n2: object units per unit of distance.  [default: 1.75]"
)
@click.option(
    "--mesh-frame",
    type=click.Choice(_FRAMES),
    help="pix3d, r2n2: coordinates that the coarse meshes are in; most networks were trained on shapenet-v1. "
    "transforms, colmap: y-up where the meshes were exported y-up from the cameras' z-up world.  [default: same]",
)
@click.option(
    "--mesh-scale",
    type=click.Choice(["same", "unit-box"]),
    help="pix3d, r2n2: unit-box where the meshes' true model has its box on the origin with a largest side of 1.",
)
@click.option(
    "--symmetry-axis", type=click.Choice(["x", "y", "z", "none"]), help="For every row, in the meshes' coordinates."
)
@click.option(
    "--camera-error",
    type=_Error(),
    metavar="DEG,SHARE",
    help="How far the cameras may be off, one standard deviation: degrees, and share of the distance; 0 where they are "
    "exact, as of renders. Written into every row and view.  [default: what `run --camera-error` says]",
)
@click.option(
    "--margin",
    type=click.FloatRange(0, 2),
    default=0.15,
    show_default=True,
    metavar="X",
    help="Room round a cut-out object, as a share of its longer side: a coarse mesh may reach beyond it.",
)
@click.option(
    "--image-size",
    type=click.IntRange(16, 4096),
    default=512,
    show_default=True,
    metavar="N",
    help="Largest side of an image that is written, pixels: twice what a refinement works at.",
)
@click.option(
    "--check-images/--no-check-images",
    default=True,
    help="Look into each image's header for an alpha channel where nothing else gives a mask.  [default: yes]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
@click.option("--s3-endpoint", metavar="URL", help="URL of an S3-compatible store. By default AWS.")
def manifest(source: str, layout: str, meshes: str | None, as_json: bool, **options: Any) -> None:
    """Write the manifest of a dataset at SOURCE: a known layout, and a folder of someone's reconstructions of it.

    \b
    folder      images and meshes of the same stem
    posed       the same, the meshes in their camera's frame
    transforms  Blender's, NeRF's or nerfstudio's transforms.json, one object each
    colmap      COLMAP's reconstructions, one object each
    turntable   pictures from known directions, as multi-view diffusion writes them
    webdataset  tar shards of samples, read in place
    huggingface Parquet with meshes and pictures as bytes, read in place
    pix3d       Pix3D, as its archive unpacks
    r2n2        the ShapeNet renderings of Choy et al.

    Images that have to be cut out (pix3d, r2n2: or turned towards the object) are written beside the manifest. What
    does not fit is counted, listed with its reason in MANIFEST's .left_out.csv, and left out.

    Exit status: 0 when there is a manifest, 2 when not one row could be made: nothing was written.
    """
    from refine_batch.cli.console import print_json
    from refine_batch.dataset.layouts import LayoutOptions, build_manifest

    chosen = LayoutOptions(source=source, meshes=meshes or f"{source.rstrip('/')}/meshes", **options)
    built = build_manifest(layout, chosen, progress=_Progress())  # type: ignore[arg-type]
    if as_json:
        print_json(
            {
                "manifest": built.manifest,
                "rows": built.rows,
                "categories": dict(built.categories),
                "left_out": {reason.value: number for reason, number in built.left_out.items()},
                "left_out_list": built.left_out_uri,
            }
        )
    else:
        show(built)
        if layout == "folder" and options["cameras"] is None:
            click.echo("No --cameras were given: no row has a camera, so each is estimated from the mask.", err=True)


class _Progress:
    """A line on standard error every few seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _INTERVAL

    def __call__(self, built: Built) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _INTERVAL
            click.echo(f"{built.rows:,} rows, {sum(built.left_out.values()):,} left out", err=True)


def show(built: Built) -> None:
    """Print what was found and what was not."""
    from refine_batch.cli.console import console, plain, table
    from refine_batch.dataset.layouts.entry import Reason

    out = console()
    out.print(plain(f"{built.rows} rows in {built.manifest}"), soft_wrap=True)
    if len(built.categories) > 1:
        counts = table("category", "rows")
        for name, number in sorted(built.categories.items()):
            counts.add_row(plain(name or "(none)"), str(number))
        out.print(counts)
    for reason, number in built.left_out.most_common():
        if reason is Reason.FILTERED:
            out.print(f"{number} not asked for")
            continue
        kept = "in the manifest without one" if reason is Reason.GROUND_TRUTH_MISSING else "left out"
        out.print(f"{number} {kept}: {reason.value}")
        for item in built.examples[reason]:
            out.print(plain(f"  {item.name}: {item.message}"), soft_wrap=True)
    if built.examples:
        out.print(plain(f"all of them: {built.left_out_uri}"), soft_wrap=True)
