"""Text that goes into tables for spreadsheets and onto terminals: data there, never a command."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

# What a spreadsheet takes for the start of a formula, in full width too (OWASP, CSV injection).
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

_KEPT: Final = frozenset("\n\t")


def safe_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe goes before one that begins so.

    Control characters stand as escapes: a carriage return would begin a row, and with it a cell.
    """
    cell = f"'{text}" if text.startswith(FORMULA_STARTS) else text
    return cell if cell.isprintable() else "".join(map(_escaped, cell))


def _escaped(c: str) -> str:
    return c if c.isprintable() else c.encode("unicode_escape").decode()


def safe_row(row: Iterable[Any]) -> list[Any]:
    """A row whose texts are :func:`safe_cell`; numbers stay numbers, negative ones too."""
    return [safe_cell(x) if isinstance(x, str) else x for x in row]


def for_terminal(text: str) -> str:
    """Lines that do nothing to a terminal: control characters but tab and line feed as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c in _KEPT else _escaped(c) for c in text)
