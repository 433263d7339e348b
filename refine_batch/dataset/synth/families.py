"""Families of everyday objects, each a function from random numbers to parts.

y is up and x runs from back to front. All but those in `ASYMMETRIC` are mirror images of themselves in the plane z = 0,
the default symmetry plane. Sizes are arbitrary: `dataset` scales every object to an extent of 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from manifold3d import Manifold

from refine_batch.dataset.synth.solids import Part, both, box, ellipsoid, prism, revolved, ring, rod, slab

Random = np.random.Generator


def crate(r: Random) -> list[Part]:
    """A cupboard or chest: a body on feet, with drawers or doors."""
    length, height, width = r.uniform(0.4, 0.8), r.uniform(0.5, 1.2), r.uniform(0.5, 1.2)
    front, top = length / 2, height
    parts = [Part(slab(length, (0.0, height), width), essential=True)]
    if r.random() < 0.6:
        rim = r.uniform(0.02, 0.06)
        parts.append(Part(slab(length + 2 * rim, (top, top + r.uniform(0.03, 0.07)), width + 2 * rim), tone=1))
    if r.random() < 0.7:
        side, foot = r.uniform(0.05, 0.09), r.uniform(0.06, 0.2)
        feet = [both(box((x, x + side), (-foot, 0.01), (width / 2 - side, width / 2))) for x in (-front, front - side)]
        parts += [Part(pair, tone=1) for pair in feet]
    drawers = int(r.integers(1, 4))
    gap = height / drawers
    for i in range(drawers):
        low, high = i * gap + 0.04, (i + 1) * gap - 0.04
        parts.append(Part(slab(0.06, (low, high), width - 0.1).translate((front, 0, 0)), tone=2))
        middle = (low + high) / 2
        parts.append(Part(slab(0.14, (middle - 0.02, middle + 0.02), width * 0.25).translate((front, 0, 0)), tone=1))
    return parts


def table(r: Random) -> list[Part]:
    length, width, height = r.uniform(0.8, 1.5), r.uniform(0.6, 1.1), r.uniform(0.4, 0.9)
    thick = r.uniform(0.04, 0.1)
    round_top = r.random() < 0.35
    if round_top:
        length = width
        top = revolved([(0, height - thick), (width / 2, height - thick), (width / 2, height), (0, height)], 40)
    else:
        top = slab(length, (height - thick, height), width)
    parts = [Part(top, essential=True)]
    if round_top and r.random() < 0.6:
        foot, pole = width * r.uniform(0.25, 0.4), r.uniform(0.04, 0.08)
        profile = [
            (0, 0),
            (foot, 0),
            (foot, 0.04),
            (pole, 0.09),
            (pole, height - thick + 0.01),
            (0, height - thick + 0.01),
        ]
        return [*parts, Part(revolved(profile), essential=True, tone=1)]
    x, z = length / 2 * r.uniform(0.6, 0.88), width / 2 * r.uniform(0.6, 0.85)
    if round_top:
        x, z = 0.7 * x, 0.7 * z
    thickness, taper, splay = r.uniform(0.025, 0.06), r.uniform(0.5, 1.0), r.uniform(1.0, 1.15)
    segments = 4 if r.random() < 0.5 else 12
    for side in (-1, 1):
        leg = rod(
            (side * x, height - thick / 2, z), (side * x * splay, 0, z * splay), thickness, taper * thickness, segments
        )
        parts.append(Part(both(leg), tone=1))
    if r.random() < 0.4:
        shelf = height * r.uniform(0.2, 0.5)
        spread = 1 + (splay - 1) * (1 - shelf / height)
        parts.append(Part(slab(2 * x * spread, (shelf, shelf + 0.035), 2 * z * spread), tone=2))
    return parts


def chair(r: Random) -> list[Part]:
    width, depth, seat, back = r.uniform(0.45, 0.6), r.uniform(0.42, 0.55), r.uniform(0.38, 0.48), r.uniform(0.4, 0.65)
    thick, leg = r.uniform(0.04, 0.09), r.uniform(0.022, 0.04)
    x, z = depth / 2 - leg, width / 2 - leg
    parts = [Part(slab(depth, (seat - thick, seat), width), essential=True)]
    splay, segments = r.uniform(1.0, 1.15), 4 if r.random() < 0.5 else 10
    for side in (-1, 1):
        pair = both(rod((side * x, seat - thick / 2, z), (side * x * splay, 0, z * splay), leg, leg, segments))
        parts.append(Part(pair, tone=1))
    lean, top = r.uniform(0.03, 0.14), seat + back
    kind = r.integers(0, 3)
    if kind == 0:  # a panel
        outline = [(-x - leg, seat - 0.02), (-x + leg, seat - 0.02), (-x + leg - lean, top), (-x - leg - lean, top)]
        parts.append(Part(prism(outline, width), essential=True))
    else:
        post = rod((-x, seat - thick / 2, z), (-x - lean, top, z), leg, leg, segments)
        parts.append(Part(both(post), essential=True, tone=1))
        if kind == 1:  # rails across
            for share in np.linspace(0.45, 0.93, int(r.integers(2, 4))):
                at, y = -x - lean * share, seat + back * share
                parts.append(Part(box((at - 0.02, at + 0.02), (y - 0.05, y + 0.05), (-z, z))))
        else:  # a padded upper back
            at = -x - 0.7 * lean
            parts.append(Part(box((at - 0.035, at + 0.035), (seat + 0.3 * back, top), (-z, z))))
    if r.random() < 0.35:
        arm = seat + r.uniform(0.18, 0.26)
        parts.append(Part(both(box((-x - lean, x), (arm, arm + 0.035), (z - leg, z + leg))), tone=1))
        parts.append(
            Part(both(rod((x * 0.8, seat - 0.02, z), (x * 0.8, arm + 0.02, z), leg * 0.8, segments=8)), tone=1)
        )
    return parts


def lamp(r: Random) -> list[Part]:
    height, foot, pole = r.uniform(0.8, 1.6), r.uniform(0.14, 0.25), r.uniform(0.02, 0.04)
    shade, top, tall = r.uniform(0.2, 0.34), r.uniform(0.4, 0.95), r.uniform(0.25, 0.4)
    rise = r.uniform(0.03, 0.07)
    stand = [(0, 0), (foot, 0), (foot, rise), (pole, rise * 1.6), (pole, height), (0, height)]
    if r.random() < 0.4:  # a vase for a stand
        belly = r.uniform(0.1, 0.17)
        stand = [
            (0, 0),
            (foot * 0.7, 0),
            (belly, height * 0.25),
            (belly * 0.8, height * 0.42),
            (pole, height * 0.6),
            (pole, height),
            (0, height),
        ]
    low = height - tall * 0.6
    cone = [(0, low), (shade, low), (shade * top, low + tall), (0, low + tall)]
    return [
        Part(revolved(stand, 24), essential=True, tone=1),
        Part(revolved(cone, 32), essential=True),
    ]


def torus(r: Random) -> list[Part]:
    thickness = r.uniform(0.1, 0.22)
    solid = ring(0.5 - thickness / 2, thickness, r.uniform(0.7, 1.4))
    # Lying, standing along x or standing along z: each its own mirror image in z = 0.
    solid = [solid, solid.rotate((90.0, 0.0, 0.0)), solid.rotate((0.0, 0.0, 90.0))][r.integers(0, 3)]
    return [Part(solid, essential=True)]


def airplane(r: Random) -> list[Part]:
    body, nose = r.uniform(0.055, 0.085), r.uniform(0.12, 0.22)
    profile = [
        (0, -0.5), (body * 0.25, -0.47), (body * 0.75, -0.3), (body, -0.15), (body, 0.5 - nose),
        (body * 0.75, 0.5 - 0.4 * nose), (body * 0.35, 0.49), (0, 0.5),
    ]  # fmt: skip
    parts = [Part(revolved(profile, 24).rotate((0.0, 0.0, -90.0)), essential=True)]
    span, sweep, chord, tip = r.uniform(0.35, 0.55), r.uniform(0.0, 0.28), r.uniform(0.16, 0.26), r.uniform(0.3, 0.8)
    root, climb, thick = r.uniform(0.02, 0.14), r.uniform(-0.02, 0.12), r.uniform(0.012, 0.022)
    parts.append(Part(_wings(_fin(root, chord, sweep, tip, span), thick, climb), essential=True, tone=1))
    parts.append(Part(prism(_fin(-0.34, 0.14, 0.1, 0.6, 0.2), 0.012), tone=2))
    lift = r.choice([0.0, 0.15])
    tail = _wings(_fin(-0.36 - 0.5 * lift, 0.11, 0.08, 0.6, span * r.uniform(0.3, 0.45)), 0.01)
    parts.append(Part(tail.translate((0.0, lift, 0.0)), tone=2))
    if r.random() < 0.7:
        z, size = span * r.uniform(0.3, 0.45), r.uniform(0.025, 0.04)
        x, y = root - sweep * z / span, climb * z - 0.85 * size
        parts.append(Part(both(rod((x - 0.06, y, z), (x + 0.09, y, z), size, size * 0.8, 16)), tone=1))
    return parts


def _fin(front: float, chord: float, sweep: float, tip: float, span: float) -> list[tuple[float, float]]:
    """Outline of a fin: its root from x = `front` backwards, out to `span`, swept back, its tip `tip` of the chord."""
    return [(front, 0.0), (front - sweep, span), (front - sweep - chord * tip, span), (front - chord, 0.0)]


def _wings(outline: list[tuple[float, float]], thickness: float, rise: float = 0.0) -> Manifold:
    """Two flat wings along +z and −z that climb by `rise` per unit of span."""
    right = prism(outline, thickness).rotate((90.0, 0.0, 0.0))
    shear = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, rise, 0.0], [0.0, 0.0, 1.0, 0.0]]
    return both(right.transform(shear))


def bottle(r: Random) -> list[Part]:
    radius, height, neck = r.uniform(0.12, 0.26), r.uniform(0.55, 0.8), r.uniform(0.03, 0.07)
    shoulder, lip = height * r.uniform(0.5, 0.75), height + r.uniform(0.12, 0.28)
    waist = radius * r.uniform(0.75, 1.0)
    profile = [
        (0, 0), (radius * 0.92, 0), (radius, 0.03), (waist, shoulder * 0.5), (radius, shoulder),
        (radius * 0.8, shoulder + 0.45 * (height - shoulder)), (neck * 1.3, height),
        (neck, height + 0.02), (neck, lip), (0, lip),
    ]  # fmt: skip
    cap = [(0, lip - 0.06), (neck * 1.35, lip - 0.06), (neck * 1.35, lip + 0.02), (0, lip + 0.02)]
    return [Part(revolved(profile, 36), essential=True), Part(revolved(cap, 24), tone=1)]


def car(r: Random) -> list[Part]:
    hood, roof, width = r.uniform(0.2, 0.27), r.uniform(0.37, 0.5), r.uniform(0.38, 0.46)
    clear, wheel = r.uniform(0.06, 0.09), r.uniform(0.085, 0.11)
    low, high = -r.uniform(0.2, 0.42), r.uniform(0.05, 0.15)
    lower = [
        (-0.5, clear),
        (0.47, clear),
        (0.5, clear + 0.06),
        (0.48, hood - 0.03),
        (high + 0.16, hood),
        (-0.45, hood + 0.02),
        (-0.5, hood - 0.04),
    ]
    cabin = [(low - 0.08, hood - 0.03), (high + 0.2, hood - 0.03), (high, roof), (low + 0.03, roof)]
    pillars = prism(cabin, width).warp(lambda p: (p[0], p[1], p[2] * (1 - 0.22 * max(p[1] - hood, 0) / (roof - hood))))
    parts = [Part(prism(lower, width), essential=True), Part(pillars, essential=True, tone=2)]
    for x in (-0.31, 0.3):
        tyre = rod((x, wheel, width / 2 - 0.07), (x, wheel, width / 2 + 0.012), wheel, segments=24)
        parts.append(Part(both(tyre), tone=1))
    if r.random() < 0.3:
        parts.append(Part(slab(0.1, (hood + 0.09, hood + 0.115), width * 0.9).translate((-0.45, 0, 0)), tone=1))
        parts.append(Part(both(box((-0.47, -0.43), (hood - 0.05, hood + 0.1), (0.1, 0.13))), tone=1))
    return parts


def mug(r: Random) -> list[Part]:
    radius, height, wall = r.uniform(0.24, 0.34), r.uniform(0.5, 0.75), r.uniform(0.03, 0.05)
    base = radius * r.uniform(0.75, 1.0)
    profile = [(0, 0), (base, 0), (radius, height), (radius - wall, height), (base - wall, wall * 1.5), (0, wall * 1.5)]
    core, thick = height * r.uniform(0.26, 0.34), r.uniform(0.03, 0.045)
    handle = ring(core, thick, 1.0, 32).rotate((90.0, 0.0, 0.0)).scale((0.8, 1.0, 1.0))
    handle = handle.translate(((radius + base) / 2 - 0.01, height * 0.52, 0.0))
    inside = revolved([(0, wall), (base - wall / 2, wall), (radius - wall / 2, height + 0.2), (0, height + 0.2)], 36)
    return [Part(revolved(profile, 36), essential=True), Part(handle - inside, tone=0)]


def bed(r: Random) -> list[Part]:
    width, height, head = r.uniform(0.5, 0.85), r.uniform(0.16, 0.26), r.uniform(0.4, 0.6)
    frame, foot = r.uniform(0.12, 0.2), r.uniform(0.0, 0.3)
    parts = [
        Part(slab(1.0, (0.05, frame), width), essential=True),
        Part(slab(0.93, (frame - 0.01, frame + height * 0.6), width * 0.94), essential=True, tone=1),
        Part(box((-0.54, -0.48), (0.0, head), (-width / 2 - 0.02, width / 2 + 0.02)), essential=True),
        Part(both(ellipsoid((-0.36, frame + height * 0.62, width * 0.23), (0.09, 0.05, width * 0.18), 16)), tone=2),
    ]
    if foot > 0.1:
        parts.append(Part(box((0.48, 0.53), (0.0, foot), (-width / 2 - 0.02, width / 2 + 0.02))))
    else:
        parts.append(Part(both(box((0.42, 0.49), (-0.06, 0.06), (width / 2 - 0.08, width / 2 - 0.01)))))
        parts.append(Part(both(box((-0.54, -0.48), (-0.06, 0.06), (width / 2 - 0.08, width / 2 - 0.01)))))
    return parts


def corner_sofa(r: Random) -> list[Part]:
    """An L seen from above: a long seat with a back, and a chaise at one end only."""
    width, depth, seat, back = r.uniform(0.9, 1.2), r.uniform(0.36, 0.46), r.uniform(0.18, 0.25), r.uniform(0.4, 0.52)
    chaise, arm = r.uniform(0.25, 0.5), r.uniform(0.06, 0.11)
    end = r.choice([-1.0, 1.0])
    half = width / 2

    def side(low: float, high: float) -> tuple[float, float]:
        return (low, high) if end > 0 else (-high, -low)

    return [
        Part(box((0.0, depth), (0.04, seat), (-half, half)), essential=True),
        Part(box((depth - 0.01, depth + chaise), (0.04, seat), side(half - 0.4, half)), essential=True),
        Part(box((-0.14, 0.02), (0.04, back), (-half, half)), essential=True, tone=1),
        Part(box((-0.14, depth), (0.04, (seat + back) / 2), side(-half - arm, -half + 0.01)), tone=1),
        Part(box((0.01, depth + chaise - 0.03), (seat - 0.01, seat + 0.06), side(half - 0.38, half - 0.02)), tone=2),
        Part(box((0.01, depth - 0.02), (seat - 0.01, seat + 0.06), side(-half + 0.02, half - 0.4)), tone=2),
    ]


def desk(r: Random) -> list[Part]:
    """A desk with drawers under one end and legs or a panel under the other."""
    width, depth, height = r.uniform(1.0, 1.4), r.uniform(0.45, 0.65), r.uniform(0.6, 0.75)
    end, half = r.choice([-1.0, 1.0]), width / 2
    chest = r.uniform(0.25, 0.4)

    def side(low: float, high: float) -> tuple[float, float]:
        return (low, high) if end > 0 else (-high, -low)

    parts = [
        Part(slab(depth, (height - 0.05, height), width), essential=True),
        Part(
            box((-depth / 2 + 0.03, depth / 2 - 0.03), (0.0, height - 0.04), side(half - chest, half - 0.02)),
            essential=True,
            tone=1,
        ),
    ]
    if r.random() < 0.5:
        parts.append(
            Part(
                box((-depth / 2 + 0.03, depth / 2 - 0.03), (0.0, height - 0.04), side(-half + 0.02, -half + 0.07)),
                tone=1,
            )
        )
    else:
        for x in (-depth / 2 + 0.06, depth / 2 - 0.06):
            z = -end * (half - 0.07)
            parts.append(Part(rod((x, height - 0.04, z), (x, 0.0, z), 0.03, segments=12), tone=1))
    for i in range(3):
        low = 0.06 + i * (height - 0.12) / 3
        front = box(
            (depth / 2 - 0.05, depth / 2 - 0.005),
            (low, low + (height - 0.12) / 3 - 0.03),
            side(half - chest + 0.03, half - 0.05),
        )
        parts.append(Part(front, tone=2))
    if r.random() < 0.4:  # a screen, off the middle
        z = -end * r.uniform(0.0, 0.25)
        parts.append(Part(box((-0.12, -0.08), (height + 0.1, height + 0.4), (z - 0.25, z + 0.25)), tone=2))
        parts.append(Part(box((-0.13, -0.07), (height - 0.01, height + 0.15), (z - 0.04, z + 0.04)), tone=1))
    return parts


FAMILIES: dict[str, Callable[[Random], list[Part]]] = {
    "airplane": airplane,
    "bed": bed,
    "bottle": bottle,
    "car": car,
    "chair": chair,
    "corner_sofa": corner_sofa,
    "crate": crate,
    "desk": desk,
    "lamp": lamp,
    "mug": mug,
    "table": table,
    "torus": torus,
}
ASYMMETRIC = frozenset({"corner_sofa", "desk"})
