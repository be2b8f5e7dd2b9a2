"""Contigs: genes of one species set side by side on both strands, with ids and coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from featurestore.sample.cassette import Structure, random_bases
from featurestore.sample.evolution import Member
from featurestore.sample.settings import SpeciesSettings
from featurestore.sequence.iupac import N, reverse_complement

CROWDED = 0.14
"""Fraction of neighbours whose facing flanks are cut short, so that their windows overlap."""

SCAFFOLDS = 2
"""Small contigs with one gene each, whose windows run off at both ends."""

MEAN_DOMAIN = 5
"""Mean number of adjacent genes in a chromatin domain."""


@dataclass(frozen=True)
class PlacedGene:
    """A gene on a contig; ``tss`` and ``tts`` are boundaries on the forward strand.

    ``contig`` is the index of the contig; ``domain`` names the chromatin domain.
    """

    gene: str
    family: str
    leaf: str
    contig: int
    strand: int
    tss: int
    tts: int
    domain: str
    structure: Structure

    def span(self, segment: tuple[int, int]) -> tuple[int, int]:
        """Half-open interval on the forward strand of a segment in bp from the TSS."""
        start, end = segment
        if self.strand == 1:
            return self.tss + start, self.tss + end
        return self.tss - end, self.tss - start


@dataclass(frozen=True)
class Contig:
    """Codes of a contig, and which of its bases are written in lower case (soft-masked)."""

    name: str
    code: NDArray[np.uint8]
    masked: NDArray[np.bool_]


@dataclass(frozen=True)
class Species:
    """A simulated species: contigs, and genes in order of contig and start."""

    settings: SpeciesSettings
    contigs: list[Contig]
    genes: list[PlacedGene]


@dataclass
class _Piece:
    """A stretch of a contig: a gene with its flanks, or a spacer (``member`` None)."""

    code: NDArray[np.uint8]
    member: Member | None = None
    strand: int = 1
    tss: int = 0
    masked: bool = False


def assemble(rng: np.random.Generator, settings: SpeciesSettings, members: list[Member]) -> Species:
    """Lay out genes on chromosomes and scaffolds, tandem copies side by side on one strand."""
    units: dict[str, list[Member]] = {}
    for member in members:
        units.setdefault(member.unit, []).append(member)
    order = [list(units.values())[i] for i in rng.permutation(len(units))]
    singles = [unit for unit in order if len(unit) == 1][:SCAFFOLDS]
    rest = [unit for unit in order if unit not in singles]
    bounds = np.linspace(0, len(rest), settings.chromosomes + 1).astype(int)
    groups = [rest[a:b] for a, b in pairwise(bounds.tolist())]
    names = [f"{settings.tag}_chr{i + 1}" for i in range(settings.chromosomes)]
    names += [f"{settings.tag}_scaffold{i + 1}" for i in range(len(singles))]
    contigs: list[Contig] = []
    genes: list[PlacedGene] = []
    for index, (name, group) in enumerate(
        zip(names, [*groups, *([u] for u in singles)], strict=True)
    ):
        pieces = _lay_out(rng, group)
        contigs.append(_join(name, pieces))
        genes.extend(_place(rng, settings.tag, index, name, pieces))
    return Species(settings, contigs, genes)


def _lay_out(rng: np.random.Generator, units: list[list[Member]]) -> list[_Piece]:
    """Genes and spacers of one contig from left to right; the outermost flanks are short."""
    genes: list[_Piece] = []
    for unit in units:
        strand = 1 if rng.random() < 0.5 else -1
        genes.extend(_oriented(member, strand) for member in unit[::strand])
    if not genes:
        return []
    _trim(genes[0], left=int(rng.integers(150, 900)))
    _trim(genes[-1], right=int(rng.integers(150, 900)))
    pieces = genes[:1]
    for gene in genes[1:]:
        if rng.random() < CROWDED:
            _trim(pieces[-1], right=int(rng.integers(150, 700)))
            _trim(gene, left=int(rng.integers(150, 700)))
        else:
            pieces.append(_spacer(rng))
        pieces.append(gene)
    return pieces


def _oriented(member: Member, strand: int) -> _Piece:
    cassette = member.cassette
    if strand == 1:
        return _Piece(cassette.code, member, 1, cassette.tss)
    boundary = cassette.code.size - cassette.tss
    return _Piece(reverse_complement(cassette.code), member, -1, boundary)


def _trim(piece: _Piece, left: int | None = None, right: int | None = None) -> None:
    """Shorten a flank of a gene on the forward strand to a number of bases."""
    assert piece.member is not None  # noqa: S101 - spacers are never trimmed
    length = piece.member.cassette.structure.length
    start = piece.tss if piece.strand == 1 else piece.tss - length
    if left is not None:
        cut = max(0, start - left)
        piece.code, piece.tss = piece.code[cut:], piece.tss - cut
    if right is not None:
        piece.code = piece.code[: start + length + right]


def _spacer(rng: np.random.Generator) -> _Piece:
    """Intergenic bases, some soft-masked as repeats, a few with an assembly gap of N."""
    code = random_bases(rng, int(rng.integers(0, 700)), 0.34)
    if code.size > 200 and rng.random() < 0.06:
        code[50 : 50 + int(rng.integers(10, 100))] = N
    return _Piece(code, masked=bool(rng.random() < 0.3))


def _join(name: str, pieces: list[_Piece]) -> Contig:
    code = np.concatenate([piece.code for piece in pieces])
    masked = np.concatenate([np.full(piece.code.size, piece.masked) for piece in pieces])
    return Contig(name, code, masked)


def _place(
    rng: np.random.Generator, tag: str, index: int, contig: str, pieces: list[_Piece]
) -> list[PlacedGene]:
    """Coordinates, ids and chromatin domains of the genes of one contig."""
    placed: list[PlacedGene] = []
    offset, domain = 0, 1
    for piece in pieces:
        if piece.member is not None:
            if placed and rng.random() < 1 / MEAN_DOMAIN:
                domain += 1
            tss = offset + piece.tss
            structure = piece.member.cassette.structure
            placed.append(
                PlacedGene(
                    gene=f"{contig.replace('_', '')}g{10 * (len(placed) + 1):05d}",
                    family=piece.member.family,
                    leaf=piece.member.leaf,
                    contig=index,
                    strand=piece.strand,
                    tss=tss,
                    tts=tss + piece.strand * structure.length,
                    domain=f"{contig}_domain{domain}",
                    structure=structure,
                )
            )
        offset += piece.code.size
    return placed


def cut_windows(
    species: Species, genes: list[PlacedGene], anchor: str, before: int, after: int
) -> NDArray[np.uint8]:
    """Windows around ``tss`` or ``tts``, shape (gene, before + after), transcript orientation.

    What lies off the contig is N.
    """
    pad = before + after
    padded = [np.pad(contig.code, pad, constant_values=N) for contig in species.contigs]
    windows = np.empty((len(genes), before + after), np.uint8)
    for row, gene in enumerate(genes):
        boundary = pad + (gene.tss if anchor == "tss" else gene.tts)
        code = padded[gene.contig]
        if gene.strand == 1:
            windows[row] = code[boundary - before : boundary + after]
        else:
            windows[row] = reverse_complement(code[boundary - after : boundary + before])
    return windows
