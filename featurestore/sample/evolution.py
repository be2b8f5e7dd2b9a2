"""Families of homologous genes: ancestors that duplicate, speciate and mutate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from featurestore.sample.cassette import STOP_CODES, Cassette, ancestor, plant, random_bases
from featurestore.sample.motifs import MOTIFS
from featurestore.sample.settings import SPECIES, SampleSettings, stream

COPY_NUMBERS = (1, 2, 3, 4, 6)
COPY_PROBABILITIES = (0.74, 0.16, 0.06, 0.03, 0.01)
"""Copies of a family at the speciation."""

KEPT = 0.75
"""Probability that a species keeps a copy."""

TANDEM = 0.08
"""Probability that a kept copy has duplicated again, in tandem, since the speciation."""

TURNOVER = 0.6
"""Expected number of new motif sites that one gene alone has gained."""


@dataclass(frozen=True, eq=False)
class Member:
    """A gene of today, before it has a place on a contig.

    ``unit`` groups tandem copies, which stand side by side; ``leaf`` names it in the tree.
    """

    family: str
    leaf: str
    unit: str
    cassette: Cassette


@dataclass(frozen=True, eq=False)
class Family:
    """The members of one family per species, and its tree.

    ``newick`` carries branch lengths in neutral substitutions per site.
    """

    name: str
    members: list[list[Member]]
    newick: str


def evolve(rng: np.random.Generator, parent: Cassette, distance: float) -> Cassette:
    """One branch: substitutions everywhere but in fixed sites, small indels in the flanks.

    Parameters
    ----------
    distance : float
        Proposed neutral substitutions per site. A proposal draws its base from the family's
        composition, so about a quarter of them change nothing and GC does not drift.
    """
    hit = rng.random(parent.code.size) < parent.rate * distance
    code = parent.code.copy()
    code[hit] = random_bases(rng, int(hit.sum()), parent.gc)
    _undo_stops(code, parent)
    child = replace(parent, code=code)
    for _ in range(int(rng.random() + distance * 10)):
        child = _indel(rng, child)
    return child


def _undo_stops(code: NDArray[np.uint8], parent: Cassette) -> None:
    """Revert every codon inside the reading frame that became a stop."""
    codons = (parent.tss + parent.structure.coding_positions()).reshape(-1, 3)[:-1]
    bases = code[codons].astype(np.intp)
    stop = np.isin(bases @ np.array([16, 4, 1]), STOP_CODES)
    code[codons[stop]] = parent.code[codons[stop]]


def _indel(rng: np.random.Generator, cassette: Cassette) -> Cassette:
    """Insert or delete 1 to 8 bases in a flank, away from the transcript and motif sites."""
    size = int(rng.integers(1, 9))
    upstream = rng.random() < 0.5
    low, high = (100, cassette.tss - 80) if upstream else (cassette.tts + 80, cassette.code.size)
    if high - low < 200:
        return cassette
    at = int(rng.integers(low, high - 20))
    if (cassette.rate[at : at + size] != 1).any():
        return cassette
    if rng.random() < 0.5:
        cut = np.s_[at : at + size]
        code, rate = np.delete(cassette.code, cut), np.delete(cassette.rate, cut)
        moved = -size
    else:
        code = np.insert(cassette.code, at, random_bases(rng, size, cassette.gc))
        rate = np.insert(cassette.rate, at, np.ones(size))
        moved = size
    return replace(cassette, code=code, rate=rate, tss=cassette.tss + (moved if upstream else 0))


def draw_families(settings: SampleSettings) -> list[Family]:
    """Draw families until each species has ``settings.genes`` genes."""
    free = [settings.genes for _ in SPECIES]
    families: list[Family] = []
    for number in count(1):
        name = f"SIMFAM{number:05d}"
        family = _family(stream(settings.seed, "family", name), name, free)
        # Near the end the only species that would keep a family may be full.
        if any(family.members):
            families.append(family)
        free = [room - len(m) for room, m in zip(free, family.members, strict=True)]
        if not any(free):
            break
    return families


def _family(rng: np.random.Generator, name: str, free: list[int]) -> Family:
    """One family: ancient copies, each kept or lost by each species, some doubled in tandem."""
    root = ancestor(rng)
    copies_then = COPY_NUMBERS[
        int(np.searchsorted(np.cumsum(COPY_PROBABILITIES)[:-1], rng.random()))
    ]
    members: list[list[Member]] = [[] for _ in SPECIES]
    copies: list[str] = []
    for copy in range(copies_then):
        distance = 0.0 if copies_then == 1 else round(0.05 + 0.35 * float(rng.random()), 4)
        before = evolve(rng, root, distance)
        kept = rng.random(len(SPECIES)) < KEPT
        home = int(rng.integers(0, len(SPECIES)))
        leaves: list[str] = []
        for index in range(len(SPECIES)):
            # One copy stays somewhere, so that no family is empty.
            if (
                not (kept[index] or (copy == 0 and index == home))
                or len(members[index]) >= free[index]
            ):
                continue
            stem = f"{name}_{SPECIES[index].tag}_c{copy + 1}"
            room = free[index] - len(members[index])
            new, tree = _lineage(rng, before, SPECIES[index].branch, name, stem, room)
            members[index].extend(new)
            leaves.append(tree)
        if leaves:
            copies.append(f"({','.join(leaves)}):{distance}")
    return Family(name, members, f"({','.join(copies)});")


def _lineage(
    rng: np.random.Generator, before: Cassette, branch: float, family: str, stem: str, room: int
) -> tuple[list[Member], str]:
    """One copy in one species since the speciation: a gene, or two in tandem."""
    tandem = rng.random() < TANDEM and room > 1
    if not tandem:
        gene = _gain_sites(rng, evolve(rng, before, branch))
        return [Member(family, stem, stem, gene)], f"{stem}:{branch}"
    recent = round(branch * (0.2 + 0.6 * float(rng.random())), 4)
    shared = evolve(rng, before, branch - recent)
    leaves = [f"{stem}{letter}" for letter in "ab"]
    genes = [_gain_sites(rng, evolve(rng, shared, recent)) for _ in leaves]
    tree = f"({','.join(f'{leaf}:{recent}' for leaf in leaves)}):{round(branch - recent, 4)}"
    return [Member(family, leaf, stem, g) for leaf, g in zip(leaves, genes, strict=True)], tree


def _gain_sites(rng: np.random.Generator, gene: Cassette) -> Cassette:
    for _ in range(int(TURNOVER + rng.random())):
        gene = plant(rng, gene, MOTIFS[int(rng.integers(0, len(MOTIFS)))])
    return gene


def all_members(families: list[Family], species: int) -> Iterator[Member]:
    """Members of one species over all families, in the order of the families."""
    for family in families:
        yield from family.members[species]
