"""Small simulated profiles with a planted signal, for the contract suite. Not biology.

Stretches of genes along two simulated chromosomes share a score, and all tissues follow from the
score: an unseen gene is known by its neighbours, a gene seen in part by its other tissues. Of the
genes that are not trained on half show nothing and half show half of their tissues.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from learners.batch import ArraySource, Block, FeatureBatch
from learners.imputation.table import PLACE, PROFILE

TISSUES: Final = 6
_STRETCH: Final = 12


class _Source(ArraySource):
    """Profiles that say which scenarios are asked for."""

    asked: frozenset[str] = frozenset({"none", "some"})


def simulated_profiles(
    genes: int, tissues: int, rng: np.random.Generator
) -> tuple[FeatureBatch, NDArray[np.float64]]:
    """Everything seen, and the signal that all tissues follow.

    Parameters
    ----------
    genes : int
        Even-numbered ones are of one species, odd ones of the other, on a chromosome each.
    tissues : int
    rng : numpy Generator
    """
    number = np.arange(genes) // 2
    chromosome = np.arange(genes) % 2
    stretch = number // _STRETCH * 2 + chromosome
    score = rng.normal(size=stretch.max() + 1)
    score = (score - score.mean()) / score.std()
    weight = np.linspace(1.2, 0.8, tissues)
    # Stretches lie apart, so that a neighbour by distance is one of the stretch.
    tss = number * 10_000.0 + number // _STRETCH * 400_000.0 + rng.integers(0, 3000, genes)
    strand = rng.choice([-1.0, 1.0], genes)
    place = np.stack([chromosome, tss, tss + strand * 2000, strand, np.ones(genes)], axis=1)
    truth = 4.0 + score[stretch, None] * weight + rng.normal(0, 0.3, (genes, tissues))
    batch = FeatureBatch(
        {PLACE: Block(ArraySource(place, kind="profile"), np.arange(genes, dtype=np.int64))},
        gene=np.array([f"simulated_gene_{i:05d}" for i in range(genes)]),
        species=np.where(chromosome == 0, "simulated_a", "simulated_b"),
        family=np.array([f"simulated_family_{i:05d}" for i in rng.permutation(genes) // 6]),
        targets=truth,
        target_names=tuple(f"tissue_{i}" for i in range(tissues)),
    )
    return batch, score[stretch]


def shown(batch: FeatureBatch, *, trained: bool) -> FeatureBatch:
    """The batch with a block of profiles: all seen, or what is seen of genes not trained on.

    Its targets are all entries, its mask those that are not seen (all of what is trained on).
    """
    truth = batch.require_targets()
    seen = np.ones(truth.shape, np.bool_)
    if not trained:
        seen = (np.arange(truth.shape[1]) + np.arange(len(truth))[:, None]) % 2 == 0
        # Which genes show nothing has to do with neither families nor places.
        seen &= (np.array([int(g[-5:]) * 7919 % 10 for g in batch.gene]) < 5)[:, None]
    profile = np.stack([np.where(seen, truth, 0.0), seen], axis=1).astype(np.float32)
    rows = np.arange(len(truth), dtype=np.int64)
    block = Block(_Source(profile, kind="profile"), rows)
    mask = np.ones_like(seen) if trained else ~seen
    return replace(batch, blocks={PROFILE: block, **batch.blocks}, mask=mask)


def shuffled_profiles(batch: FeatureBatch, seed: int) -> FeatureBatch:
    """The same rows with each tissue permuted on its own: neither neighbours nor tissues tell."""
    rng = np.random.default_rng(seed)
    truth = batch.require_targets()
    truth = np.stack([column[rng.permutation(len(truth))] for column in truth.T], axis=1)
    seen = batch.blocks[PROFILE].read()[:, 1] > 0
    profile = np.stack([np.where(seen, truth, 0.0), seen], axis=1).astype(np.float32)
    block = Block(_Source(profile, kind="profile"), np.arange(len(truth), dtype=np.int64))
    return replace(batch, targets=truth, blocks={**batch.blocks, PROFILE: block})


def one_tissue(batch: FeatureBatch) -> FeatureBatch:
    """The same rows with their first tissue alone."""
    block = batch.blocks[PROFILE]
    source = _Source(block.read()[:, :, :1], kind="profile")
    rows = np.arange(len(batch), dtype=np.int64)
    narrow = batch.select_targets(np.zeros(1, np.int64))
    return replace(narrow, blocks={**narrow.blocks, PROFILE: Block(source, rows)})
