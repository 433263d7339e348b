"""Masks that cannot be meant: nearly everything, nearly nothing, or the wrong way round."""

from __future__ import annotations

import numpy as np

from refine_batch.errors import ErrorKind, InstanceError

# Share of the picture from which a mask leaves no outline to fit; a picture cut close round a box stays below.
_EVERYTHING = 0.985
# Share of the picture's border from which the object is not in it, but all round it.
_ALL_ROUND = 0.9
# Working pixels that an object has at least.
_FEWEST = 4.0


def check_mask(
    mask: np.ndarray, known: np.ndarray, box: tuple[float, float, float, float], name: str, hint: str = ""
) -> None:
    """Raise `InstanceError` where a mask shows no object.

    Parameters
    ----------
    mask : (H, W) bool, or float32 in [0, 1]
    known : (H, W) bool
        Only these pixels are looked at.
    box
        Left, top, right and bottom edge of the picture, pixels of the mask.
    name
        Begins the message: whose mask it is.
    hint
        Ends it: what may help.

    Raises
    ------
    InstanceError
        MASK_EMPTY: nearly nothing. MASK_IMPLAUSIBLE: nearly everything, or inverted.
    """
    left, top = (int(np.ceil(edge - 1e-6)) for edge in box[:2])
    right, bottom = (int(np.floor(edge + 1e-6)) for edge in box[2:])
    inside = mask[top:bottom, left:right].astype(np.float64)
    counted = known[top:bottom, left:right]
    if inside[counted].sum() < _FEWEST:
        marked = "no pixel" if not inside.any() else f"less than {_FEWEST:g} working pixels"
        raise InstanceError(ErrorKind.MASK_EMPTY, f"{name}: the mask marks {marked} as the object{hint}")
    covered = float(inside[counted].mean())
    if covered >= _EVERYTHING:
        raise InstanceError(
            ErrorKind.MASK_IMPLAUSIBLE,
            f"{name}: the mask covers {covered:.1%} of the picture and has no outline; is it white everywhere, or the "
            f"picture cut too close?{hint}",
        )
    border = np.ones(inside.shape, bool)
    border[1:-1, 1:-1] = False
    border &= counted
    round_it = float(inside[border].mean()) if border.any() else 0.0
    if round_it >= _ALL_ROUND:
        raise InstanceError(
            ErrorKind.MASK_IMPLAUSIBLE,
            f"{name}: the mask covers {round_it:.0%} of the picture's border and {covered:.0%} of the picture; is it "
            f"inverted? The object must be white (or 1), the background black (0){hint}",
        )
