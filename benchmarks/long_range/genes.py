"""Genes of a store, the windows around their TSSs, and candidate elements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.long_range.models import Opened
from featurestore.errors import InputError, InputFileNotFoundError, unknown_name
from featurestore.inputs.tally import Tally
from featurestore.sequence.iupac import reverse_complement
from featurestore.sequence.long_windows import LongWindows

Codes = NDArray[np.uint8]


class Gene(NamedTuple):
    """A gene with a TSS: a boundary between bases, 0-based on the forward strand."""

    species: str
    name: str
    contig: str
    tss: int
    strand: int
    family: str = ""

    def span(self, length: int) -> tuple[int, int]:
        """Bases of the contig in a window of that length, half-open; may run off the contig."""
        up, down = length // 2, length - length // 2
        return (
            (self.tss - up, self.tss + down) if self.strand >= 0
            else (self.tss - down, self.tss + up)
        )  # fmt: skip

    def inside(self, start: int, end: int, length: int) -> tuple[int, int]:
        """Where bases of the contig stand in the window, in transcript direction, half-open."""
        low, high = self.span(length)
        return (start - low, end - low) if self.strand >= 0 else (high - end, high - start)

    def distance(self, start: int, end: int) -> int:
        """Bases from the TSS to the middle of an element, either way."""
        return abs((start + end) // 2 - self.tss)


class Element(NamedTuple):
    """A candidate regulatory element, 0-based half-open."""

    contig: str
    start: int
    end: int
    name: str


class Reading(NamedTuple):
    """One of the readings of a window that are averaged: moved by bases, perhaps turned round."""

    shift: int = 0
    reverse: bool = False


class GeneWindows:
    """Genes of a store and their windows.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Any) -> None:
        self.store = store
        self._genomes: dict[str, LongWindows] = {}

    def genome(self, species: str) -> LongWindows:
        """Windows of a species, opened once."""
        if species not in self._genomes:
            self._genomes[species] = LongWindows(self.store, species)
        return self._genomes[species]

    def window(self, gene: Gene, length: int, reading: Reading = Reading()) -> Codes:  # noqa: B008 - frozen
        """Codes of a window centred on the TSS in transcript orientation, shape (length,)."""
        codes = self.genome(gene.species).read(
            gene.contig, gene.tss, gene.strand, length, reading.shift
        )
        return reverse_complement(codes) if reading.reverse else codes

    def genes(
        self, names: Sequence[str] = (), species: Sequence[str] = (), tally: Tally | None = None
    ) -> list[Gene]:
        """Genes with a TSS, by name or all, in the order of the store.

        Parameters
        ----------
        names : sequence of str
        species : sequence of str
            All of the store that have a genome.
        tally : Tally, optional
            Counts the genes that have no place.

        Raises
        ------
        UnknownNameError
            For a gene or species that the store lacks.
        """
        for one in species:
            if one not in self.store.species:
                raise unknown_name("species", one, self.store.species)
        have = [s for s in self.store.species if self.store.has(s, "genome/code")]
        chosen = [s for s in have if not species or s in species]
        if not chosen:
            raise InputError(
                f"{self.store.path}: no species has a genome; long windows need one in [species]"
            )
        wanted, found, known = set(names), list[Gene](), set[str]()
        for gene in self._all(chosen):
            known.add(gene.name)
            if wanted and gene.name not in wanted:
                continue
            if gene.contig and gene.tss >= 0:
                found.append(gene)
            elif tally is not None:
                tally.add("gene without a TSS on the genome", gene.name)
        for name in names:
            if name not in known:
                raise unknown_name("gene", name, known)
        return found

    def _all(self, species: Sequence[str]) -> Iterator[Gene]:
        for name in species:
            table = self.store.genes(name)
            columns = (table.gene, table.contig, table.tss, table.strand, table.family)
            for gene, contig, tss, strand, family in zip(
                *(c.tolist() for c in columns), strict=True
            ):
                yield Gene(name, gene, contig, tss, strand, f"{family}" or gene)


def tested_genes(opened: Opened) -> set[tuple[str, str]]:
    """Species and name of the genes that were under test in the fold of the model.

    Raises
    ------
    InputError
        For a checkpoint, of which that is not known.
    """
    table = predictions_of(opened)
    return set(zip(table["species"].astype(str), table["gene"].astype(str), strict=True))


def predictions_of(opened: Opened) -> pd.DataFrame:
    """The run's own predictions for the genes under test in the fold of the model."""
    from benchmarks.runs.files import read_run

    if opened.run is None:
        raise InputError("which genes were under test is known of trained runs alone")
    table = read_run(opened.run).predictions
    assert table is not None  # noqa: S101 - a run with models has them
    return table[(table["repeat"] == opened.repeat) & (table["fold"] == opened.fold)]


def read_elements(path: Path) -> list[Element]:
    """A BED file: contig, start, end, and a name where there is one.

    Raises
    ------
    InputError
        With the line that is no interval, or a name that stands twice.
    """
    if not path.is_file():
        raise InputFileNotFoundError(f"{path}: not found; give a BED file of elements")
    found: list[Element] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        cells = line.split("\t") if "\t" in line else line.split()
        if len(cells) < 3 or not (cells[1].isdigit() and cells[2].isdigit()):
            raise InputError(f"{path}, line {number}: {line[:80]!r} is no BED interval")
        start, end = int(cells[1]), int(cells[2])
        if start >= end:
            raise InputError(f"{path}, line {number}: {start} to {end}; give 0-based start < end")
        name = cells[3] if len(cells) > 3 and cells[3] != "." else f"{cells[0]}:{start}-{end}"
        if name in seen:
            raise InputError(
                f"{path}, line {number}: the name {name!r} stands in line {seen[name]} as well"
            )
        seen[name] = number
        found.append(Element(cells[0], start, end, name))
    if not found:
        raise InputError(f"{path}: holds no interval")
    return found


def near(
    gene: Gene, elements: Sequence[Element], length: int, tally: Tally | None = None
) -> list[Element]:
    """Elements of the gene's contig that lie whole in its window."""
    low, high = gene.span(length)
    own = [e for e in elements if e.contig == gene.contig]
    found = [e for e in own if low <= e.start and e.end <= high]
    if tally is not None:
        cut = sum(e.end > low and e.start < high for e in own) - len(found)
        if cut:
            tally.add("element cut by the end of a window", gene.name, cut)
    return found
