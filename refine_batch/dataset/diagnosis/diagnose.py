"""Which one change of the cameras would make the meshes meet their masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refine_batch.cameras.camera import Camera
from refine_batch.dataset.diagnosis.mistakes import UNITS, Flip, Mistake, other_fov, rescaled, usual_mistakes
from refine_batch.dataset.diagnosis.sample import Sample
from refine_batch.render import hard_silhouettes

# A change is named from this gain of the mean IoU on; coarse meshes miss their masks by themselves.
GAIN = 0.05
# Changes whose means lie this close are as good as each other.
_ALIKE, _NEAR = 0.003, 0.02
_NAMED = 4
# A common factor of the distances nearer to 1 is how coarse meshes are.
_TELLING = 1.05
AS_IT_IS = Mistake("", "", lambda sample: sample.written)
_SIDE = 96


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture's mask and the mesh's silhouette under one reading of the row, both (S, S) bool.

    `size` (width, height) is what the picture was brought to, `flip` how it was turned over.
    """

    mask: np.ndarray
    silhouette: np.ndarray
    size: tuple[int, int]
    flip: Flip

    @property
    def iou(self) -> float:
        return float((self.mask & self.silhouette).sum() / max((self.mask | self.silhouette).sum(), 1))


@dataclass(frozen=True)
class Change:
    """A change, and the mean 2D IoU that it leads to."""

    mistake: Mistake
    iou: float


@dataclass(frozen=True)
class Diagnosis:
    """What the cameras of a sample come to.

    Parameters
    ----------
    rows
        That have a camera.
    iou
        Mean 2D IoU of the coarse meshes as the rows are; NaN without rows.
    changes
        What would raise the mean by `GAIN` or more and most of all; the first is the one to make, the others do as
        well, or nearly, on these shapes.
    """

    rows: int
    iou: float
    changes: tuple[Change, ...] = ()

    def __str__(self) -> str:
        if not self.rows:
            return "no row of the sample has a camera: they are estimated"
        of = f"the mean 2D IoU of {self.rows} coarse meshes" if self.rows > 1 else "the 2D IoU of one coarse mesh"
        if not self.changes:
            return f"{of} is {self.iou:.3f}; no usual mistake about cameras explains what is missing"
        best, *others = self.changes
        text = f"{best.mistake.change}; that would raise {of} from {self.iou:.3f} to {best.iou:.3f}"
        if others:
            listed = "; ".join(f"{other.mistake.change} ({other.iou:.3f})" for other in others)
            text += f". These shapes hardly tell it from: {listed}"
        return text

    def as_json(self) -> dict[str, Any]:
        """Plain values: rows, iou and, for each change, name, change and iou."""
        changes = [{"name": c.mistake.name, "change": c.mistake.change, "iou": c.iou} for c in self.changes]
        return {"rows": self.rows, "iou": self.iou if self.rows else None, "changes": changes}


def diagnose(samples: Sequence[Sample]) -> Diagnosis:
    """Try the usual mistakes on every sample that has a camera."""
    known = [s for s in samples if s.written.angles is not None or s.written.extrinsics is not None]
    if not known:
        return Diagnosis(0, math.nan)
    tried = _Trial(known)
    before = tried.mean(AS_IT_IS)
    mistakes = usual_mistakes()
    tried.all(mistakes)
    mistakes += tried.fitted(mistakes)
    found = [(tried.mean(m), order, m) for order, m in enumerate(mistakes) if tried.concerns(m)]
    best = max((iou for iou, _, _ in found), default=0.0)
    if best < before + GAIN:
        return Diagnosis(len(known), before)
    # The commonest of those that are as good as the best; then the others, the better first.
    alike = sorted((item for item in found if item[0] >= best - _ALIKE), key=lambda item: item[1])
    near = sorted((item for item in found if best - _NEAR <= item[0] < best - _ALIKE), key=lambda item: -item[0])
    chosen = [item for item in (*alike, *near) if item[0] >= before + GAIN][:_NAMED]
    return Diagnosis(len(known), before, tuple(Change(m, iou) for iou, _, m in chosen))


def views(sample: Sample, mistakes: Sequence[Mistake], side: int) -> list[Seen | None]:
    """What a sample comes to under each change, `side` pixels square; None where there is no such camera.

    Where a change does not concern the sample, it is seen as it is.
    """
    cameras: list[Camera] = []
    pictures: list[tuple[Mistake, tuple[int, int]] | None] = []
    for mistake in mistakes:
        found = sample.camera(mistake.reading(sample))
        pictures.append(None if found is None else (mistake, found[1]))
        if found is not None:
            # The mirrored mesh is seen as its mirror image by the mirrored camera.
            cameras.append(found[0].mirrored((1.0, 0.0, 0.0)) if mistake.flip == "mesh" else found[0])
    silhouettes = iter(hard_silhouettes(sample.mesh, cameras, side) if cameras else ())
    masks: dict[tuple[int, int], np.ndarray] = {}

    def seen(mistake: Mistake, size: tuple[int, int]) -> Seen:
        if size not in masks:
            masks[size] = sample.square(sample.mask[..., None], side, size)[..., 0] >= 0.5
        silhouette = next(silhouettes)
        if mistake.flip == "mesh":
            silhouette = silhouette[:, ::-1]
        return Seen(flipped(masks[size], mistake.flip), silhouette, size, mistake.flip)

    return [None if picture is None else seen(*picture) for picture in pictures]


def flipped(pixels: np.ndarray, flip: Flip) -> np.ndarray:
    """(H, W, …) pixels of a picture that is turned over."""
    return pixels[:, ::-1] if flip == "left-right" else pixels[::-1] if flip == "upside down" else pixels


class _Trial:
    """IoUs of the samples under changes, each rendered once."""

    def __init__(self, samples: Sequence[Sample]):
        self._samples = samples
        self._ious: dict[str, list[float]] = {}
        self._areas: dict[str, list[float]] = {}  # the silhouette's by the mask's
        self._concerned: dict[str, bool] = {}
        self.all([AS_IT_IS])

    def mean(self, mistake: Mistake) -> float:
        return float(np.mean(self.ious(mistake)))

    def ious(self, mistake: Mistake) -> list[float]:
        return self._ious[mistake.name]

    def concerns(self, mistake: Mistake) -> bool:
        """Whether the change changes anything."""
        return self._concerned[mistake.name]

    def all(self, mistakes: Sequence[Mistake]) -> None:
        for mistake in mistakes:
            self._ious[mistake.name], self._areas[mistake.name] = [], []
            self._concerned[mistake.name] = False
        for sample in self._samples:
            self._try(sample, mistakes)

    def _try(self, sample: Sample, mistakes: Sequence[Mistake]) -> None:
        for mistake, seen in zip(mistakes, views(sample, mistakes, _SIDE), strict=True):
            self._concerned[mistake.name] |= mistake.reading(sample) is not None
            self._ious[mistake.name].append(0.0 if seen is None else seen.iou)
            area = 0.0 if seen is None else float(seen.silhouette.sum() / max(seen.mask.sum(), 1))
            self._areas[mistake.name].append(area)

    def fitted(self, mistakes: Sequence[Mistake]) -> list[Mistake]:
        """A common factor of the distances, and a common field of view, that the silhouettes' sizes ask for."""
        factor = max((1.0, *UNITS), key=lambda f: self.mean(rescaled(f) if f != 1 else AS_IT_IS))
        name = rescaled(factor).name if factor != 1 else ""
        for _ in range(3):
            areas = [area for area in self._areas[name] if area > 0]
            if not areas:
                return []
            # In perspective, near objects grow faster than the distance falls; so more than once.
            factor *= float(np.clip(math.sqrt(float(np.median(areas))), 0.2, 5.0))
            fit = rescaled(factor, name="distance_factor")
            self.all([fit])
            name = fit.name
        if 1 / _TELLING < factor < _TELLING:
            return []
        found = [fit]
        fovs = {s.written.angles.get("fov", 60.0) for s in self._samples if s.written.angles is not None}
        if len(fovs) == 1 and 0 < (fov := fovs.pop()) < 180:
            wider = other_fov(math.degrees(2 * math.atan(math.tan(math.radians(fov) / 2) * factor)))
            self.all([wider])
            found.append(wider)
        # A unit's name says more than a number near it.
        usual = max((self.mean(rescaled(unit)) for unit in UNITS), default=0.0)
        return [m for m in found if self.mean(m) > usual + 2 * _ALIKE]
