"""Collects every mistake of a data set, so that all are told before any work starts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from featurestore.errors import InputError

_LONGEST_VALUE = 100
_LONGEST_SENTENCE = 2000


def printable(text: str) -> str:
    """Text that does nothing to a terminal: control characters stand as escapes.

    What files hold goes into messages, and a file may hold anything.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: str, most: int = _LONGEST_VALUE) -> str:
    """A value of a file as a message shows it: printable, and cut where it is very long."""
    short = value if len(value) <= most else f"{value[:most]}… ({len(value):,} characters)"
    return printable(short)


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is, what is wrong (with the values), and what mends it."""

    file: str
    what: str
    mend: str
    place: str = ""

    def __str__(self) -> str:
        where = printable(f"{self.file}, {self.place}" if self.place else self.file)
        what, mend = (shown(text, _LONGEST_SENTENCE) for text in (self.what, self.mend))
        return f"{where}: {what}\n    → {mend}"


class DataSetError(InputError):
    """A data set has mistakes; ``problems`` holds all of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        count = len(self.problems)
        head = f"{count} problem{'s' if count != 1 else ''} in the data set; nothing was done."
        super().__init__(
            "\n".join([head, *(f"  {i}. {p}" for i, p in enumerate(self.problems, 1))])
        )


@dataclass
class Problems:
    """The report under construction; readers add to it and go on as far as they can."""

    items: list[Problem] = field(default_factory=list)

    def add(self, file: object, what: str, mend: str, place: str = "") -> None:
        """Record one mistake."""
        self.items.append(Problem(str(file), what, mend, place))

    def raise_if_any(self) -> None:
        """Raise :class:`DataSetError` with everything recorded, if anything was."""
        if self.items:
            raise DataSetError(self.items)


def examples(values: Iterable[str], most: int = 3) -> str:
    """The first few of many ids, in the order given: ``a, b, c, … (17 in all)``."""
    listed = list(values)
    first = ", ".join(map(shown, listed[:most]))
    return first if len(listed) <= most else f"{first}, … ({len(listed):,} in all)"


def few(values: Iterable[str], most: int = 3) -> str:
    """The first few of many ids, where the sentence has already said how many there are."""
    return ", ".join(map(shown, itertools.islice(values, most)))
