"""Ridge regression, the baseline that every other learner has to beat.

Hoerl & Kennard, Technometrics 12:55, 1970. Primal (normal equations, one pass over shards,
memory independent of the number of rows) where there are fewer columns than rows, dual
(kernel of rows) where there are more.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from learners.base import Budget, LearnerInfo
from learners.batch import FeatureBatch, concat
from learners.compute import limited_threads
from learners.disk import checked_load, load_arrays, load_config, save_state
from learners.layout import check_layout, layout_of, require_features
from learners.linear_wide import WIDE, Solution, wide_dual, wide_primal
from learners.standardise import Standardiser
from learners.targets import target_groups

_COLUMNS_AT_A_TIME: Final = 4096


class Ridge:
    """Linear regression with a squared penalty.

    Columns are standardised from training rows. The penalty is chosen per target on the
    validation rows over a logarithmic grid by one eigendecomposition; the weights are then
    refitted on training and validation rows at that penalty.

    Parameters
    ----------
    penalty : float or None
        The α of ``‖y − Xw‖² + α‖w‖²`` on standardised columns; None tunes it.
    grid : int
        Penalties tried, from 1e-4 to 1e4 times max(rows, columns), which is the mean nonzero
        eigenvalue of the standardised normal equations.
    """

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="ridge",
        inputs=frozenset({"tabular", "bins", "codes"}),
        summary="Ridge regression, penalty tuned on validation, streamed normal equations",
        reference="Hoerl & Kennard, Technometrics 12:55, 1970",
        multi_output=True,
        requires=("scipy",),
        defaults={"penalty": None, "grid": 33},
    )

    def __init__(self, *, penalty: float | None = None, grid: int = 33) -> None:
        self._fixed = penalty
        self._grid = grid
        self._layout: dict[str, Any] = {}
        self._weight = np.zeros((0, 0))
        self._intercept = np.zeros(0)
        self.penalty = np.zeros(0)
        """Penalty in use, shape (t,), after the fit."""

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Fit; the seed is not needed, the solution is unique."""
        require_features(train, self.info.name)
        self._layout = layout_of(train)
        check_layout(self._layout, valid)
        targets = train.require_targets().shape[1]
        self._weight = np.empty((train.columns, targets))
        self._intercept, self.penalty = np.empty(targets), np.empty(targets)
        with limited_threads(budget):
            for group in target_groups(train, valid):
                found = self._solve(group.train, group.valid)
                # ŷ = ((x − mean) · inverse) w + b, with mean and inverse folded into w and b.
                weight = found.weight * found.standardiser.inverse[:, None]
                self._weight[:, group.columns] = weight
                self._intercept[group.columns] = found.intercept - found.standardiser.mean @ weight
                self.penalty[group.columns] = found.penalty

    def _solve(self, train: FeatureBatch, valid: FeatureBatch) -> Solution:
        scale = max(len(train), train.columns)
        fixed = self._fixed
        grid = np.logspace(-4, 4, self._grid) * scale if fixed is None else np.array([float(fixed)])
        scales = self._column_scale(train)
        if train.columns <= len(train):
            solver = wide_primal if train.columns > WIDE else _primal
        else:
            solver = wide_dual if len(train) > WIDE else _dual
        return solver(train, valid, grid, scales)

    def _column_scale(self, batch: FeatureBatch) -> NDArray[np.float64] | None:
        """Deviation that each column is brought to, shape (columns,); None for 1."""
        return None

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Predict, shape (n, t), one shard at a time."""
        check_layout(self._layout, batch)
        out = np.empty((len(batch), len(self._intercept)))
        for part in batch.shards():
            out[part.index] = batch.matrix(part, np.float64) @ self._weight + self._intercept
        return out

    def save(self, path: Path) -> None:
        """Write the weights as safetensors."""
        arrays = {"weight": self._weight, "intercept": self._intercept, "penalty": self.penalty}
        config = {
            "learner": self.info.name,
            "parameters": self._parameters(),
            "layout": self._layout,
        }
        save_state(path, config, arrays)

    def _parameters(self) -> dict[str, Any]:
        """Those of the constructor."""
        return {"penalty": self._fixed, "grid": self._grid}

    @classmethod
    @checked_load
    def load(cls, path: Path) -> Ridge:
        """Read what :meth:`save` wrote."""
        config, arrays = load_config(path, cls.info.name), load_arrays(path)
        learner = cls(**config["parameters"])
        learner._layout = config["layout"]
        learner._weight, learner._intercept = arrays["weight"], arrays["intercept"]
        learner.penalty = arrays["penalty"]
        return learner


class _NormalEquations:
    """XᵀX and Xᵀy around a shift, accumulated shard by shard in float64."""

    def __init__(self, shift: NDArray[np.float64], target_shift: NDArray[np.float64]) -> None:
        columns, targets = len(shift), len(target_shift)
        self.shift, self.target_shift, self.rows = shift, target_shift, 0
        self.x, self.y = np.zeros(columns), np.zeros(targets)
        self.xx, self.xy = np.zeros((columns, columns)), np.zeros((columns, targets))

    def add(self, batch: FeatureBatch) -> None:
        labels = batch.require_targets() - self.target_shift
        for part in batch.shards():
            rows = batch.matrix(part, np.float64)
            rows -= self.shift
            here = labels[part.index]
            self.rows += len(rows)
            self.x += rows.sum(axis=0)
            self.y += here.sum(axis=0)
            self.xx += rows.T @ rows
            self.xy += rows.T @ here

    def standardiser(self) -> Standardiser:
        return Standardiser.of_moments(self.rows, self.shift, self.x, np.diagonal(self.xx).copy())

    def centred(
        self, inverse: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Gram matrix and right-hand side of columns centred on their mean and scaled."""
        gram = self.xx - np.outer(self.x, self.x / self.rows)
        gram *= inverse
        gram *= inverse[:, None]
        right = self.xy - np.outer(self.x, self.y / self.rows)
        return gram, right * inverse[:, None]


def _primal(
    train: FeatureBatch,
    valid: FeatureBatch,
    grid: NDArray[np.float64],
    scales: NDArray[np.float64] | None = None,
) -> Solution:
    from scipy.linalg import eigh

    # Sums are taken around the first row, so that a large mean costs no digits.
    first = train.take(np.zeros(1, np.int64)).array(np.float64)[0]
    equations = _NormalEquations(first, train.require_targets().mean(axis=0))
    equations.add(train)
    standardiser = equations.standardiser().scaled(scales)
    gram, right = equations.centred(standardiser.inverse)
    best = np.zeros(right.shape[1], np.int64)
    if len(grid) > 1:
        values, vectors = eigh(gram, overwrite_a=True, check_finite=False)
        turned = vectors.T @ right
        loss = np.zeros((len(grid), right.shape[1]))
        labels = valid.require_targets() - train.require_targets().mean(axis=0)
        for part in valid.shards():
            projected = standardiser.matrix(valid, part) @ vectors
            for i, penalty in enumerate(grid):
                scores = projected @ (turned / (values + penalty)[:, None])
                loss[i] += ((scores - labels[part.index]) ** 2).sum(axis=0)
        best = loss.argmin(axis=0)
        del values, vectors
    equations.add(valid)
    gram, right = equations.centred(standardiser.inverse)
    weight = _solve_each(gram, right, grid[best])
    centre = (equations.shift + equations.x / equations.rows - standardiser.mean) * (
        standardiser.inverse
    )
    intercept = equations.target_shift + equations.y / equations.rows - centre @ weight
    return Solution(standardiser, weight, intercept, grid[best])


def _dual(
    train: FeatureBatch,
    valid: FeatureBatch,
    grid: NDArray[np.float64],
    scales: NDArray[np.float64] | None = None,
) -> Solution:
    from scipy.linalg import eigh

    both, n = concat(train, valid), len(train)
    standardiser = Standardiser.fit(train).scaled(scales)
    stored = [block.source.dtype for block in both.blocks.values() if block.kind != "codes"]
    features = both.array(np.result_type(np.float32, *stored))
    kernel = np.zeros((len(both), len(both)))
    for _, rows in _standardised_columns(features, standardiser):
        kernel += rows @ rows.T
    labels = both.require_targets()
    best = np.zeros(labels.shape[1], np.int64)
    if len(grid) > 1:
        values, vectors = eigh(kernel[:n, :n], check_finite=False)
        values = np.maximum(values, 0.0)  # rounding leaves small negative ones
        mean = labels[:n].mean(axis=0)
        turned, projected = vectors.T @ (labels[:n] - mean), kernel[n:, :n] @ vectors
        loss = np.empty((len(grid), labels.shape[1]))
        for i, penalty in enumerate(grid):
            scores = projected @ (turned / (values + penalty)[:, None]) + mean
            loss[i] = ((scores - labels[n:]) ** 2).mean(axis=0)
        best = loss.argmin(axis=0)
    # Centre on the rows of both: H K H with H = I − 1/m.
    kernel -= kernel.mean(axis=0)
    kernel -= kernel.mean(axis=1, keepdims=True)
    mean = labels.mean(axis=0)
    coefficient = _solve_each(kernel, labels - mean, grid[best])
    coefficient -= coefficient.mean(axis=0)
    weight, centre = np.empty((both.columns, labels.shape[1])), np.empty(both.columns)
    for columns, rows in _standardised_columns(features, standardiser):
        weight[columns] = rows.T @ coefficient
        centre[columns] = rows.mean(axis=0)
    return Solution(standardiser, weight, mean - centre @ weight, grid[best])


def _standardised_columns(
    features: NDArray[Any], standardiser: Standardiser
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Blocks of columns in float64, so that only one is ever held beside the stored dtype."""
    for start in range(0, features.shape[1], _COLUMNS_AT_A_TIME):
        columns = slice(start, start + _COLUMNS_AT_A_TIME)
        rows = features[:, columns].astype(np.float64)
        yield columns, (rows - standardiser.mean[columns]) * standardiser.inverse[columns]


def _solve_each(
    matrix: NDArray[np.float64], right: NDArray[np.float64], penalties: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve (matrix + penalty · I) w = right, one Cholesky for each distinct penalty."""
    from scipy.linalg import cho_factor, cho_solve

    out = np.empty_like(right)
    diagonal = np.einsum("ii->i", matrix)
    for penalty in np.unique(penalties):
        here = penalties == penalty
        kept = diagonal.copy()
        diagonal += penalty
        factor = cho_factor(matrix, check_finite=False)
        out[:, here] = cho_solve(factor, right[:, here], check_finite=False)
        diagonal[:] = kept
    return out
