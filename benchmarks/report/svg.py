"""Matplotlib figures as inline SVG that takes its colours and typeface from the page.

Figures are drawn in stand-in colours; :func:`to_svg` replaces each with a CSS variable, so one
picture serves the light and the dark theme. The SVG refers to nothing outside itself.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK: Final = "#0a0b0c"
MUTED: Final = "#0a0b0d"
GRID: Final = "#0a0b0e"
PAPER: Final = "#0a0b0f"
CONTROL: Final = "#0a0b10"
PALETTE: Final = tuple(f"#0a0c{i:02x}" for i in range(8))
DENSITY: Final = tuple(f"#0a0d{i:02x}" for i in range(8))

_VARIABLES: Final = {
    INK: "--ink", MUTED: "--muted", GRID: "--rule", PAPER: "--paper", CONTROL: "--control",
    **{colour: f"--m{i}" for i, colour in enumerate(PALETTE)},
    **{colour: f"--d{i}" for i, colour in enumerate(DENSITY)},
}  # fmt: skip

_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text stays text: searchable, and set in the page's typeface
    "svg.hashsalt": "meristem",  # same figure, same bytes
    "text.parse_math": False,  # a $ in a name is a $
    "font.size": 9, "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
    "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": GRID,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.major.size": 0, "ytick.major.size": 0,
    "xtick.minor.size": 0, "ytick.minor.size": 0, "axes.labelsize": 9,
    "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "axes.facecolor": "none",
    "figure.facecolor": "none", "savefig.facecolor": "none", "axes.grid": True,
    "grid.color": GRID, "grid.linewidth": 0.7, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "axes.unicode_minus": True,
}  # fmt: skip


@contextmanager
def style() -> Iterator[None]:
    """Draw in the report's style."""
    with mpl.rc_context(_STYLE):
        yield


def canvas(width: float, height: float) -> Figure:
    """Make a figure, in inches, that belongs to no window system."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure


def css(colour: str) -> str:
    """The CSS value of a stand-in colour, for HTML outside the pictures."""
    return f"var({_VARIABLES[colour]})"


def to_svg(figure: Figure, name: str, description: str) -> Markup:
    """Write a figure as an inline ``<svg>``.

    Parameters
    ----------
    figure
        Drawn in the colours of this module.
    name
        Unique in the page: prefix of all ids inside.
    description
        What a screen reader says.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL
    )
    text = re.sub(r"<[^>]+>", lambda match: _tag(match.group(), name), text)
    width, height = (72 * inches for inches in figure.get_size_inches())
    head = Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}" class="figure">')
    body = re.sub(r"\s*\n\s*", "\n", text[text.index(">") + 1 :])
    return head.format(width, height, escape(description)) + Markup(body)  # noqa: S704 - matplotlib escapes text


def _tag(tag: str, name: str) -> str:
    """Tidy one tag; text between tags is left alone, for it may be a user's."""
    if tag.startswith(("<g", "<text")):
        tag = re.sub(r"\sid=\"[^\"]*\"|\stransform=\"rotate\(-?0 [^\"]*\"", "", tag)
    tag = re.sub(r"(\sid=\")", rf"\1{name}-", tag)
    tag = re.sub(r"xlink:href=\"#", f'href="#{name}-', tag)
    tag = tag.replace("url(#", f"url(#{name}-")
    tag = re.sub(r"#0a0[b-d][0-9a-f]{2}", lambda m: f"var({_VARIABLES[m.group()]})", tag)
    tag = re.sub(r"(\d+\.\d{2})\d+", r"\1", tag)
    tag = re.sub(r"font-family:[^;\"]*;?", "", tag)
    return re.sub(r"px 'DejaVu Sans'[^;\"]*", "px sans-serif", tag)
