"""IUPAC nucleotide codes: letters to codes, reverse complement, fractional one-hot.

Codes 0 … 14 stand for ``A C G T N R Y S W K M B D H V`` (the ``flag_meanings`` of every
sequence array in a store). Each code is a set of bases; complementing a code complements
its set, which is right for all fifteen (NC-IUB, Nucleic Acids Res. 13:3021, 1985).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

LETTERS: Final = "ACGTNRYSWKMBDHV"
"""Letter of each code, in the order of the codes."""

N: Final = 4
"""Code of N, which also pads."""

UNKNOWN: Final = 255
"""What :func:`encode` gives for a byte that is no IUPAC letter."""

_BASES: Final = {
    "A": "A", "C": "C", "G": "G", "T": "T", "N": "ACGT", "R": "AG", "Y": "CT", "S": "CG",
    "W": "AT", "K": "GT", "M": "AC", "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG",
}  # fmt: skip


def _encode_table() -> NDArray[np.uint8]:
    table = np.full(256, UNKNOWN, np.uint8)
    for code, letter in enumerate(LETTERS):
        table[ord(letter)] = table[ord(letter.lower())] = code
    for letter in "Uu":  # RNA alphabets write T as U
        table[ord(letter)] = LETTERS.index("T")
    return table


def _complement_table() -> NDArray[np.uint8]:
    partner = {"A": "T", "C": "G", "G": "C", "T": "A"}
    by_set = {frozenset(bases): code for code, bases in enumerate(_BASES[x] for x in LETTERS)}
    return np.array(
        [by_set[frozenset(partner[b] for b in _BASES[letter])] for letter in LETTERS], np.uint8
    )


def _one_hot_table() -> NDArray[np.float32]:
    table = np.zeros((len(LETTERS), 4), np.float32)
    for code, letter in enumerate(LETTERS):
        for base in _BASES[letter]:
            table[code, "ACGT".index(base)] = 1 / len(_BASES[letter])
    return table


ENCODE: Final = _encode_table()
COMPLEMENT: Final = _complement_table()
ONE_HOT: Final = _one_hot_table()
_LETTER_BYTES: Final = np.frombuffer(LETTERS.encode(), np.uint8)


def encode(sequence: str | bytes) -> NDArray[np.uint8]:
    """Codes of a sequence, shape (length,); soft-masked bases count as upper case.

    A byte that is no IUPAC letter becomes :data:`UNKNOWN` (255); the caller names it and
    its place in the error.
    """
    raw = sequence.encode("ascii", "replace") if isinstance(sequence, str) else sequence
    return ENCODE[np.frombuffer(raw, np.uint8)]


def decode(code: NDArray[np.uint8]) -> str:
    """Letters of a code array of shape (length,)."""
    return _LETTER_BYTES[code].tobytes().decode("ascii")


def reverse_complement(code: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reverse complement along the last axis, right for all fifteen codes."""
    return COMPLEMENT[code[..., ::-1]]


def one_hot(code: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Fractional one-hot, shape (…, 4) in the order A C G T: R = ½A + ½G, N = ¼ each."""
    return ONE_HOT[code]
