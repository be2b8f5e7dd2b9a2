"""Measured expression of the long-range world, and what its variance is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.sample.long_range.genome import World
from featurestore.sample.long_range.grammar import Scores
from featurestore.sample.long_range.settings import LongRangeSettings
from featurestore.sample.settings import stream

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Expression:
    """Expression of one species, genes in their order.

    Parameters
    ----------
    promoter, distal, value : float64 arrays, shape (gene,)
        Promoter strength; summed contributions; noise-free expression (arbitrary units).
    true_tpm : float64 array, shape (gene,)
    tpm : float64 array, shape (gene, replicate)
        With noise, rounded to what the table holds.
    """

    promoter: Floats
    distal: Floats
    value: Floats
    true_tpm: Floats
    tpm: Floats

    def shares(self) -> dict[str, float]:
        """Parts of the variance of log10 of the median TPM; they add up to 1.

        ``promoter`` and ``distal`` are covariances with the whole: half of what both share goes
        to either.
        """
        observed = np.log10(np.median(self.tpm, axis=1))
        promoter, distal = np.log10(self.promoter), np.log10(1 + self.distal)
        parts = {
            "promoter": promoter,
            "distal": distal,
            "noise": observed - promoter - distal,
        }
        total = float(np.var(observed))
        return {
            name: float(np.cov(part, observed, ddof=0)[0, 1]) / total
            for name, part in parts.items()
        }


def measure(settings: LongRangeSettings, world: World, scores: list[Scores]) -> Expression:
    """TPM of every replicate from the noise-free expression of all contigs of a species."""
    promoter = np.concatenate([score.promoter.strength for score in scores])
    distal = np.concatenate([score.contribution.sum(axis=1) for score in scores])
    value = np.concatenate([score.expression for score in scores])
    total = 1e6 * value.size / settings.transcriptome
    columns = []
    for replicate in range(settings.replicates):
        rng = stream(settings.seed, "long-range measurement", world.name, str(replicate))
        amount = value * 10 ** (settings.noise_sd * rng.standard_normal(value.size))
        columns.append(amount * total / amount.sum())
    tpm = np.round(np.stack(columns, axis=1), 3)
    return Expression(promoter, distal, value, value * total / value.sum(), tpm)
