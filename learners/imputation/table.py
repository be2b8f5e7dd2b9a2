"""Profiles as arrays: rows of a batch, and all that is known after a fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from learners.batch import FeatureBatch
from learners.imputation.neighbourhood import Neighbourhood, Neighbours, Places

PROFILE: Final = "profile"
PLACE: Final = "place"
ELSEWHERE: Final = "elsewhere"
READ: Final = frozenset({PROFILE, PLACE, ELSEWHERE})
"""Blocks that hold no sequence."""

_PIECE: Final = 4096


@dataclass(frozen=True)
class Profiles:
    """Profiles of n rows (genes, or genes of several genotypes) over T tissues.

    Parameters
    ----------
    gene : str array, shape (n,)
        Species and id, tab between.
    sample : str array, shape (n,), or None
        Genotype.
    places : Places
    value : float32 array, shape (n, T)
        log2(1 + x); 0 where it is not known.
    seen : bool array, shape (n, T)
    elsewhere : float32 array, shape (n, T), or None
        Mean of the same gene and tissue over other genotypes; NaN where there is none.
    passed : int64 array, shape (n, 2), or None
        How many of the next references below and above are not looked at.
    """

    gene: NDArray[np.str_]
    sample: NDArray[np.str_] | None
    places: Places
    value: NDArray[np.float32]
    seen: NDArray[np.bool_]
    elsewhere: NDArray[np.float32] | None = None
    passed: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.gene)

    @property
    def tissues(self) -> int:
        """T."""
        return int(self.value.shape[1])

    def take(self, index: NDArray[Any] | slice) -> Profiles:
        """Some of the rows."""
        return Profiles(
            self.gene[index],
            None if self.sample is None else self.sample[index],
            self.places.take(index),
            self.value[index],
            self.seen[index],
            None if self.elsewhere is None else self.elsewhere[index],
            None if self.passed is None else self.passed[index],
        )

    def showing(self, seen: NDArray[np.bool_]) -> Profiles:
        """The same rows of which only some entries may be looked at."""
        return replace(self, seen=seen, value=np.where(seen, self.value, np.float32(0)))


def profiles_of(batch: FeatureBatch) -> Profiles:
    """What of a batch may be looked at.

    Raises
    ------
    InputError
        If it has no profiles or places, or NaN in them.
    """
    parts = list(_read(batch))
    if not parts:
        empty = np.zeros((0, batch.blocks[PROFILE].shape[2]), np.float32)
        places = Places.of(np.zeros((0, 5)))
        return Profiles(batch.gene, batch.sample, places, empty, empty > 0)
    profile = np.concatenate([values[PROFILE] for values in parts])
    place = np.concatenate([values[PLACE] for values in parts]).astype(np.float64)
    seen = profile[:, 1] > 0
    elsewhere = None
    if ELSEWHERE in batch.blocks:
        others = np.concatenate([values[ELSEWHERE] for values in parts])
        elsewhere = np.where(others[:, 1] > 0, others[:, 0], np.nan).astype(np.float32)
    return Profiles(
        np.char.add(np.char.add(batch.species, "\t"), batch.gene),
        batch.sample,
        Places.of(place),
        np.where(seen, profile[:, 0], 0).astype(np.float32),
        seen,
        elsewhere,
    )


def require_profiles(batch: FeatureBatch, learner: str) -> None:
    """Refuse a batch that says nothing of profiles.

    Raises
    ------
    InputError
        With what mends it.
    """
    if not {PROFILE, PLACE} <= batch.blocks.keys():
        raise InputError(
            f"{learner} completes profiles of genes over tissues and needs the features "
            f"{PROFILE!r} and {PLACE!r}, which the task imputation gives; this batch has "
            f"{', '.join(batch.blocks) or 'none'}: bench run --task imputation"
        )


def _read(batch: FeatureBatch) -> Iterator[dict[str, NDArray[Any]]]:
    only = replace(batch, blocks={n: b for n, b in batch.blocks.items() if n in READ})
    for part in only.iter(_PIECE):
        yield part.values


def asked_of(batch: FeatureBatch) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Targets and where they are known, both (n, T); the first is 0 elsewhere."""
    targets = batch.require_targets()
    known = np.isfinite(targets)
    if batch.mask is not None:
        bad = batch.mask & ~known
        if bad.any():
            gene = str(batch.gene[np.flatnonzero(bad.any(axis=1))[0]])
            raise InputError(
                f"{int(bad.sum())} targets are NaN or infinite, first of gene {gene!r}; mask "
                "missing targets"
            )
        known = known & batch.mask
    return np.where(known, targets, 0.0), known


def scenarios_of(*batches: FeatureBatch) -> frozenset[str]:
    """Whether rows under test show ``none`` of their profile, or ``some``.

    As the task says, else as the last batch (the validation rows) shows.
    """
    for batch in batches:
        said = getattr(batch.blocks[PROFILE].source, "asked", None)
        if said:
            return frozenset(said)
    some = profiles_of(batches[-1]).seen.any(axis=1)
    return frozenset(
        name for name, there in (("some", some.any()), ("none", (~some).any())) if there
    )


def known_of(batch: FeatureBatch) -> Profiles:
    """Everything of a batch that may be learned from: what it shows, and its targets."""
    rows = profiles_of(batch)
    targets, known = asked_of(batch)
    value = np.where(known, targets, rows.value).astype(np.float32)
    return merged(replace(rows, value=value, seen=rows.seen | known))


def references_of(batch: FeatureBatch) -> Profiles:
    """What is known of each gene; of several genotypes the mean over them, read in pieces.

    A neighbour's profile is then as good as it gets, genotypes never seen have neighbours too, and
    memory is that of one genotype.
    """
    if batch.sample is None:
        return known_of(batch)
    names = np.char.add(np.char.add(batch.species, "\t"), batch.gene)
    gene, first, which = np.unique(names, return_index=True, return_inverse=True)
    shape = (len(gene), batch.blocks[PROFILE].shape[2])
    count, total = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for start in range(0, len(batch), _PIECE):
        index = np.arange(start, min(start + _PIECE, len(batch)), dtype=np.int64)
        rows, (targets, asked) = profiles_of(batch.take(index)), asked_of(batch.take(index))
        np.add.at(count, which[index], rows.seen | asked)
        np.add.at(total, which[index], np.where(asked, targets, rows.value))
    places = profiles_of(batch.take(first.astype(np.int64))).places
    mean = (total / np.maximum(count, 1)).astype(np.float32)
    return Profiles(gene, None, places, mean, count > 0)


def merged(*several: Profiles) -> Profiles:
    """Rows of one gene (and genotype) made one, with all that any of them knows."""
    first = several[0]
    gene = np.concatenate([one.gene for one in several])
    sample = _joined([one.sample for one in several])
    key = gene if sample is None else np.char.add(np.char.add(gene, "\t"), sample)
    _, where, row = np.unique(key, return_index=True, return_inverse=True)
    # In the order in which they come first: what is learned then follows the batch.
    order = np.argsort(where, kind="stable")
    rank = np.empty(len(where), np.int64)
    rank[order] = np.arange(len(where))
    row, where = rank[row.reshape(-1)], where[order]
    value = np.zeros((len(where), first.tissues), np.float32)
    seen = np.zeros(value.shape, np.bool_)
    start = 0
    for one in several:
        r, c = np.nonzero(one.seen)
        value[row[start + r], c], seen[row[start + r], c] = one.value[r, c], True
        start += len(one)
    places = Places(
        *(
            np.concatenate([getattr(one.places, name) for one in several])[where]
            for name in ("contig", "tss", "tts", "strand")
        )
    )
    elsewhere = _joined([one.elsewhere for one in several])
    return Profiles(
        gene[where], None if sample is None else sample[where], places, value, seen,
        None if elsewhere is None else elsewhere[where],
    )  # fmt: skip


def _joined(parts: list[NDArray[Any] | None]) -> NDArray[Any] | None:
    there = [part for part in parts if part is not None]
    return np.concatenate(there) if len(there) == len(parts) else None


class References:
    """Genes with known profiles, and where they lie.

    Parameters
    ----------
    known : Profiles
        One row a gene (:func:`references_of`).
    """

    def __init__(self, known: Profiles) -> None:
        self.genes = known.take(np.flatnonzero(np.any(known.seen, axis=1)))
        self.around = Neighbourhood(self.genes.places)
        self._sorted = np.argsort(self.genes.gene, kind="stable")
        self._names = self.genes.gene[self._sorted]

    def itself(self, rows: Profiles) -> NDArray[np.int64]:
        """The reference that each row is; −1 for none."""
        if not len(self._names):
            return np.full(len(rows), -1, np.int64)
        at = np.minimum(np.searchsorted(self._names, rows.gene), len(self._names) - 1)
        return np.where(self._names[at] == rows.gene, self._sorted[at], -1).astype(np.int64)

    def nearest(self, rows: Profiles, k: int) -> Neighbours:
        """The k nearest references of each row, never the gene itself."""
        itself = self.itself(rows)
        return self.around.nearest(rows.places, k, itself=itself, passed=rows.passed)

    def missing(self, rows: Profiles, left: References) -> NDArray[np.int64]:
        """How many references around each row are not among those that are left, (n, 2)."""
        there = left.itself(self.genes) >= 0
        return self.around.missing(rows.places, there, itself=self.itself(rows))
