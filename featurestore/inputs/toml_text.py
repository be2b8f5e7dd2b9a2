"""The text of a dataset.toml: the one spelling TOML forbids, and the line of every key."""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

DEFAULT_EMBEDDERS_KEY: Final = "__embedders__"
"""What a top-level ``embedders = [...]`` is renamed to before parsing."""

_HEADER: Final = re.compile(r"^\s*\[{1,2}([^\[\]]+)\]")
_NAME: Final = r"""(?:[A-Za-z0-9_-]++|"[^"]*"|'[^']*')"""
_KEY: Final = re.compile(rf"^\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*=")
_EMBEDDERS: Final = re.compile(r"""^(\s*)(?:embedders|"embedders"|'embedders')(\s*=)""")
LARGEST: Final = 1 << 20
"""Characters of a dataset.toml; one of a hundred species has thirty thousand."""
DEEPEST: Final = 32
"""Parts of a dotted key; ours have three. The parser takes the square of them."""
# Possessive throughout, and never begun within a word, so that each character is looked at once.
_WHOLE_NAME: Final = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.){0,100}+"|'[^'\n]{0,100}+')"""
_DEEP_KEY: Final = re.compile(
    rf"(?<![A-Za-z0-9_.-])(?:{_WHOLE_NAME}[ \t]*+\.[ \t]*+){{{DEEPEST - 1}}}"
)
_PART: Final = re.compile(_NAME)


def parse(text: str) -> dict[str, Any]:
    """Parse a dataset.toml, which may hold ``embedders = [...]`` beside ``[embedders.NAME]``.

    TOML allows a key to be a list or a table, not both, so the list is renamed to
    :data:`DEFAULT_EMBEDDERS_KEY` first; lines keep their numbers.

    Raises
    ------
    tomllib.TOMLDecodeError
    """
    if len(text) > LARGEST:
        raise tomllib.TOMLDecodeError(f"larger than {LARGEST:,} characters")
    if _DEEP_KEY.search(text):
        raise tomllib.TOMLDecodeError(f"a key of {DEEPEST} parts or more")
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if _HEADER.match(line):
            break
        if _EMBEDDERS.match(line):
            lines[number] = _EMBEDDERS.sub(rf"\g<1>{DEFAULT_EMBEDDERS_KEY}\g<2>", line)
            break
    try:
        return tomllib.loads("\n".join(lines))
    except RecursionError as error:
        raise tomllib.TOMLDecodeError("lists or tables nested too deep") from error
    except ValueError as error:
        if isinstance(error, tomllib.TOMLDecodeError):
            raise
        # Python refuses to read a number of thousands of digits.
        raise tomllib.TOMLDecodeError("a number of too many digits") from error


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """The 1-based line of every key and table header, by its path."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), 1):
        if (header := _HEADER.match(line)) and "=" not in line.split("#")[0]:
            table = _parts(header[1])
            path = table
        elif key := _KEY.match(line):
            path = table + _parts(key[1])
        else:
            continue
        for length in range(1, len(path) + 1):
            lines.setdefault(path[:length], number)
    return lines


def line_of(lines: dict[tuple[str, ...], int], path: tuple[str, ...]) -> str:
    """``"line 12"`` for the nearest enclosing key that has a line of its own, or ``""``."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return f"line {lines[path[:length]]}"
    return ""


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(path))
