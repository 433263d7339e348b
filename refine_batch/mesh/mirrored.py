"""Planes held against a surface, and fitted to it, as Warp kernels: a thread sees to all of a plane's points."""

from __future__ import annotations

import numpy as np
import torch
import warp as wp

from refine_batch.devices.warp_runtime import launch
from refine_batch.mesh.surface import Surface, found_at, widest_reach

# Nearer than this, in extents, a point lies on the surface: the direction from there is rounding.
_ON_SURFACE = wp.constant(wp.float64(1e-5))
# A plane is fitted to what is nearer than about this to its image, in extents: objects are symmetric but for a handle.
_REACH = wp.constant(wp.float64(0.03))
# Steps shorter than this, in extents, are none.
_SETTLED = wp.constant(wp.float64(1e-7))
# Share of the product of its diagonal below which the determinant of the normal equations is rounding.
_SINGULAR = wp.constant(wp.float64(1e-14))


@wp.kernel(enable_backward=False)
def held_kernel(
    mesh: wp.uint64,
    middle: wp.vec3,
    radius: wp.float32,
    points: wp.array[wp.vec3d],
    first: wp.int32,
    last: wp.int32,
    planes: wp.array[wp.vec4d],
    squared: wp.array[wp.float64],
):
    """The sum of the squared distances from mirrored points to the surface, by plane."""
    p = wp.tid()
    plane = planes[p]
    normal = wp.vec3d(plane[0], plane[1], plane[2])
    total = wp.float64(0.0)
    for i in range(first, last):
        mirrored = points[i] - wp.float64(2.0) * (wp.dot(points[i], normal) - plane[3]) * normal
        at = wp.vec3(mirrored)
        query = wp.mesh_query_point_no_sign(mesh, at, widest_reach(at, middle, radius))
        total += wp.length_sq(mirrored - found_at(mesh, query))
    squared[p] = total


@wp.kernel(enable_backward=False)
def fit_kernel(
    mesh: wp.uint64,
    middle: wp.vec3,
    radius: wp.float32,
    points: wp.array[wp.vec3d],
    count: wp.int32,
    steps: wp.int32,
    turn: wp.bool,
    planes: wp.array[wp.vec4d],
    near_by: wp.array2d[wp.vec3d],
    fitted: wp.array[wp.vec4d],
    squared: wp.array[wp.float64],
):
    """Fits each plane by steps of Gauss and Newton in offset and angle about y; `near_by` is room for the nearest
    points, `squared` the sum of the squared distances at the plane that is best by the robust sum."""
    p = wp.tid()
    plane = planes[p]
    best = wp.float64(1e300)
    settled = wp.bool(False)
    for step in range(steps + 1):
        if not settled:
            normal = wp.vec3d(plane[0], plane[1], plane[2])
            along = wp.vec3d(plane[2], wp.float64(0.0), -plane[0])
            robust = wp.float64(0.0)
            plain = wp.float64(0.0)
            # The normal equations, and what of them stands on their right.
            a = wp.float64(0.0)
            b = wp.float64(0.0)
            c = wp.float64(0.0)
            of_offset = wp.float64(0.0)
            of_angle = wp.float64(0.0)
            for i in range(count):
                point = points[i]
                ahead = wp.dot(point, normal) - plane[3]
                mirrored = point - wp.float64(2.0) * ahead * normal
                at = wp.vec3(mirrored)
                reach = widest_reach(at, middle, radius)
                if step > 0:
                    # What was nearest to a point is no farther from where that has moved than it is.
                    last = wp.float32(wp.length(mirrored - near_by[p, i]))
                    reach = wp.min(reach, last * wp.float32(1.0001) + wp.float32(2e-5) * radius)
                query = wp.mesh_query_point_no_sign(mesh, at, reach)
                nearest = found_at(mesh, query)
                near_by[p, i] = nearest
                away = mirrored - nearest
                distance = wp.length(away)
                # A mirrored point that moves by v comes farther from the surface by v·d, d being the direction from the
                # surface to it, or the face's normal where it lies on it.
                direction = wp.vec3d()
                if distance > _ON_SURFACE:
                    direction = away / distance
                else:
                    direction = wp.vec3d(wp.mesh_eval_face_normal(mesh, query.face))
                # By Geman and McClure: what has no image must not pull the plane towards itself.
                weight = wp.float64(1.0) / (wp.float64(1.0) + (distance / _REACH) * (distance / _REACH))
                robust += weight * distance * distance
                plain += distance * distance
                across = wp.dot(direction, normal)
                by_offset = weight * wp.float64(2.0) * across
                by_angle = wp.float64(0.0)
                if turn:
                    turned = wp.dot(point, along) * across + ahead * wp.dot(direction, along)
                    by_angle = -weight * wp.float64(2.0) * turned
                a += by_offset * by_offset
                b += by_offset * by_angle
                c += by_angle * by_angle
                of_offset -= by_offset * weight * distance
                of_angle -= by_angle * weight * distance
            if robust < best:
                best = robust
                fitted[p] = plane
                squared[p] = plain
            offset = wp.float64(0.0)
            angle = wp.float64(0.0)
            determinant = a * c - b * b
            if determinant > _SINGULAR * a * c:
                offset = (of_offset * c - of_angle * b) / determinant
                angle = (of_angle * a - of_offset * b) / determinant
            elif a > wp.float64(0.0):
                offset = of_offset / a
            before = plane
            if turn:
                angle += wp.atan2(plane[0], plane[2])
                plane = wp.vec4d(wp.sin(angle), wp.float64(0.0), wp.cos(angle), plane[3] + offset)
            else:
                plane[3] = plane[3] + offset
            moved = wp.max(wp.abs(before[0] - plane[0]), wp.abs(before[2] - plane[2]))
            settled = wp.max(moved, wp.abs(before[3] - plane[3])) < _SETTLED


def held(surface: Surface, points: np.ndarray, planes: np.ndarray, first: int, last: int) -> np.ndarray:
    """(P,) float64: the sum of the squared distances from points mirrored in each plane to the surface.

    Parameters
    ----------
    points : (N, 3) float64
        Of which those from number `first` to before `last` are asked.
    planes : (P, 4) float64
        Normal and offset.
    """
    squared = torch.zeros(len(planes), dtype=torch.float64)
    if len(planes):
        asked = [torch.from_numpy(points), first, last, torch.from_numpy(planes)]
        launch(held_kernel, len(planes), [*surface.tree, *asked, squared])
    return squared.numpy()


def fitted(
    surface: Surface, points: np.ndarray, planes: np.ndarray, count: int, steps: int, turn: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(P, 4) float64 planes fitted to the distances from their first `count` mirrored points to the surface, and (P,)
    float64 the sum of the squared distances there; the arguments as in `held`, `turn`: whether directions are fitted.
    """
    found, squared = torch.from_numpy(planes.copy()), torch.zeros(len(planes), dtype=torch.float64)
    room = torch.zeros((len(planes), count, 3), dtype=torch.float64)
    asked = [torch.from_numpy(points), count, steps, turn, torch.from_numpy(planes)]
    launch(fit_kernel, len(planes), [*surface.tree, *asked, room, found, squared])
    return found.numpy(), squared.numpy()
