"""A gene with its flanks in transcript orientation, and how an ancestral one is drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from featurestore.sample.motifs import MOTIFS, Motif
from featurestore.sequence.iupac import encode, reverse_complement

STOP_CODES = np.array([3 * 16 + 0 * 4 + 0, 3 * 16 + 0 * 4 + 2, 3 * 16 + 2 * 4 + 0])
"""TAA, TAG and TGA as base-4 numbers of the codes A C G T = 0 … 3."""

RATE = {"flank": 1.0, "utr": 0.7, "intron": 1.0, "codon": 0.2, "wobble": 0.7, "motif": 0.15}
"""Substitution rate relative to neutral; start, stop and splice sites do not change."""


@dataclass(frozen=True)
class Structure:
    """Exons and coding segments of a gene, in bp from its TSS, half-open.

    ``alternative`` is a second transcript, or None: its exons and coding segments.
    """

    exons: tuple[tuple[int, int], ...]
    cds: tuple[tuple[int, int], ...]
    alternative: tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]] | None = None

    @property
    def length(self) -> int:
        """Bases from TSS to TTS."""
        return self.exons[-1][1]

    def coding_positions(self) -> NDArray[np.intp]:
        """Offsets of the coding bases from the TSS, in order, shape (n,)."""
        return np.concatenate([np.arange(start, end) for start, end in self.cds])


@dataclass(frozen=True)
class Cassette:
    """Codes 0 … 3 of upstream flank, transcript and downstream flank.

    Parameters
    ----------
    code : uint8 array, shape (length,)
    rate : float64 array, shape (length,)
        Substitution rate of each base relative to neutral.
    tss : int
        Index of the first transcribed base.
    structure : Structure
    gc : float
        GC fraction that the sequence drifts towards.
    """

    code: NDArray[np.uint8]
    rate: NDArray[np.float64]
    tss: int
    structure: Structure
    gc: float

    @property
    def tts(self) -> int:
        """Index just after the last transcribed base."""
        return self.tss + self.structure.length


def random_bases(rng: np.random.Generator, size: int, gc: float) -> NDArray[np.uint8]:
    """Independent bases of a GC fraction, shape (size,)."""
    bounds = np.array([(1 - gc) / 2, 0.5, 0.5 + gc / 2])
    return np.searchsorted(bounds, rng.random(size), side="right").astype(np.uint8)


def ancestor(rng: np.random.Generator) -> Cassette:
    """Draw the ancestral gene of a family, with its planted motif sites."""
    gc = float(np.clip(0.37 + 0.07 * rng.standard_normal(), 0.20, 0.58))
    structure = draw_structure(rng)
    up, down = (int(rng.integers(1050, 1400)) for _ in range(2))
    code = random_bases(rng, up + structure.length + down, gc)
    # The two flanks differ a little in composition, so that their GC terms are told apart.
    code[up + structure.length :] = random_bases(rng, down, gc + 0.12 * (rng.random() - 0.5))
    rate = np.full(code.size, RATE["flank"])
    write_gene(rng, code, rate, up, structure)
    cassette = Cassette(code, rate, up, structure, gc)
    for motif in MOTIFS:
        if rng.random() < motif.frequency:
            for _ in range(1 + int(rng.integers(0, motif.copies))):
                cassette = plant(rng, cassette, motif)
        if rng.random() < 0.08:  # decoys: where or how the motif does little
            cassette = plant(rng, cassette, motif, decoy=True)
    return cassette


def draw_structure(rng: np.random.Generator) -> Structure:
    """UTRs, two to five exons (or one), and for one gene in four a second transcript."""
    utr5, utr3 = int(rng.integers(130, 260)), int(rng.integers(160, 340))
    codons = int(rng.integers(150, 400))
    exon_count = int(rng.integers(1, 6))
    cuts = sorted(int(c) for c in rng.permutation(np.arange(20, codons - 20))[: exon_count - 1])
    # Half of the families splice inside codons, so that phases 1 and 2 occur.
    shift = int(rng.integers(0, 3)) if rng.random() < 0.5 else 0
    borders = [0, *(3 * cut + shift for cut in cuts), 3 * codons]
    exons: list[tuple[int, int]] = []
    cds: list[tuple[int, int]] = []
    at = utr5
    for i, (low, high) in enumerate(pairwise(borders)):
        start, end = at, at + high - low
        cds.append((start, end))
        first, last = i == 0, i == exon_count - 1
        exons.append((start - (utr5 if first else 0), end + (utr3 if last else 0)))
        at = end + int(rng.integers(80, 240))
    alternative = _alternative(rng, exons, cds, shift) if rng.random() < 0.25 else None
    return Structure(tuple(exons), tuple(cds), alternative)


def _alternative(
    rng: np.random.Generator, exons: list[tuple[int, int]], cds: list[tuple[int, int]], shift: int
) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    """A second transcript: a longer one that skips coding exons, or one with shorter UTRs."""
    if len(exons) >= 3 and shift == 0:
        # Longer transcript, shorter CDS: who takes the longest transcript gets the wrong TSS.
        longer = (exons[0][0] - 100, exons[0][1])
        return (longer, *exons[2:]), (cds[0], *cds[2:])
    late, early = int(rng.integers(20, 100)), int(rng.integers(20, 120))
    trimmed = list(exons)
    trimmed[0] = (trimmed[0][0] + late, trimmed[0][1])
    trimmed[-1] = (trimmed[-1][0], trimmed[-1][1] - early)
    return tuple(trimmed), tuple(cds)


def write_gene(
    rng: np.random.Generator,
    code: NDArray[np.uint8],
    rate: NDArray[np.float64],
    tss: int,
    structure: Structure,
) -> None:
    """Write an open reading frame and splice sites into the transcript, and set its rates."""
    for start, end in structure.exons:
        rate[tss + start : tss + end] = RATE["utr"]
    for (_, donor), (acceptor, _) in pairwise(structure.exons):
        code[tss + donor : tss + donor + 2] = encode("GT")
        code[tss + acceptor - 2 : tss + acceptor] = encode("AG")
        rate[tss + donor : tss + donor + 2] = rate[tss + acceptor - 2 : tss + acceptor] = 0
    coding = tss + structure.coding_positions()
    sense = np.setdiff1d(np.arange(64), STOP_CODES)
    codons = sense[rng.integers(0, sense.size, coding.size // 3)]
    codons[0] = 14  # ATG
    codons[-1] = STOP_CODES[int(rng.integers(0, 3))]
    code[coding] = np.stack([codons // 16, codons // 4 % 4, codons % 4], axis=1).ravel()
    rates = np.tile([RATE["codon"], RATE["codon"], RATE["wobble"]], codons.size)
    rates[:3] = rates[-3:] = 0
    rate[coding] = rates


def plant(
    rng: np.random.Generator, cassette: Cassette, motif: Motif, *, decoy: bool = False
) -> Cassette:
    """Write one site of ``motif`` at a position drawn from its profile, outside the CDS.

    A decoy stands anywhere in 800 bp of flank, and against its orientation where that matters.
    """
    anchor = cassette.tss if motif.region == "promoter" else cassette.tts
    if decoy:
        outward = -1 if motif.region == "promoter" else 1
        middle = outward * (100 + int(rng.integers(0, 800)))
        strand = -1 if motif.reverse < motif.forward else 1
    else:
        middle = _draw_position(rng, motif)
        strand = -1 if motif.reverse and rng.random() < 0.3 else 1
    start = anchor + middle - motif.length // 2
    end = start + motif.length
    coding = cassette.tss + np.array(cassette.structure.cds)
    taken = (cassette.rate[start:end] == RATE["motif"]).any() and not decoy
    if start < 0 or end > cassette.code.size or taken:
        return cassette
    if start < coding[-1, 1] and end > coding[0, 0]:
        return cassette  # the reading frame stays as it is
    code, rate = cassette.code.copy(), cassette.rate.copy()
    matrix = motif.matrix()
    site = np.array(
        [rng.permutation(np.flatnonzero(row == 1))[0] for row in matrix], dtype=np.uint8
    )
    code[start:end] = site if strand == 1 else reverse_complement(site)
    rate[start:end] = RATE["motif"]
    return replace(cassette, code=code, rate=rate)


def _draw_position(rng: np.random.Generator, motif: Motif) -> int:
    """Middle of a site in bp from the anchor, drawn where the motif acts."""
    if motif.shape == "decay":
        return -20 - int(motif.width * 1.5 * rng.random())
    spread = float(np.clip(rng.standard_normal(), -1.8, 1.8))
    # Narrow windows (core elements) are met closely, wide ones at half their width.
    return round(motif.centre + 0.5 * motif.width * spread)
