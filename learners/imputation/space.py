"""Where profiles are told as scores, and what surrounds a gene in terms of these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learners.imputation.annotation import Annotation
from learners.imputation.gaussian import Gaussian
from learners.imputation.neighbour_features import neighbour_table, neighbour_tokens
from learners.imputation.settings import HybridSettings
from learners.imputation.table import Profiles, References


@dataclass(frozen=True)
class Space:
    """Principal axes of the tissues' covariance over genes.

    Parameters
    ----------
    gaussian : Gaussian
        Fills what is not known.
    axes : float64 array, shape (T, R)
        Orthonormal; the tissues themselves where tissue correlations are switched off.
    """

    gaussian: Gaussian
    axes: NDArray[np.float64]

    @classmethod
    def of(cls, known: Profiles, settings: HybridSettings) -> Space:
        """Measure on what is known."""
        gaussian = Gaussian.of(known)
        if not settings.tissues:
            alone = np.diag(np.diag(gaussian.covariance))
            return cls(Gaussian(gaussian.mean, alone), np.eye(known.tissues))
        axes = np.linalg.eigh(gaussian.covariance)[1][:, ::-1][:, : settings.patterns]
        # The sign of an axis is arbitrary; a fixed one makes machines agree.
        sign = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
        return cls(gaussian, np.ascontiguousarray(axes * sign))

    def base(self, rows: Profiles) -> NDArray[np.float64]:
        """What to start from: other genotypes' means of the same gene, else tissue means."""
        if rows.elsewhere is None:
            return np.repeat(self.gaussian.mean[None], len(rows), axis=0)
        there = np.isfinite(rows.elsewhere)
        value = np.where(there, rows.elsewhere, 0).astype(np.float32)
        return self.gaussian.completed(Profiles(rows.gene, None, rows.places, value, there))

    def scores(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Coordinates of deviations from a base, shape (n, R)."""
        found: NDArray[np.float32] = (values @ self.axes).astype(np.float32)
        return found

    @property
    def sizes(self) -> NDArray[np.float64]:
        """Standard deviation along each axis, shape (R,)."""
        covariance = self.gaussian.covariance
        return np.asarray(np.sqrt(np.einsum("tr,ts,sr->r", self.axes, covariance, self.axes)))

    @property
    def patterns(self) -> NDArray[np.float64]:
        """The axes for targets of deviation one, each as long as its standard deviation."""
        spread = np.sqrt(np.diag(self.gaussian.covariance))
        return np.asarray(self.axes / spread[:, None] * self.sizes)


class Surroundings:
    """Reference genes and their scores.

    Parameters
    ----------
    known : Profiles
        Of the references.
    space : Space
    settings : HybridSettings
    annotation : Annotation, optional
        Of all genes, also those without a profile.
    """

    def __init__(
        self,
        known: Profiles,
        space: Space,
        settings: HybridSettings,
        annotation: Annotation | None = None,
    ) -> None:
        self.references, self._told = References(known), settings.told
        self._annotation = annotation
        genes = self.references.genes
        off = space.gaussian.completed(genes) - space.gaussian.mean
        self.profiles, self.scores = off.astype(np.float32), space.scores(off)
        self._units = (self.scores / np.maximum(space.sizes, 1e-6)).astype(np.float32)

    def table(self, rows: Profiles) -> NDArray[np.float32]:
        """What trees are told, (n, columns); none where neighbours are switched off."""
        if not self._told.neighbours:
            return np.zeros((len(rows), 0), np.float32)
        told = self._told
        table = neighbour_table(rows, self.references, self.scores, self.profiles, told)
        if self._annotation is None:
            return table
        lie = self._annotation.table(
            rows.places, distance=told.distance, orientation=told.orientation
        )
        return np.concatenate([table, lie], axis=1)

    def tokens(self, rows: Profiles, count: int) -> NDArray[np.float32]:
        """What the transformer is shown of the nearest, (n, count, columns)."""
        return neighbour_tokens(rows, self.references, self._units, self._told, count)
