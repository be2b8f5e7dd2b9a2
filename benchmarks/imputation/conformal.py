"""Split conformal intervals: how far from a prediction 90 % of validation entries lie, per scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LEVEL: Final = 0.9
_BINS: Final = 10
_LEAST: Final = 30
"""Entries below which a tissue or a level takes the scale of the whole scenario."""


@dataclass(frozen=True)
class Scale:
    """How large errors are in one scenario, by tissue and by predicted level.

    Parameters
    ----------
    tissue : float64 array, shape (tissue,)
        Mean absolute error of each tissue.
    edges : float64 array, shape (bins − 1,)
        Predicted levels that part the bins.
    level : float64 array, shape (bins,)
        Mean absolute error over its tissue's, of each bin.
    quantile : float
        Of the scores |error| / (tissue · level).
    n : int
        Entries it was made of.
    """

    tissue: NDArray[np.float64]
    edges: NDArray[np.float64]
    level: NDArray[np.float64]
    quantile: float
    n: int

    def of(self, predicted: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scale of each entry of predictions, shape (n, tissue)."""
        return np.asarray(self.tissue[None, :] * self.level[np.searchsorted(self.edges, predicted)])

    def facts(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "tissue": self.tissue.tolist(), "edges": self.edges.tolist(),
            "level": self.level.tolist(), "quantile": self.quantile, "n": self.n,
        }  # fmt: skip

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Scale:
        """What :meth:`facts` gave."""
        tissue, edges, level = (
            np.array(facts[name], np.float64) for name in ("tissue", "edges", "level")
        )
        return cls(tissue, edges, level, float(facts["quantile"]), int(facts["n"]))


@dataclass(frozen=True)
class Calibration:
    """Scales of the scenarios of a fold."""

    scales: dict[str, Scale]

    def reach(self, predicted: NDArray[np.float64], scenario: str) -> NDArray[np.float64]:
        """Half the width of the interval of each entry, shape (n, tissue); NaN in other scenarios."""
        scale = self.scales.get(scenario)
        if scale is None:
            return np.full(predicted.shape, np.nan)
        return scale.quantile * scale.of(predicted)

    def facts(self) -> dict[str, Any]:
        """As plain JSON."""
        return {name: scale.facts() for name, scale in self.scales.items()}

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Calibration:
        """What :meth:`facts` gave."""
        return cls({name: Scale.from_facts(one) for name, one in facts.items()})


def calibrate(
    learner: Any,
    value: NDArray[np.float64],
    wanted: NDArray[np.bool_],
    scenario: NDArray[np.object_],
) -> Calibration | None:
    """Intervals from what a learner predicted of validation rows before it had seen them.

    Parameters
    ----------
    learner
        Fitted; its ``held_out``, float64 (n, tissue), are such predictions.
    value : float64 array, shape (n, tissue)
        Of the rows of the validation batch.
    wanted : bool array, shape (n, tissue)
        Entries that validate.
    scenario : object array of str, shape (n,)

    Returns
    -------
    Calibration, or None where the learner gives no ``held_out`` of that shape
    """
    held = getattr(learner, "held_out", None)
    if held is None:
        return None
    held = np.asarray(held, np.float64)
    if held.shape != value.shape:
        raise ValueError(
            f"held_out has shape {held.shape} where the validation rows have {value.shape}"
        )
    scales = {}
    for name in dict.fromkeys(scenario.tolist()):
        here = scenario == name
        if wanted[here].any():
            scales[str(name)] = scale_of(held[here], value[here], wanted[here])
    return Calibration(scales)


def scale_of(
    predicted: NDArray[np.float64], value: NDArray[np.float64], wanted: NDArray[np.bool_]
) -> Scale:
    """Scale and quantile of one scenario.

    Errors are scaled by the mean absolute error of their tissue and of their predicted level; the
    interval reaches the ⌈0.9 (n + 1)⌉-th smallest scaled error.

    References
    ----------
    Lei, G'Sell, Rinaldo, Tibshirani & Wasserman (2018) Distribution-free predictive inference for
    regression. JASA 113:1094–1111 (split conformal, locally weighted).
    """
    rows, tissue = np.nonzero(wanted)
    p, error = predicted[rows, tissue], np.abs(predicted[rows, tissue] - value[rows, tissue])
    overall = float(error.mean()) or 1e-9
    of_tissue = _means(tissue, error, predicted.shape[1], overall)
    edges = np.unique(np.quantile(p, np.linspace(0, 1, _BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, p)
    level = _means(bins, error / of_tissue[tissue], len(edges) + 1, 1.0)
    level = np.maximum(level, 0.05)  # a level without error in validation may have some in test
    scores = error / (of_tissue[tissue] * level[bins])
    rank = int(np.ceil(LEVEL * (len(scores) + 1)))
    quantile = np.inf if rank > len(scores) else float(np.partition(scores, rank - 1)[rank - 1])
    return Scale(of_tissue, edges, level, quantile, len(scores))


def _means(
    index: NDArray[np.int64], values: NDArray[np.float64], size: int, otherwise: float
) -> NDArray[np.float64]:
    """Mean of each index; ``otherwise`` where there are few."""
    count = np.bincount(index, minlength=size)
    sums = np.bincount(index, values, minlength=size)
    found = np.where(count >= _LEAST, sums / np.maximum(count, 1), otherwise)
    return np.asarray(np.maximum(found, 1e-9), np.float64)
