"""Designs: which genes train, validate and are tested in each fold of the gene-wise masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.imputation.draws import Keys
from benchmarks.imputation.masks import PARTS, STRETCH, first_fold
from benchmarks.imputation.places import Places
from benchmarks.splits.artefact import AlignedSplit

VALIDATION = 0.1
_TOO_MUCH = 0.25


@dataclass(frozen=True)
class GeneFold:
    """Genes on each side of one fold, ascending; ``valid`` and ``train`` share no family with ``test``.

    ``excluded`` are kept out because their family is under test.
    """

    number: int
    design: str
    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64]
    excluded: NDArray[np.int64]


def by_split(aligned: AlignedSplit, scored: NDArray[np.bool_]) -> list[GeneFold]:
    """Folds of the run's split, genes with values alone."""
    folds = []
    for number in aligned.folds:
        sides = aligned.sides(number)
        parts = [
            rows[scored[rows]] for rows in (sides.train, sides.valid, sides.test, sides.excluded)
        ]
        folds.append(GeneFold(number, "genes", *parts))
    return folds


def by_block(places: Places, scored: NDArray[np.bool_], keys: Keys) -> list[GeneFold]:
    """Stretches of neighbouring genes, each whole in one of five folds."""
    line = places.order[scored[places.order]]
    if len(line) < 2 * STRETCH:
        return []
    stretch = _stretches(places.contig[line])
    first = np.flatnonzero(np.diff(stretch, prepend=-1))
    # Dealt in an order by the name of their first gene.
    order = np.argsort(keys[line[first]], kind="stable")
    count = min(PARTS, len(first))
    part = np.empty(len(first), np.int64)
    part[order] = np.arange(len(first)) % count
    return _folds("block", places, scored, line, part[stretch], stretch, keys[line[first]])


def _stretches(contig: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the stretch of each gene of a line: runs of ten that end with their contig."""
    start = np.flatnonzero(np.diff(contig, prepend=-2))
    length = np.diff(np.append(start, len(contig)))
    within = np.arange(len(contig)) - np.repeat(start, length)
    number = within // STRETCH
    # A last run of fewer than half joins the one before it.
    count = np.maximum((length + STRETCH // 2) // STRETCH, 1)
    number = np.minimum(number, np.repeat(count, length) - 1)
    before = np.repeat(np.concatenate([[0], np.cumsum(count)[:-1]]), length)
    return np.asarray(before + number, np.int64)


def by_chromosome(places: Places, scored: NDArray[np.bool_], keys: Keys) -> list[GeneFold]:
    """Whole chromosomes in at most five groups of about as many genes; none where there is one."""
    line = places.order[scored[places.order]]
    contigs, sizes = np.unique(places.contig[line], return_counts=True)
    if len(contigs) < 2:
        return []
    names = np.array([places.contig_name[i] for i in contigs], object)
    load = np.zeros(min(PARTS, len(contigs)), np.int64)
    part = {}
    for i in np.lexsort((names, -sizes)).tolist():  # the largest first, to the emptiest group
        group = int(load.argmin())
        part[int(contigs[i])] = group
        load[group] += sizes[i]
    parts = np.array([part[int(one)] for one in places.contig[line]], np.int64)
    # Where whole chromosomes are too many genes, validation runs along them: a hundredth at a time.
    piece = np.arange(len(line)) // max(len(line) // 100, 1)
    piece = np.unique(np.stack([places.contig[line], piece]), axis=1, return_inverse=True)[1]
    first = np.unique(piece, return_index=True)[1]
    return _folds(
        "chromosome", places, scored, line, parts, piece.ravel(), keys[line[first]], whole=keys
    )


def _folds(
    design: str,
    places: Places,
    scored: NDArray[np.bool_],
    line: NDArray[np.int64],
    part: NDArray[np.int64],
    stretch: NDArray[np.int64],
    draws: Keys,
    *,
    whole: Keys | None = None,
) -> list[GeneFold]:
    """Folds of a partition of the genes of a line into parts; stretches validate together.

    With ``whole``, the keys of genes, whole contigs validate; in folds where these are too much, stretches
    that follow one another.
    """
    folds = []
    contig = np.unique(places.contig[line], return_inverse=True)[1].ravel()
    for i in np.unique(part).tolist():
        test = np.zeros(len(scored), bool)
        test[line[part == i]] = True
        kin = _relatives(places.family, test) & scored & ~test
        train = scored & ~test & ~kin
        valid = np.zeros(len(scored), bool)
        if whole is not None:
            leading = whole[line[np.unique(contig, return_index=True)[1]]]
            valid = _validation(places.family, train, line, contig, leading)
        if not valid.any() or valid.sum() > _TOO_MUCH * train.sum():
            runs = whole is not None
            valid = _validation(places.family, train, line, stretch, draws, runs=runs)
        number = first_fold(design) + i
        sides = (train & ~valid, valid, test, kin)
        folds.append(GeneFold(number, design, *(np.flatnonzero(side) for side in sides)))
    return folds


def _relatives(family: NDArray[np.int64], rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    present = np.zeros(int(family.max(initial=0)) + 1, bool)
    present[family[rows]] = True
    found: NDArray[np.bool_] = present[family]
    return found


def _validation(
    family: NDArray[np.int64],
    train: NDArray[np.bool_],
    line: NDArray[np.int64],
    stretch: NDArray[np.int64],
    draws: Keys,
    *,
    runs: bool = False,
) -> NDArray[np.bool_]:
    """A tenth of the training genes: whole stretches with all their relatives.

    With ``runs`` the stretches follow one another along the chromosome, from a drawn one on: the
    neighbours of most of them are missing too, as they are under test.
    """
    count = len(draws)
    order = np.argsort(draws, kind="stable")
    if runs:
        order = np.roll(np.arange(count), -int(order[0]))
    wanted, most = VALIDATION * train.sum(), _TOO_MUCH * train.sum()
    members: Sequence[NDArray[np.int64]] = np.split(
        line[np.argsort(stretch, kind="stable")],
        np.cumsum(np.bincount(stretch, minlength=count))[:-1],
    )
    of_family: dict[int, list[int]] = {}
    for gene, name in zip(np.flatnonzero(train).tolist(), family[train].tolist(), strict=True):
        of_family.setdefault(name, []).append(gene)
    valid = np.zeros(len(train), bool)
    size = 0
    for i in order.tolist():
        if size >= wanted:
            break
        new = {
            gene
            for one in members[i][train[members[i]]].tolist()
            for gene in of_family[int(family[one])]
            if not valid[gene]
        }
        if not new or (size and size + len(new) > most):
            continue
        if size + len(new) >= train.sum():
            continue
        valid[list(new)] = True
        size += len(new)
    return valid
