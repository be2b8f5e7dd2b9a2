"""Writes base codes as the text that a tokenizer was trained on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from featurestore.sequence.iupac import LETTERS

_WORDS: Final = re.compile(r"(overlapping|separate)-([1-9][0-9]?)")


@dataclass(frozen=True)
class Writing:
    """How bases become text.

    Parameters
    ----------
    tokens : str
        ``plain``: one run of letters, which the tokenizer splits. ``overlapping-K``: words of K
        bases, one starting at each base, with spaces between (DNABERT's 6-mers).
        ``separate-K``: words of K bases side by side; what is left at the end is a shorter word.
    case : {"upper", "lower"}
    ambiguous : str
        Letter that stands for every code other than A C G T, or ``keep``: each its own letter.

    Raises
    ------
    InputError
        For a value that is none of these.
    """

    tokens: str = "plain"
    case: str = "upper"
    ambiguous: str = "N"

    def __post_init__(self) -> None:
        if self.tokens != "plain" and not _WORDS.fullmatch(self.tokens):
            raise InputError(
                f"huggingface: tokens = {self.tokens!r}; give plain, overlapping-6 or separate-6 "
                "(any word length up to 99)"
            )
        if self.case not in ("upper", "lower"):
            raise InputError(f"huggingface: case = {self.case!r}; give upper or lower")
        if self.ambiguous != "keep" and not (len(self.ambiguous) == 1 and self.ambiguous.isalpha()):
            raise InputError(
                f"huggingface: ambiguous = {self.ambiguous!r}; give keep, or the letter that stands "
                "for every code other than A C G T, e.g. N"
            )

    @property
    def letters(self) -> str:
        """Letter of each of the fifteen codes, as written."""
        text = LETTERS if self.ambiguous == "keep" else "ACGT" + self.ambiguous * (len(LETTERS) - 4)
        return text.upper() if self.case == "upper" else text.lower()

    def words(self, length: int) -> list[tuple[int, int]]:
        """First base of every word of a sequence of ``length`` bases, and the one after its last."""
        if self.tokens == "plain":
            return [(0, length)]
        kind, size = self.tokens.rsplit("-", 1)
        k = int(size)
        if kind == "overlapping":
            if length < k:
                raise InputError(f"huggingface: tokens = {self.tokens!r} on {length} bases")
            return [(i, i + k) for i in range(length - k + 1)]
        return [(i, min(i + k, length)) for i in range(0, length, k)]

    def base_of_character(self, length: int) -> NDArray[np.int64]:
        """Base that each character of the text stands for; −1 for a space between words."""
        pieces: list[int] = []
        for first, last in self.words(length):
            pieces += [*range(first, last), -1]
        return np.array(pieces[:-1], np.int64)

    def texts(self, codes: NDArray[np.uint8]) -> list[str]:
        """Text of every row of ``codes``, shape (n, length)."""
        table = np.frombuffer(self.letters.encode("ascii"), np.uint8)
        place = self.base_of_character(codes.shape[1])
        characters = np.where(place < 0, np.uint8(ord(" ")), table[codes][:, place])
        return [row.tobytes().decode("ascii") for row in characters]
