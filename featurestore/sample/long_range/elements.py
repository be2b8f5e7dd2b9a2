"""Sequences of enhancers and of their decoys, matched in length, composition and placement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.sample.cassette import random_bases
from featurestore.sample.long_range.motifs import ACTIVATOR, DIRECTION, LENGTH, OPENER
from featurestore.sample.long_range.settings import ELEMENT
from featurestore.sequence.iupac import encode, reverse_complement

Codes = NDArray[np.uint8]

KINDS = ("enhancer", "accessible_decoy", "inert_decoy")
"""An enhancer; a decoy that opens chromatin and acts on nothing; a shuffled enhancer."""

GC = 0.36
"""GC fraction of background and of elements between their sites."""

SITES = (2, 3, 4)
"""Activator sites of an enhancer, opener sites of an accessible decoy."""

WEAK = 0.3
"""Probability that a site has one wrong base."""


@dataclass(frozen=True)
class Element:
    """Bases of an element, and which of them are sites (``locked``); shape (300,) each."""

    kind: str
    code: Codes
    locked: NDArray[np.bool_]


def draw_kinds(rng: np.random.Generator, enhancers: int) -> list[str]:
    """Kinds of ``2 × enhancers`` elements in random order, half of the decoys inert."""
    accessible = enhancers // 2
    kinds = [KINDS[0]] * enhancers + [KINDS[1]] * accessible + [KINDS[2]] * (enhancers - accessible)
    return [kinds[i] for i in rng.permutation(len(kinds))]


def draw_element(rng: np.random.Generator, kind: str) -> Element:
    """Draw one element.

    An accessible decoy is an enhancer with sites of the opener in place of the activator's,
    direction motif included; an inert decoy is an enhancer with its bases shuffled.
    """
    motif = OPENER if kind == "accessible_decoy" else ACTIVATOR
    code = random_bases(rng, ELEMENT, GC)
    locked = np.zeros(ELEMENT, bool)
    sites = SITES[int(rng.integers(0, len(SITES)))]
    starts = _slots(rng, sites + 1)
    for start in starts[1:]:
        site = encode(motif)
        if rng.random() < WEAK:
            at = int(rng.integers(0, LENGTH))
            site[at] = (site[at] + 1 + int(rng.integers(0, 3))) % 4
        _write(rng, code, locked, start, site)
    _write(rng, code, locked, starts[0], encode(DIRECTION))
    if kind == "inert_decoy":
        return Element(kind, code[rng.permutation(ELEMENT)], np.zeros(ELEMENT, bool))
    return Element(kind, code, locked)


def _slots(rng: np.random.Generator, sites: int) -> list[int]:
    """Starts of sites that do not touch, 20 bp from the ends, in random order."""
    slack = ELEMENT - 40 - sites * (LENGTH + 2)
    offsets = np.sort(rng.integers(0, slack + 1, sites))
    starts = 20 + offsets + np.arange(sites) * (LENGTH + 2)
    return [int(starts[i]) for i in rng.permutation(sites)]


def _write(
    rng: np.random.Generator, code: Codes, locked: NDArray[np.bool_], start: int, site: Codes
) -> None:
    forward = rng.random() < 0.5
    code[start : start + LENGTH] = site if forward else reverse_complement(site)
    locked[start : start + LENGTH] = True
