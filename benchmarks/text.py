"""Numbers and tables for a terminal."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection, Sequence


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """Format a number; an undefined one is a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if float(text) == 0.0:
        text = text.replace("-", "+" if sign else "")
    return text.replace("-", "−")


def p_text(p: float) -> str:
    """Format a p-value: three decimals, or that it is below 0.001."""
    if not math.isfinite(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def seconds(value: float | None) -> str:
    """Format a duration with two or three significant figures."""
    if value is None or not math.isfinite(value):
        return "–"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def size(n_bytes: float | None) -> str:
    """Format a size in MiB or GiB."""
    if n_bytes is None or not math.isfinite(n_bytes):
        return "–"
    mib = n_bytes / 2**20
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


def width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def align(header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Set a table in aligned columns, a rule below the header."""
    table = [list(header), *(list(row) for row in rows)]
    widths = [max(width(row[i]) for row in table) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = []
        for i, cell in enumerate(row):
            space = " " * (widths[i] - width(cell))
            cells.append(space + cell if i in right else cell + space)
        return "  ".join(cells).rstrip()

    rule = "  ".join("─" * w for w in widths)
    return "\n".join([line(table[0]), rule, *(line(row) for row in table[1:])])
