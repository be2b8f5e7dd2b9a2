"""Features side by side, each feature with the same say, however many columns it has."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from learners.base import LearnerInfo
from learners.batch import FeatureBatch
from learners.linear import Ridge
from learners.search import Range, SearchSpace


class Concat(Ridge):
    """Ridge on standardised columns, those of each feature scaled to one sum of variances.

    Of ``a+b`` with 40 and 15,360 columns a plain ridge shrinks both alike, so that nearly all it
    may vary lies in ``b``; here each has half. A squared penalty of its own for each feature, of
    a fixed ratio (Nunez-Elizalde et al., NeuroImage 197:482, 2019). With one feature it is
    :class:`~learners.linear.Ridge`.

    Parameters
    ----------
    balance : float
        From 0, every column the same, to 1, every feature the same.
    penalty, grid
        As of :class:`~learners.linear.Ridge`.
    """

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="concat",
        inputs=Ridge.info.inputs,
        summary="Ridge on several features, each of the same say whatever its number of columns",
        reference="Nunez-Elizalde et al., NeuroImage 197:482, 2019",
        multi_output=True,
        requires=Ridge.info.requires,
        defaults={"balance": 1.0, **Ridge.info.defaults},
    )
    search_space: ClassVar[SearchSpace] = {"balance": Range(0.0, 2.0)}

    def __init__(
        self, *, balance: float = 1.0, penalty: float | None = None, grid: int = 33
    ) -> None:
        if not 0 <= balance <= 2:
            raise InputError(f"concat: balance={balance} must lie between 0 and 2")
        super().__init__(penalty=penalty, grid=grid)
        self._balance = balance

    def _column_scale(self, batch: FeatureBatch) -> NDArray[np.float64] | None:
        return block_scale([block.flat_columns for block in batch.blocks.values()], self._balance)

    def _parameters(self) -> dict[str, Any]:
        return {"balance": self._balance, **super()._parameters()}


def block_scale(columns: list[int], balance: float) -> NDArray[np.float64]:
    """Deviations of columns under which the features of ``columns`` columns weigh alike.

    The sum of variances over all columns stays their number, so that a grid of penalties that
    suits standardised columns suits these.
    """
    sizes = np.maximum(np.array(columns, np.float64), 1)  # a feature may have no bin at all
    variance = sizes**-balance
    variance *= sizes.sum() / (variance @ sizes)
    scale: NDArray[np.float64] = np.repeat(np.sqrt(variance), columns)
    return scale
