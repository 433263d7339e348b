"""The usual mistakes about a camera, each as another way to read the same row."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from refine_batch.cameras.conversions import BLENDER_FROM_Y_UP
from refine_batch.dataset.diagnosis.sample import Sample, Written

Flip = Literal["", "left-right", "upside down", "mesh"]
Reading = Callable[[Sample], Written | None]

_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
# Object units per unit of distance: metres beside millimetres, centimetres, decimetres, inches; Choy et al.'s 1.75.
UNITS = (1000.0, 100.0, 10.0, 2.0, 1.75, 1 / 1.75, 0.5, 0.1, 0.0254, 0.01, 0.001)


@dataclass(frozen=True)
class Mistake:
    """One change that a row's camera may need.

    Parameters
    ----------
    name
        For machines.
    change
        What to do, for a person: it names the column.
    reading
        The camera after the change; None where the row is not concerned.
    flip
        Whether the picture is to be turned over as well, or (`mesh`) the mesh is mirrored in x.
    """

    name: str
    change: str
    reading: Reading
    flip: Flip = ""


def usual_mistakes() -> list[Mistake]:
    """The commonest first: it is named where several raise the IoU alike."""
    return [*_of_angles(), *_of_matrices(), *_of_the_frame(), *_of_units(), *_of_pictures(), _of_projection()]


def rescaled(factor: float, name: str | None = None, change: str | None = None) -> Mistake:
    """The camera `factor` times as far."""

    def reading(sample: Sample) -> Written | None:
        written = sample.written
        if written.angles is not None:
            return written.with_angles(distance=written.angles["distance"] * factor)
        if written.extrinsics is None:
            return None
        moved = written.extrinsics.copy()
        moved[:3, 3] *= factor
        return replace(written, extrinsics=moved)

    where = "the column distance (of matrices: the translation of extrinsics)"
    usual = f"multiply {where} by {factor:.4g}: it is in other units than the mesh"
    return Mistake(name or f"distance_times_{factor:.4g}", change or usual, reading)


def other_fov(fov: float) -> Mistake:
    """One field of view for all."""
    change = f"set the column fov to {fov:.3g}"
    return Mistake(f"fov_{fov:.3g}", change, _angles(lambda a, _: {"fov": fov}))


def _of_projection() -> Mistake:
    """The other projection, of the same scale at the object's depth."""

    def reading(sample: Sample) -> Written | None:
        written, parallel = sample.written, sample.written.projection == "orthographic"
        other = replace(written, projection="perspective" if parallel else "orthographic")
        if written.angles is not None:
            return other
        if written.intrinsics is None or written.extrinsics is None:
            return None
        depth = float(written.extrinsics[2] @ [*sample.centre, 1.0]) * (-1.0 if written.axes == "opengl" else 1.0)
        if not depth > 0:
            return None
        scale = depth if parallel else 1.0 / depth
        shares = (scale, scale, 1, 1) if written.intrinsics.size == 4 else np.array([[scale], [scale], [1]])
        k = written.intrinsics.reshape(3, 3) if written.intrinsics.size == 9 else written.intrinsics
        keep_centre = k * shares
        if k.size == 9:
            keep_centre[:2, 2] = k[:2, 2]
        return replace(other, intrinsics=keep_centre)

    change = "set the column projection to the other of perspective and orthographic"
    return Mistake("projection", change, reading)


def _angles(change: Callable[[dict[str, float], Sample], dict[str, float] | None]) -> Reading:
    """A reading of rows that have angles; `change` gives what is different, None where nothing is."""

    def reading(sample: Sample) -> Written | None:
        if sample.written.angles is None:
            return None
        changed = change(sample.written.angles, sample)
        return sample.written.with_angles(**changed) if changed else None

    return reading


def _of_angles() -> Iterator[Mistake]:
    def azimuth(name: str, sign: float, offset: float, text: str) -> Mistake:
        return Mistake(name, text, _angles(lambda a, _: {"azimuth": sign * a["azimuth"] + offset}))

    yield azimuth("azimuth_negated", -1, 0, "change the sign of the column azimuth: it turns the other way")
    yield azimuth("azimuth_plus_180", 1, 180, "add 180 to the column azimuth")
    yield azimuth("azimuth_plus_90", 1, 90, "add 90 to the column azimuth")
    yield azimuth("azimuth_minus_90", 1, -90, "subtract 90 from the column azimuth")
    yield azimuth("azimuth_from_x", -1, 90, "write 90 − azimuth in the column azimuth: it counts from +x towards +z")
    yield azimuth("azimuth_270_minus", -1, 270, "write 270 − azimuth in the column azimuth")
    yield azimuth("azimuth_180_minus", -1, 180, "write 180 − azimuth in the column azimuth")
    yield Mistake(
        "elevation_negated",
        "change the sign of the column elevation: above the object is positive",
        _angles(lambda a, _: {"elevation": -a["elevation"]}),
    )
    yield Mistake(
        "elevation_is_polar",
        "write 90 − elevation in the column elevation: it counts from the vertical",
        _angles(lambda a, _: {"elevation": 90 - a["elevation"]}),
    )
    yield Mistake(
        "radians",
        "turn the columns azimuth, elevation and roll (and fov, where it is small) into degrees: they are in radians",
        _angles(_degrees),
    )
    yield Mistake(
        "roll_negated",
        "change the sign of the column roll",
        _angles(lambda a, _: {"roll": -a["roll"]} if a.get("roll") else None),
    )
    yield Mistake("offset_x_negated", "change the sign of offset_x: +x is to the left", _angles(_minus("offset_x")))
    yield Mistake("offset_y_negated", "change the sign of offset_y: +y is up", _angles(_minus("offset_y")))
    yield from _of_fov()


def _minus(name: str) -> Callable[[dict[str, float], Sample], dict[str, float] | None]:
    return lambda angles, _: {name: -angles[name]} if angles.get(name) else None


def _degrees(angles: dict[str, float], _: Sample) -> dict[str, float] | None:
    names: list[str] = [name for name in ("azimuth", "elevation", "roll") if name in angles]
    if any(abs(angles[name]) > 2 * math.pi + 0.01 for name in names):
        return None
    if 0 < angles.get("fov", 60.0) < math.pi:
        names.append("fov")
    return {name: math.degrees(angles[name]) for name in names}


def _of_fov() -> Iterator[Mistake]:
    def as_focal(side: Callable[[Sample], float]) -> Reading:
        return _angles(
            lambda a, s: {"fov": math.degrees(2 * math.atan(side(s) / (2 * a["fov"])))} if a.get("fov", 0) > 0 else None
        )

    def scaled(a: dict[str, float], ratio: float) -> dict[str, float] | None:
        fov = a.get("fov", 60.0)
        if not 0 < fov < 180 or ratio == 1:
            return None
        return {"fov": math.degrees(2 * math.atan(math.tan(math.radians(fov) / 2) * ratio))}

    yield Mistake(
        "fov_is_focal_length_36mm",
        "turn the column fov into degrees: it holds a focal length in mm (36 mm sensor): 2·atan(18 / fov)",
        as_focal(lambda s: 36.0),
    )
    yield Mistake(
        "fov_is_focal_length_32mm",
        "turn the column fov into degrees: it holds a focal length in mm (32 mm sensor): 2·atan(16 / fov)",
        as_focal(lambda s: 32.0),
    )
    yield Mistake(
        "fov_is_focal_length_in_pixels",
        "turn the column fov into degrees: it holds a focal length in pixels: 2·atan(longer side / 2 / fov)",
        as_focal(lambda s: float(max(s.size))),
    )
    yield Mistake(
        "fov_is_focal_length_in_ndc",
        "turn the column fov into degrees: it holds a focal length in NDC: 2·atan(1 / fov)",
        as_focal(lambda s: 2.0),
    )
    yield Mistake(
        "fov_in_radians",
        "turn the column fov into degrees: it is in radians",
        _angles(lambda a, _: {"fov": math.degrees(a["fov"])} if 0 < a.get("fov", 9) < math.pi else None),
    )
    yield Mistake(
        "fov_is_half",
        "double the column fov: it holds the half angle",
        _angles(lambda a, _: {"fov": 2 * a["fov"]} if 0 < a.get("fov", 0) < 90 else None),
    )
    yield Mistake(
        "fov_of_shorter_side",
        "turn the column fov into that of the picture's longer side: it is the shorter side's",
        _angles(lambda a, s: scaled(a, max(s.size) / min(s.size))),
    )


def _of_matrices() -> Iterator[Mistake]:
    def matrices(change: Callable[[np.ndarray], np.ndarray | None]) -> Reading:
        def reading(sample: Sample) -> Written | None:
            if sample.written.extrinsics is None:
                return None
            changed = change(sample.written.extrinsics)
            return None if changed is None else replace(sample.written, extrinsics=changed)

        return reading

    def inverse(matrix: np.ndarray) -> np.ndarray | None:
        return np.linalg.inv(matrix) if abs(np.linalg.det(matrix)) > 1e-12 else None

    def both(matrix: np.ndarray) -> np.ndarray | None:
        return inverse(matrix @ _OPENGL)

    yield Mistake(
        "camera_axes", "set the column camera_axes to the other of opencv and opengl", matrices(lambda m: _OPENGL @ m)
    )
    yield Mistake("camera_to_world", "invert extrinsics: they are camera to object", matrices(inverse))
    yield Mistake(
        "camera_to_world_of_other_axes",
        "invert extrinsics and set camera_axes to the other of opencv and opengl: they are camera to object, as NeRF's "
        "transform_matrix is",
        matrices(both),
    )
    yield Mistake(
        "rotation_transposed",
        "transpose the rotation in extrinsics: it was written by columns",
        matrices(lambda m: np.block([[m[:3, :3].T, m[:3, 3:]], [m[3:]]])),
    )
    yield Mistake(
        "extrinsics_by_columns", "transpose extrinsics: they were written by columns", matrices(lambda m: m.T)
    )
    yield Mistake(
        "axes_of_pytorch3d",
        "negate the first two rows of extrinsics: their axes are PyTorch3D's (x left, y up)",
        matrices(lambda m: np.diag([-1.0, -1.0, 1.0, 1.0]) @ m),
    )
    yield Mistake(
        "intrinsics_normalised",
        "multiply the intrinsics by the picture's width and height: they are shares of it",
        _intrinsics(lambda k, s: np.array([s.size[0], s.size[1]])),
    )
    yield Mistake(
        "intrinsics_of_other_size",
        "scale the intrinsics to the picture's size: they are of a picture of another",
        _intrinsics(lambda k, s: np.array([s.size[0] / (2 * k[2])] * 2) if k[2] > 0 else None),
    )


def _intrinsics(scale: Callable[[np.ndarray, Sample], np.ndarray | None]) -> Reading:
    """`scale` gives (2,) factors in x and y of the intrinsics (fx, fy, cx, cy)."""

    def reading(sample: Sample) -> Written | None:
        values = sample.written.intrinsics
        if values is None or values.size not in (4, 9):
            return None
        k = values.reshape(-1) if values.size == 4 else values.reshape(3, 3)[[0, 1, 0, 1], [0, 1, 2, 2]]
        factors = scale(k, sample)
        return None if factors is None else replace(sample.written, intrinsics=k * np.tile(factors, 2))

    return reading


def _of_the_frame() -> Iterator[Mistake]:
    def up(sample: Sample) -> Written | None:
        if sample.written.angles is None:
            return None
        return replace(sample.written, up_axis="y" if sample.written.up_axis == "z" else "z")

    def turned(rotation: np.ndarray) -> Reading:
        def reading(sample: Sample) -> Written | None:
            if sample.written.extrinsics is None:
                return None
            turn = np.eye(4)
            turn[:3, :3] = rotation
            return replace(sample.written, extrinsics=sample.written.extrinsics @ turn)

        return reading

    yield Mistake("up_axis", "set the column up_axis to the other of y and z: the mesh stands on that axis", up)
    yield Mistake(
        "mesh_z_up",
        "multiply extrinsics by a turn of −90° about x: the mesh is z-up and the camera's world y-up",
        turned(BLENDER_FROM_Y_UP.T),
    )
    yield Mistake(
        "mesh_y_up",
        "multiply extrinsics by a turn of 90° about x: the mesh is y-up and the camera's world z-up",
        turned(BLENDER_FROM_Y_UP),
    )
    yield Mistake(
        "mesh_mirrored",
        "write the meshes with x negated: they are mirrored (a tool with left-handed axes made them)",
        lambda s: s.written,
        "mesh",
    )


def _of_units() -> Iterator[Mistake]:
    return (rescaled(factor) for factor in UNITS)


def _of_pictures() -> Iterator[Mistake]:
    yield Mistake("image_flipped", "mirror the pictures left to right", lambda s: s.written, "left-right")
    yield Mistake(
        "image_upside_down",
        "turn the pictures over, top to bottom: their rows begin at the bottom",
        lambda s: s.written,
        "upside down",
    )
