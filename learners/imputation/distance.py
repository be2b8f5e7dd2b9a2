"""Imputation by distance alone: what the paper of the hybrid measures itself against."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from learners.base import Kind, LearnerInfo
from learners.imputation.imputer import Settings, WithReferences
from learners.imputation.table import Profiles

_RANGE: Final = "Dong, Brown & Truong, PLoS ONE 19:e0307360, 2024, doi:10.1371/journal.pone.0307360"
_PROFILE: Final[frozenset[Kind]] = frozenset({"profile"})

REACH: Final = 8
"""How many genes :class:`NearestGene` looks at for one in which a tissue is known."""


class NearestGene(WithReferences):
    """The profile of the gene with the nearest TSS.

    Tissue by tissue: where the nearest gene's value is unknown, that of the next one, up to
    :data:`REACH` genes.
    """

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="nearest_gene",
        inputs=_PROFILE,
        summary="Profile of the nearest gene on the chromosome",
        reference=_RANGE,
        multi_output=True,
    )

    def __init__(self) -> None:
        super().__init__()

    def grid(self) -> list[Settings]:
        """Nothing to tune."""
        return [{}]

    def estimate(self, rows: Profiles, tried: list[Settings]) -> Iterator[NDArray[np.float64]]:
        """The first known value of each tissue."""
        near = self.references.nearest(rows, REACH)
        value, seen = _of(self, near.index)
        first = seen.argmax(axis=1)[:, None]
        found = np.take_along_axis(value, first, axis=1)[:, 0].astype(np.float64)
        for _ in tried:
            yield np.where(seen.any(axis=1), found, np.nan)


class RangeMean(WithReferences):
    """Mean profile of the genes within a range of the TSS; of the nearest where there is none.

    Exact for any range, by running sums along the chromosome.

    Parameters
    ----------
    kilobases : float or None
        The range; None tunes it among :attr:`RANGES`.
    """

    RANGES: Final = (20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0)
    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="range_mean",
        inputs=_PROFILE,
        summary="Mean profile of the genes within a tuned range",
        reference=_RANGE,
        multi_output=True,
        defaults={"kilobases": None},
    )

    def __init__(self, *, kilobases: float | None = None) -> None:
        super().__init__(kilobases=kilobases)

    def grid(self) -> list[Settings]:
        """Ranges."""
        given = self.parameters["kilobases"]
        return [{"kilobases": float(r)} for r in (self.RANGES if given is None else (given,))]

    def keep(self, known: Profiles) -> None:
        """Sort the references; running sums of values and of what is known."""
        super().keep(known)
        around, genes = self.references.around, self.references.genes
        value = (genes.value - self.mean) * genes.seen
        self._sums = _running(value[around.order])
        self._counts = _running(genes.seen[around.order].astype(np.float64))

    def estimate(self, rows: Profiles, tried: list[Settings]) -> Iterator[NDArray[np.float64]]:
        """Differences of the running sums at the ends of the range, less the gene itself."""
        around, genes = self.references.around, self.references.genes
        itself = self.references.itself(rows)
        placed = np.where(itself >= 0, around.rank[np.maximum(itself, 0)] >= 0, False)
        own = np.where(itself >= 0, itself, 0)[:, None]
        own_seen = genes.seen[own[:, 0]] & placed[:, None]
        own_value = np.where(own_seen, genes.value[own[:, 0]] - self.mean, 0.0)
        nearest = None
        for one in tried:
            reach = one["kilobases"] * 1000
            low = around.position(rows.places.contig, rows.places.tss - reach)
            high = around.position(rows.places.contig, np.nextafter(rows.places.tss + reach, np.inf))  # fmt: skip
            count = self._counts[high] - self._counts[low] - own_seen
            total = self._sums[high] - self._sums[low] - own_value
            with np.errstate(invalid="ignore", divide="ignore"):
                found = np.where(count > 0.5, total / count + self.mean, np.nan)
            if nearest is None and (count < 0.5).any():
                nearest = next(NearestGene.estimate(self, rows, [{}]))  # type: ignore[arg-type] # it asks for references alone
            yield found if nearest is None else np.where(np.isnan(found), nearest, found)


class InverseDistance(WithReferences):
    """Mean profile of the k nearest genes, weighed by 1 / (distance + offset) ^ power.

    Parameters
    ----------
    neighbours, power, offset : int, float, float; or None
        ``offset`` in bp. None tunes it.
    """

    NEIGHBOURS: Final = (5, 10, 20, 40, 80)
    POWERS: Final = (0.5, 1.0, 2.0)
    OFFSETS: Final = (1e3, 1e4, 1e5)
    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="inverse_distance",
        inputs=_PROFILE,
        summary="Inverse-distance weighted mean of the nearest genes' profiles, tuned",
        reference="Shepard, Proc. 23rd ACM National Conference, 1968, doi:10.1145/800186.810616",
        multi_output=True,
        defaults={"neighbours": None, "power": None, "offset": None},
    )

    def __init__(
        self,
        *,
        neighbours: int | None = None,
        power: float | None = None,
        offset: float | None = None,
    ) -> None:
        super().__init__(neighbours=neighbours, power=power, offset=offset)

    def grid(self) -> list[Settings]:
        """All combinations of what is not given."""
        given = self.parameters
        return [
            {"neighbours": int(k), "power": float(power), "offset": float(offset)}
            for k in (self.NEIGHBOURS if given["neighbours"] is None else (given["neighbours"],))
            for power in (self.POWERS if given["power"] is None else (given["power"],))
            for offset in (self.OFFSETS if given["offset"] is None else (given["offset"],))
        ]

    def estimate(self, rows: Profiles, tried: list[Settings]) -> Iterator[NDArray[np.float64]]:
        """Weighted means."""
        near = self.references.nearest(rows, max(one["neighbours"] for one in tried))
        value, seen = _of(self, near.index)
        far = np.where(near.there, near.far, 0.0)
        for one in tried:
            k = one["neighbours"]
            weight = (far[:, :k] + one["offset"]) ** -one["power"] * near.there[:, :k]
            # In units of the largest: far from everything a weight is still a number.
            weight /= np.maximum(weight.max(axis=1, keepdims=True), 1e-300)
            yield _weighted(weight, value[:, :k], seen[:, :k])


class NearestGenes(WithReferences):
    """Plain mean profile of the k nearest genes.

    Parameters
    ----------
    neighbours : int or None
        k; None tunes it.
    """

    NEIGHBOURS: Final = (1, 2, 3, 5, 10, 20, 40, 80)
    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="nearest_genes",
        inputs=_PROFILE,
        summary="Mean profile of the k nearest genes on the chromosome",
        reference=_RANGE,
        multi_output=True,
        defaults={"neighbours": None},
    )

    def __init__(self, *, neighbours: int | None = None) -> None:
        super().__init__(neighbours=neighbours)

    def grid(self) -> list[Settings]:
        """Numbers of neighbours."""
        given = self.parameters["neighbours"]
        return [{"neighbours": int(k)} for k in (self.NEIGHBOURS if given is None else (given,))]

    def estimate(self, rows: Profiles, tried: list[Settings]) -> Iterator[NDArray[np.float64]]:
        """Means of those that are known."""
        near = self.references.nearest(rows, max(one["neighbours"] for one in tried))
        value, seen = _of(self, near.index)
        for one in tried:
            k = one["neighbours"]
            yield _weighted(near.there[:, :k].astype(np.float64), value[:, :k], seen[:, :k])


def _of(
    learner: WithReferences, index: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values of neighbours and whether they are known, (n, k, T)."""
    genes, there = learner.references.genes, index >= 0
    if not len(genes):
        shape = (*index.shape, genes.tissues)
        return np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
    found = np.maximum(index, 0)
    return genes.value[found], genes.seen[found] & there[..., None]


def _weighted(
    weight: NDArray[np.float64], value: NDArray[np.float32], seen: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Means over neighbours, tissue by tissue over those that are known; NaN for none."""
    total = np.einsum("nk,nkt->nt", weight, np.where(seen, value, 0.0))
    count = np.einsum("nk,nkt->nt", weight, seen.astype(np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, total / count, np.nan)


def _running(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of the first 0, 1, … rows."""
    return np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
