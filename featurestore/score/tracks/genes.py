"""TSSs of the genes of a store or a data set."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from featurestore.errors import unknown_name


class Tss(NamedTuple):
    """The TSS of one gene: a boundary between bases, 0-based on the forward strand."""

    gene: str
    position: int
    strand: int

    def distance(self, base: int) -> int:
        """Bases from the first transcribed one (0) to another, positive downstream."""
        return base - self.position if self.strand >= 0 else self.position - 1 - base

    @property
    def first_base(self) -> int:
        """Position of the first transcribed base."""
        return self.position if self.strand >= 0 else self.position - 1


@dataclass(frozen=True)
class Genes:
    """TSSs by contig, in order of position.

    Parameters
    ----------
    on : mapping of contig to sequence of Tss
    """

    on: Mapping[str, Sequence[Tss]]

    @cached_property
    def _first(self) -> dict[str, list[int]]:
        """First transcribed bases of each contig, in order."""
        return {contig: sorted(t.first_base for t in found) for contig, found in self.on.items()}

    @classmethod
    def of(cls, rows: Iterable[tuple[str, Tss]]) -> Genes:
        """From pairs of contig and TSS, in any order."""
        on: dict[str, list[Tss]] = {}
        for contig, tss in rows:
            on.setdefault(contig, []).append(tss)
        return cls(
            {c: sorted(found, key=lambda t: (t.position, t.gene)) for c, found in on.items()}
        )

    def __len__(self) -> int:
        return sum(map(len, self.on.values()))

    def within(self, contig: str, low: int, high: int) -> Sequence[Tss]:
        """Genes whose TSS is at a boundary from ``low`` to ``high``, both included."""
        found = self.on.get(contig, ())
        first = bisect_left(found, low, key=lambda t: t.position)
        return found[first : bisect_right(found, high, key=lambda t: t.position)]

    def nearest(self, contig: str, base: int) -> int | None:
        """Bases to the nearest first transcribed base; None on a contig without genes."""
        found = self._first.get(contig, [])
        at = bisect_left(found, base)
        return min((abs(base - first) for first in found[max(at - 1, 0) : at + 1]), default=None)

    def only(self, names: Sequence[str]) -> Genes:
        """Some genes by name.

        Raises
        ------
        UnknownNameError
            For a gene that there is not.
        """
        if not names:
            return self
        known = {t.gene for found in self.on.values() for t in found}
        for name in names:
            if name not in known:
                raise unknown_name("gene", name, known)
        wanted = set(names)
        return Genes({c: [t for t in found if t.gene in wanted] for c, found in self.on.items()})


def genes_of(where: Path, species: str, contigs: Mapping[str, int]) -> Genes:
    """The genes of a species of a store or a data set whose TSS is known."""
    if where.is_file() or (where / "dataset.toml").is_file():
        return Genes.of(_from_dataset(where, species, contigs))
    return Genes.of(_from_store(where, species))


def _from_store(where: Path, species: str) -> Iterator[tuple[str, Tss]]:
    from featurestore.store.reader import open_store

    table = open_store(where).genes(species)
    for gene, contig, strand, tss in zip(
        table.gene.tolist(), table.contig.tolist(), table.strand.tolist(), table.tss.tolist(),
        strict=True,
    ):  # fmt: skip
        if tss >= 0:
            yield contig, Tss(gene, tss, strand)


def _from_dataset(
    where: Path, species: str, contigs: Mapping[str, int]
) -> Iterator[tuple[str, Tss]]:
    from featurestore.inputs.annotation import read_annotation
    from featurestore.inputs.dataset import read_config
    from featurestore.inputs.problems import Problems

    problems = Problems()
    config = read_config(where, problems)
    path = config.species[species].annotation if config is not None else None
    found = read_annotation(path, problems, contigs) if path is not None else None
    problems.raise_if_any()
    for gene in found.genes if found is not None else ():
        yield gene.contig, Tss(gene.gene, gene.tss, gene.strand)
