"""Imputation by tissues alone: means, and genes with similar profiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from learners.base import Kind, LearnerInfo
from learners.imputation.imputer import Baseline, Settings
from learners.imputation.table import Profiles

_PROFILE: Final[frozenset[Kind]] = frozenset({"profile"})


class _Means(Baseline):
    """Knows no more than the tissue means."""

    missing = "nothing seen of their profile"

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The means."""
        return {"mean": self.mean}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up the means."""
        self.mean = arrays["mean"]


class TissueMean(_Means):
    """The mean of each tissue over all genes."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="tissue_mean",
        inputs=_PROFILE,
        summary="Mean of the tissue: what an imputation must beat",
        multi_output=True,
        control=True,
    )

    def __init__(self) -> None:
        super().__init__()

    def grid(self) -> list[Settings]:
        """Nothing to tune."""
        return [{}]

    def estimate(self, rows: Profiles, tried: list[Settings]) -> Iterator[NDArray[np.float64]]:
        """The means."""
        for _ in tried:
            yield np.repeat(self.mean[None], len(rows), axis=0)


class GeneTissueMean(_Means):
    """Tissue mean plus how far the gene lies above the tissue means where it is seen.

    Parameters
    ----------
    shrinkage : float or None
        The gene's deviation counts n / (n + shrinkage) for n tissues seen. None tunes it.
    """

    SHRINKAGE: Final = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="gene_tissue_mean",
        inputs=_PROFILE,
        summary="Tissue mean plus the gene's own mean deviation from it",
        multi_output=True,
        defaults={"shrinkage": None},
    )

    def __init__(self, *, shrinkage: float | None = None) -> None:
        super().__init__(shrinkage=shrinkage)

    def grid(self) -> list[Settings]:
        """Shrinkages."""
        given = self.parameters["shrinkage"]
        return [{"shrinkage": float(s)} for s in (self.SHRINKAGE if given is None else (given,))]

    def estimate(self, rows: Profiles, tried: list[Settings]) -> Iterator[NDArray[np.float64]]:
        """Additive."""
        count = rows.seen.sum(axis=1)
        above = np.where(rows.seen, rows.value - self.mean, 0.0).sum(axis=1)
        for one in tried:
            deviation = above / np.maximum(count + one["shrinkage"], 1e-9)
            found = self.mean + deviation[:, None]
            yield np.where(count[:, None] > 0, found, np.nan)


class ExpressionNeighbours(Baseline):
    """Mean of the k genes whose profiles are most similar where both are seen.

    Distances are mean squares over tissues seen in both, as scikit-learn's ``KNNImputer`` takes
    them; a tissue is averaged over the nearest k genes in which it is known.

    Parameters
    ----------
    neighbours : int or None
        k; None tunes it.
    """

    NEIGHBOURS: Final = (5, 10, 20, 40, 80)
    missing = "nothing seen of their profile"
    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="expression_neighbours",
        inputs=_PROFILE,
        summary="Mean of the k genes with the most similar profile",
        reference="Troyanskaya et al., Bioinformatics 17:520, 2001, "
        "doi:10.1093/bioinformatics/17.6.520",
        multi_output=True,
        defaults={"neighbours": None},
    )

    def __init__(self, *, neighbours: int | None = None) -> None:
        super().__init__(neighbours=neighbours)

    def grid(self) -> list[Settings]:
        """Numbers of neighbours."""
        given = self.parameters["neighbours"]
        return [{"neighbours": int(k)} for k in (self.NEIGHBOURS if given is None else (given,))]

    def keep(self, known: Profiles) -> None:
        """Lay the profiles out for products of matrices."""
        centred, seen = self._centred(known)
        self._points = np.concatenate([centred**2, centred, seen], axis=1).T.copy()
        self._seen = seen.T.copy()
        self._rows = {key: row for row, key in enumerate(_keys(known))}

    def estimate(self, rows: Profiles, tried: list[Settings]) -> Iterator[NDArray[np.float64]]:
        """Means over the nearest in which a tissue is known."""
        something = np.flatnonzero(rows.seen.any(axis=1))
        for found in self._of_seen(rows.take(something), tried):
            out = np.full(rows.value.shape, np.nan)
            out[something] = found
            yield out

    def _of_seen(self, rows: Profiles, tried: list[Settings]) -> Iterator[NDArray[np.float64]]:
        known, most = self.require_known(), max(one["neighbours"] for one in tried)
        # Genes in which a tissue is unknown are passed over, so more are looked at than k.
        density = max(0.05, float(known.seen.mean()))
        reach = min(len(known), int(most / density * 1.5) + 10)
        parts: list[list[NDArray[np.float64]]] = [[] for _ in tried]
        for start in range(0, len(rows), 512):
            some = rows.take(slice(start, start + 512))
            order = self._order(some, reach)
            for part, one in zip(parts, tried, strict=True):
                part.append(self._averages(some, order, one["neighbours"]))
        for part in parts:
            yield np.concatenate(part) if part else np.zeros((0, known.tissues))

    def _centred(self, rows: Profiles) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.where(rows.seen, rows.value - self.mean, 0.0), rows.seen.astype(np.float64)

    def _order(self, rows: Profiles, reach: int) -> NDArray[np.int64]:
        """The most similar genes of each row, the gene itself left out; shape (n, reach)."""
        centred, seen = self._centred(rows)
        square = np.concatenate([seen, -2 * centred, centred**2], axis=1) @ self._points
        shared = seen @ self._seen
        # Rounded, so that genes that are equally far are so whatever rows stand beside.
        far = np.round(np.where(shared > 0, square / np.maximum(shared, 1), np.inf), 9)
        for row, key in enumerate(_keys(rows)):
            if (own := self._rows.get(key)) is not None:
                far[row, own] = np.inf
        nearest = np.argpartition(far, min(reach, far.shape[1]) - 1, axis=1)[:, :reach]
        nearest.sort(axis=1)
        distance = np.take_along_axis(far, nearest, axis=1)
        by = np.argsort(distance, axis=1, kind="stable")
        order = np.take_along_axis(nearest, by, axis=1)
        return np.where(np.isinf(np.take_along_axis(distance, by, axis=1)), -1, order)

    def _averages(
        self, rows: Profiles, order: NDArray[np.int64], k: int
    ) -> NDArray[np.float64]:  # fmt: skip
        """Means over the nearest k genes in which a tissue is known, whatever lies between.

        Genes in which a telling tissue is unknown look alike for want of it: then all of the
        nearest may lack that very tissue, and the search goes on for such rows alone.
        """
        found, count = self._average(order, k)
        reach, genes = order.shape[1], len(self.require_known())
        lacking = np.flatnonzero(np.any((count < k) & ~rows.seen, axis=1))
        while len(lacking) and reach < genes:
            reach = min(4 * reach, genes)
            some = rows.take(lacking)
            found[lacking], count = self._average(self._order(some, reach), k)
            lacking = lacking[np.any((count < k) & ~some.seen, axis=1)]
        return found

    def _average(
        self, order: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        known = self.require_known()
        seen = known.seen[order] & (order >= 0)[..., None]
        used = seen & (np.cumsum(seen, axis=1) <= k)
        count = used.sum(axis=1)
        total = known.value[order].sum(axis=1, where=used, dtype=np.float64)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan), count


def _keys(rows: Profiles) -> list[str]:
    if rows.sample is None:
        return list(rows.gene.tolist())
    return list(np.char.add(np.char.add(rows.gene, "\t"), rows.sample).tolist())
