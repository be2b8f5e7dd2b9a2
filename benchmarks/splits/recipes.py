"""How folds are made: one function per recipe, from the table of genes to a fold per gene.

Orders that look random come from SHA-256 of (seed, recipe, name), not from a generator's
stream: the same split on every platform and numpy version, whatever the order of the rows.
"""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featurestore.errors import InputError, did_you_mean, unknown_name

NO_FOLD: Final = -1
"""Fold of a gene that the split does not use."""

KNOWN: Final = (
    "families-5fold", "families-<K>fold", "leave-one-species-out", "leave-one-chromosome-out",
    "empres", "random-<K>fold", "species:TRAIN,…->TEST,…", "file:PATH",
)  # fmt: skip

SMALL_CONTIG: Final = 0.01
"""Contigs with a smaller share of their species' genes stand together as one fold."""


@dataclass(frozen=True)
class Folds:
    """Folds of the genes for one seed.

    Parameters
    ----------
    fold : int64 array, shape (gene,)
        :data:`NO_FOLD` where the split leaves the gene out.
    names : mapping of fold to name, empty where folds are mere numbers
    notes : list of str
    recipe : mapping
        What the recipe adds to the artefact's recipe.
    role : array of str, shape (gene,), or None
        ``train`` or ``test`` where the recipe spells the sides of its one fold out.
    """

    fold: NDArray[np.int64]
    names: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    recipe: dict[str, Any] = field(default_factory=dict)
    role: NDArray[np.object_] | None = None


def shuffled(names: Iterable[str], *key: object) -> list[str]:
    """Names in an order that looks random and depends on the names and the key alone."""
    prefix = "\t".join(map(str, key)) + "\t"
    return sorted(names, key=lambda name: (hashlib.sha256((prefix + name).encode()).digest(), name))


def balanced(groups: pd.Series[str], count: int, *key: object) -> NDArray[np.int64]:
    """Whole groups to folds, each to the fold with the fewest rows so far.

    Folds then differ in size by at most the rows of the largest group.

    Raises
    ------
    InputError
        If there are fewer groups than folds.
    """
    sizes = {str(name): int(rows) for name, rows in groups.value_counts().items()}
    if len(sizes) < count:
        raise InputError(
            f"{count} folds need at least {count} families; these {len(groups)} genes have "
            f"{len(sizes)}. Ask for fewer folds: --split families-{max(len(sizes), 2)}fold"
        )
    heap = [(0, fold) for fold in range(count)]
    fold_of: dict[str, int] = {}
    for name in shuffled(sizes, *key):
        rows, fold = heapq.heappop(heap)
        fold_of[name] = fold
        heapq.heappush(heap, (rows + sizes[name], fold))
    return np.asarray(groups.map(fold_of), np.int64)


def families(genes: pd.DataFrame, seed: int, count: int, name: str) -> Folds:
    """K folds of whole gene families."""
    return Folds(balanced(genes["family"], count, seed, name))


def random_genes(genes: pd.DataFrame, seed: int, count: int, name: str) -> Folds:
    """K folds that look at no family: shows what homology between folds is worth."""
    ids = genes["species"] + ":" + genes["gene"]
    note = f"{name} ignores gene families: its scores say what homology gives, nothing more"
    return Folds(balanced(ids, count, seed, name), notes=[note])


def species(genes: pd.DataFrame, seed: int, count: int, name: str) -> Folds:
    """One fold per species."""
    return _by_level(genes["species"], name, "species")


def chromosomes(genes: pd.DataFrame, seed: int, count: int, name: str) -> Folds:
    """One fold per species and chromosome; small contigs together, per species."""
    parts = []
    notes = []
    for one, group in genes.groupby("species", sort=True):
        share = group["contig"].map(group["contig"].value_counts(normalize=True))
        small = share < SMALL_CONTIG
        if small.all():
            raise InputError(
                f"no contig of {one} holds {SMALL_CONTIG:.0%} of its genes: these are not "
                "chromosomes; use --split families-5fold"
            )
        if small.any():
            notes.append(
                f"{one}: {group['contig'][small].nunique():,} contigs with less than "
                f"{SMALL_CONTIG:.0%} of the genes each stand together as one fold"
            )
        parts.append((str(one) + "/" + group["contig"]).where(~small, f"{one}/small contigs"))
    folds = _by_level(pd.concat(parts).reindex(genes.index), name, "chromosome")
    return Folds(folds.fold, folds.names, notes, folds.recipe)


def empres(genes: pd.DataFrame, seed: int, count: int, name: str) -> Folds:
    """Five family groups, tested in turn: (valid, test) = (1,2) (2,3) (3,4) (4,5) (5,1).

    Groups are the data set's fold column where there is one (EMPRES, GSE324261), else made of
    whole families.
    """
    recipe = {"validation": {"rule": "previous fold"}, "folds": 5}
    given = genes["fold"]
    if not (given != "").any():
        fold = balanced(genes["family"], 5, seed, name)
        return Folds(np.asarray(fold + 1, np.int64), recipe={**recipe, "groups": "made by family"})
    levels = sorted(set(given) - {""}, key=_natural)
    if len(levels) != 5:
        raise InputError(
            f"EMPRES's rotation needs five groups; the data set's fold column has {len(levels)}: "
            f"{', '.join(levels[:8])}"
        )
    number = {level: i + 1 for i, level in enumerate(levels)} | {"": NO_FOLD}
    lost = int((given == "").sum())
    notes = [f"{lost:,} genes have no value in the fold column and are in no fold"] if lost else []
    notes.append("groups are the data set's own, the same for every seed")
    names = {i + 1: level for i, level in enumerate(levels) if level != str(i + 1)}
    recipe["groups"] = "fold column of the data set"
    return Folds(given.map(number).to_numpy(np.int64), names, notes, recipe)


def transfer(genes: pd.DataFrame, seed: int, count: int, name: str) -> Folds:
    """One fold: trained on the genes of some species, tested on those of others.

    ``species:A,B->C,D``; ``*`` stands for all species that the other side does not name. Genes of
    species that neither side names are not used. Training genes whose family is under test are
    kept out, unless declared otherwise; validation is made of families of the training species.

    Raises
    ------
    InputError
        If a species stands on both sides.
    UnknownNameError
        For a species that is not there.
    """
    train, test = sides_of(name)
    known = sorted(set(genes["species"]))
    for one in (*train, *test):
        if one != EVERY and one not in known:
            raise unknown_name("species", one, known)
    chosen = {
        "train": [x for x in known if x in train or (EVERY in train and x not in test)],
        "test": [x for x in known if x in test or (EVERY in test and x not in train)],
    }
    if both := sorted(set(chosen["train"]) & set(chosen["test"])):
        raise InputError(f"{name}: {', '.join(both)} cannot be trained on and tested on")
    if not (chosen["train"] and chosen["test"]):
        raise InputError(
            f"{name}: no species is left to {'test on' if chosen['train'] else 'train on'}"
        )
    role = np.full(len(genes), "", object)
    for side, names in chosen.items():
        role[genes["species"].isin(names).to_numpy()] = side
    notes = []
    if unused := [x for x in known if x not in (*chosen["train"], *chosen["test"])]:
        notes.append(f"{name}: {', '.join(unused)} stand on neither side and are not used")
    return Folds(
        np.where(role == "", NO_FOLD, 0).astype(np.int64),
        {0: f"{' + '.join(chosen['train'])} -> {' + '.join(chosen['test'])}"},
        notes,
        {
            "folds": 1, "exclude_test_families": True,
            "train_species": chosen["train"], "test_species": chosen["test"],
        },
        role,
    )  # fmt: skip


def sides_of(name: str) -> tuple[list[str], list[str]]:
    """Species to train on and to test on, as ``species:A,B->C`` names them.

    Raises
    ------
    InputError
        If it is not of that form.
    """
    train, arrow, test = name.removeprefix(TRANSFER).partition("->")
    sides = [[one.strip() for one in side.split(",")] for side in (train, test)]
    if not arrow or not all(all(side) for side in sides) or sides == [[EVERY], [EVERY]]:
        raise InputError(
            f"split {name!r}: write 'species:TRAIN,…->TEST,…' in quotes (the shell takes a bare > for "
            "itself), e.g. 'species:arabidopsis_thaliana->zea_mays' or 'species:*->zea_mays'"
        )
    return sides[0], sides[1]


def _by_level(levels: pd.Series[str], name: str, what: str) -> Folds:
    known = sorted(set(levels), key=_natural)
    if len(known) < 2:
        raise InputError(f"{name} needs at least two of {what}; there is only {known[0]!r}")
    number = {level: i for i, level in enumerate(known)}
    return Folds(
        np.asarray(levels.map(number), np.int64),
        dict(enumerate(known)),
        recipe={"folds": len(known), "exclude_test_families": True},
    )


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which chr2 comes before chr10."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part)
        for part in re.split(r"(\d+)", text)
        if part
    ]


TRANSFER: Final = "species:"
EVERY: Final = "*"

Recipe = Callable[[pd.DataFrame, int, int, str], Folds]

_PLAIN: Final[dict[str, Recipe]] = {
    "leave-one-species-out": species,
    "leave-one-chromosome-out": chromosomes,
    "empres": empres,
}
_COUNTED: Final[dict[str, Recipe]] = {"families": families, "random": random_genes}


def parse(name: str) -> tuple[Recipe, int]:
    """The function of a recipe and its number of folds (0 where data decide).

    Raises
    ------
    InputError
        For a name that is no recipe, or fewer than two folds.
    """
    if name in _PLAIN:
        return _PLAIN[name], 0
    if name.startswith(TRANSFER):
        sides_of(name)
        return transfer, 0
    match = re.fullmatch(r"(families|random)-([0-9]{1,6})fold", name)
    if match is None:
        raise InputError(
            f"unknown split {name!r}.{did_you_mean(name, KNOWN)} Known: {', '.join(KNOWN)}."
        )
    count = int(match.group(2))
    if count < 2:
        raise InputError(f"split {name!r}: a split needs at least 2 folds")
    return _COUNTED[match.group(1)], count
