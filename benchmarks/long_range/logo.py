"""Sequence logos of contributions: each base as a letter as tall as what it contributes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.sequence.iupac import LETTERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = {"A": "#1b8a3a", "C": "#1f5fbf", "G": "#d98200", "T": "#c0272d"}
"""Of bases; what names several is grey."""

Floats = NDArray[np.float32]


def strongest(bases: Floats, width: int) -> tuple[int, int]:
    """The stretch of a width with the largest sum of |contribution|, half-open."""
    width = min(width, len(bases))
    total = np.concatenate([[0.0], np.cumsum(np.abs(bases, dtype=np.float64))])
    start = int(np.argmax(total[width:] - total[:-width]))
    return start, start + width


def draw_logo(axes: Axes, codes: NDArray[np.uint8], bases: Floats, first: int = 0) -> None:
    """Letters from ``first`` on, up for what raises the response and down for what lowers it.

    Parameters
    ----------
    codes : uint8 array, shape (length,)
    bases : float array, shape (length,)
    first : int
        Place of the first base on the axis.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    font = FontProperties(family="DejaVu Sans", weight="bold")
    shapes: dict[str, Any] = {}
    for index, (code, height) in enumerate(zip(codes.tolist(), bases.tolist(), strict=True)):
        letter = LETTERS[code]
        if height == 0:
            continue
        path = shapes.setdefault(letter, TextPath((0, 0), letter, size=1, prop=font))
        box = path.get_extents()
        place = (
            Affine2D().translate(-box.x0, -box.y0)
            .scale(0.95 / box.width, height / box.height).translate(first + index - 0.475, 0)
        )  # fmt: skip
        axes.add_patch(
            PathPatch(place.transform_path(path), lw=0, fc=COLOURS.get(letter, "#888888"))
        )
    axes.set_xlim(first - 0.5, first + len(bases) - 0.5)
    low, high = min(0.0, float(bases.min())), max(0.0, float(bases.max()))
    room = 0.05 * ((high - low) or 1.0)
    axes.set_ylim(low - room, high + room)
    axes.axhline(0, color="#444444", lw=0.6)


def write_logo(path: Path, codes: NDArray[np.uint8], bases: Floats, first: int, title: str) -> None:
    """A picture (.svg or .png) of a stretch; the axis is bp from the TSS."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "meristem", "svg.fonttype": "none", "text.parse_math": False}):
        figure = Figure(figsize=(max(6.0, 0.09 * len(codes)), 2.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        draw_logo(axes, codes, bases, first)
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel("bp from the TSS", fontsize=8)
        axes.set_ylabel("contribution", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, metadata=metadata)
