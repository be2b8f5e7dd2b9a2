"""Small simulated batches with a planted signal, for the contract suite. Not biology.

Each batch has two simulated species and families of six genes, three in either, and is cut by
family into train, valid and test as a benchmark would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from learners.base import LearnerInfo
from learners.batch import ArraySource, Block, FeatureBatch

FEATURE: Final = "simulated"
"""Name of the one feature of a simulated batch."""

MOTIF: Final = np.array([3, 0, 3, 0, 0, 0, 3, 0], np.uint8)
"""TATAAATA, in codes: its count is the signal planted in sequences."""

_FAMILY_SIZE: Final = 6

_PREFERENCE: Final = ("profile", "tabular", "bins", "codes", "long", "none")


@dataclass(frozen=True)
class Simulation:
    """Train, valid and test batches of one simulated data set; test carries its labels."""

    train: FeatureBatch
    valid: FeatureBatch
    test: FeatureBatch

    def map(self, change: Callable[[FeatureBatch], FeatureBatch]) -> Simulation:
        """The same change made to all three."""
        return Simulation(change(self.train), change(self.valid), change(self.test))


def kind_for(info: LearnerInfo) -> str:
    """The kind of feature a learner is checked on.

    Raises
    ------
    InputError
        If it takes no kind that can be simulated.
    """
    for kind in _PREFERENCE:
        if kind in info.inputs:
            return kind
    raise InputError(
        f"{info.name} takes {sorted(info.inputs)}, none of which the contract suite can "
        f"simulate; it simulates {', '.join(_PREFERENCE)}"
    )


def simulate(kind: str, *, genes: int, seed: int = 0, targets: int = 1) -> Simulation:
    """A data set whose targets follow from the features, with a little noise.

    Parameters
    ----------
    kind : {"profile", "tabular", "bins", "codes", "long", "none"}
        ``profile``: as :mod:`learners.imputation.simulated` says, of 6 tissues or ``targets``.
        ``none``: the targets follow from the species and, within it, from the family.
    genes : int
        Rows in all; 60 % train, 15 % valid, 25 % test, cut by family.
    seed : int
    targets : int
        Several follow from the same signal with weights from 1 to −1, each with its own noise.
    """
    rng = np.random.default_rng(seed)
    if kind == "profile":
        return _profiles(genes, targets, rng)
    family_number = np.arange(genes) // _FAMILY_SIZE
    species = np.where(np.arange(genes) % 2 == 0, "simulated_a", "simulated_b")
    values, signal = _FEATURES[kind](rng, genes, species)
    signal = (signal - signal.mean()) / signal.std()
    weight = np.linspace(1.0, -1.0, targets) if targets > 1 else np.ones(1)
    labels = 2.0 + signal[:, None] * weight + rng.normal(0, 0.3, (genes, targets))
    blocks = {}
    if values is not None:
        source = ArraySource(values, kind=kind, shard_rows=64)
        blocks[FEATURE] = Block(source, np.arange(genes, dtype=np.int64))
    whole = FeatureBatch(
        blocks,
        gene=np.array([f"simulated_gene_{i:05d}" for i in range(genes)]),
        species=species,
        family=np.array([f"simulated_family_{f:05d}" for f in family_number]),
        targets=labels,
        target_names=tuple(f"y{i}" for i in range(targets)),
    )
    return _cut(whole, family_number, rng, by_family=kind != "none")


def _profiles(genes: int, targets: int, rng: np.random.Generator) -> Simulation:
    from learners.imputation.simulated import TISSUES, shown, simulated_profiles

    whole, _ = simulated_profiles(genes, targets if targets > 1 else TISSUES, rng)
    family = np.unique(whole.family, return_inverse=True)[1]
    cut = _cut(whole, family.astype(np.int64), rng, by_family=True)
    train, valid, test = (shown(b, trained=b is cut.train) for b in (cut.train, cut.valid, cut.test))  # fmt: skip
    return Simulation(train, valid, test)


def _cut(
    whole: FeatureBatch, family: NDArray[np.int64], rng: np.random.Generator, *, by_family: bool
) -> Simulation:
    """Cut by family; for learners that know only families by gene, or nothing could be learned."""
    unit = family if by_family else np.arange(len(whole))
    order = rng.permutation(unit.max() + 1)
    place = np.argsort(order)[unit] / len(order)
    sides = [place < 0.6, (place >= 0.6) & (place < 0.75), place >= 0.75]
    train, valid, test = (whole.take(np.flatnonzero(side).astype(np.int64)) for side in sides)
    return Simulation(train, valid, test)


def _tabular(
    rng: np.random.Generator, genes: int, species: NDArray[np.str_]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    values = rng.normal(size=(genes, 6)).astype(np.float32)
    return values, values[:, 0] + 0.7 * values[:, 1] + 0.5 * np.sign(values[:, 2])


def _bins(
    rng: np.random.Generator, genes: int, species: NDArray[np.str_]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    values = rng.normal(size=(genes, 2, 3, 2)).astype(np.float16)
    return values, (values[:, 0, 2, 0] + 0.7 * values[:, 1, 0, 1]).astype(np.float64)


def _codes(
    rng: np.random.Generator, genes: int, species: NDArray[np.str_]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    values = rng.choice(4, size=(genes, 2, 120), p=[0.2, 0.3, 0.3, 0.2]).astype(np.uint8)
    count = rng.integers(0, 7, genes)
    for gene, wanted in enumerate(count):
        for slot in rng.choice(10, wanted, replace=False):
            start = slot * 12 + rng.integers(0, 4)
            values[gene, 0, start : start + len(MOTIF)] = MOTIF
    return values, count.astype(np.float64)


def _long(
    rng: np.random.Generator, genes: int, species: NDArray[np.str_]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Windows of 512 bp, in whose middle half motifs are planted."""
    values = rng.choice(4, size=(genes, 512), p=[0.2, 0.3, 0.3, 0.2]).astype(np.uint8)
    count = rng.integers(0, 7, genes)
    for gene, wanted in enumerate(count):
        for slot in rng.choice(20, wanted, replace=False):
            start = 128 + slot * 12 + rng.integers(0, 4)
            values[gene, start : start + len(MOTIF)] = MOTIF
    return values, count.astype(np.float64)


def _none(
    rng: np.random.Generator, genes: int, species: NDArray[np.str_]
) -> tuple[None, NDArray[np.float64]]:
    effect = rng.normal(0, 0.8, genes // _FAMILY_SIZE + 1)[np.arange(genes) // _FAMILY_SIZE]
    return None, np.where(species == "simulated_a", 1.5, -1.5) + effect


_Maker = Callable[
    [np.random.Generator, int, NDArray[np.str_]], tuple[NDArray[Any] | None, NDArray[np.float64]]
]
_FEATURES: Final[Mapping[str, _Maker]] = {
    "tabular": _tabular,
    "bins": _bins,
    "codes": _codes,
    "long": _long,
    "none": _none,
}


def change_features(
    batch: FeatureBatch, change: Callable[[NDArray[Any]], NDArray[Any]]
) -> FeatureBatch:
    """The same rows with other values of the features (but for profiles there is one)."""
    rows = np.arange(len(batch), dtype=np.int64)
    blocks = {}
    for name, block in batch.blocks.items():
        source = ArraySource(change(block.read()), kind=block.kind, shard_rows=64)
        blocks[name] = Block(source, rows)
    return replace(batch, blocks=blocks)


def shuffle_labels(batch: FeatureBatch, seed: int) -> FeatureBatch:
    """The same rows with their labels permuted; profiles tissue by tissue, seen entries too."""
    if "profile" in batch.blocks:
        from learners.imputation.simulated import shuffled_profiles

        return shuffled_profiles(batch, seed)
    order = np.random.default_rng(seed).permutation(len(batch))
    return batch.with_targets(batch.require_targets()[order])
