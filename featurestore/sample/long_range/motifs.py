"""The four motifs of the long-range world: invented words of twelve bases, the same for every seed.

A site is the word with at most two wrong bases: its occupancy is 1, 0.25 or 0.0625, and nothing
with three or more. Any two words, either way round and shifted by up to four bases, disagree in at
least half of the bases that they share, so that no site is taken for another.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from featurestore.sequence.iupac import encode, reverse_complement

Codes = NDArray[np.uint8]

LENGTH = 12
"""Bases of a motif."""

MISMATCHES = 2
"""Wrong bases that a site may have."""

WEAKER = 0.25
"""Factor on the occupancy for each wrong base."""

CORE = "TACGGGTTAGCA"
"""Core promoter motif: stands in front of every TSS and tells its strand."""

ACTIVATOR = "TGCACTTAGACG"
"""Raises expression, from a promoter and from an enhancer."""

DIRECTION = "CAAGAGGTAGAG"
"""Gives an element its orientation: it points to where the motif reads towards."""

OPENER = "ACACATCAAGCC"
"""Opens chromatin and acts on no gene."""

MOTIFS = {
    "core": CORE,
    "activator": ACTIVATOR,
    "direction": DIRECTION,
    "opener": OPENER,
}
"""Every motif by name."""


def occupancies(codes: Codes, motif: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Occupancy of a site that starts at each base, on the forward and on the reverse strand.

    Parameters
    ----------
    codes : uint8 array, shape (n, length)
        Base codes; whatever is not A, C, G or T matches nothing.

    Returns
    -------
    two float64 arrays, shape (n, length − 11)
    """
    word = encode(motif)
    return _occupancy(codes, word), _occupancy(codes, reverse_complement(word))


def _occupancy(codes: Codes, word: Codes) -> NDArray[np.float64]:
    starts = codes.shape[1] - LENGTH + 1
    wrong = np.zeros((len(codes), starts), np.uint8)
    for step, base in enumerate(word):
        wrong += codes[:, step : step + starts] != base
    return np.where(wrong <= MISMATCHES, WEAKER ** wrong.astype(np.float64), 0.0)


def words(codes: Codes) -> NDArray[np.uint32]:
    """Each twelve bases as a number in base 4, shape (length − 11,); codes are 0 … 3."""
    two = codes[:-1].astype(np.uint32) << 2 | codes[1:]
    four = two[:-2] << 4 | two[2:]
    eight = four[:-4] << 8 | four[4:]
    return np.asarray(eight[:-4] << 8 | four[8:], np.uint32)


@cache
def site_table() -> NDArray[np.bool_]:
    """Whether a word of :func:`words` is a site of any motif on any strand, shape (4^12,)."""
    table = np.zeros(4**LENGTH, bool)
    for motif in MOTIFS.values():
        for word in (encode(motif), reverse_complement(encode(motif))):
            for places in combinations(range(LENGTH), MISMATCHES):
                for bases in product(range(4), repeat=MISMATCHES):
                    near = word.copy()
                    near[list(places)] = bases
                    table[words(near)[0]] = True
    return table
