"""How the figures of merit are called where people read them."""

from __future__ import annotations

# Name, better direction and decimals of each.
LABELS = {
    "iou_2d": ("2D IoU", "↑", 3),
    "chamfer_l2": ("Chamfer-L2 ×1000", "↓", 2),
    "f_score": ("F-score", "↑", 3),
    "emd": ("EMD", "↓", 4),
    "iou_3d": ("3D IoU", "↑", 3),
    "iou_multiview": ("multi-view IoU", "↑", 3),
    "iou_2d_views": ("2D IoU, all own views", "↑", 3),
}


def figure_name(name: str) -> str:
    """`2D IoU ↑`: the arrow points to better."""
    label, arrow, _ = LABELS.get(name, (name, "", 3))
    return f"{label} {arrow}".strip()


def figure(name: str, value: float | None) -> str:
    """A figure's value, a dash where it is unknown."""
    return "–" if value is None else f"{value:.{LABELS.get(name, ('', '', 3))[2]}f}"


def percent(value: float | None, *, signed: bool = False) -> str:
    """A share without decimals; a change with its sign and one decimal."""
    return "–" if value is None else f"{value:+.1%}" if signed else f"{value:.0%}"


def printable(text: object) -> str:
    """Text from a dataset in which no control character acts."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
