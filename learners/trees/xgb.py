"""XGBoost, fed shard by shard.

Chen & Guestrin, KDD 2016. A ``QuantileDMatrix`` built from an iterator holds only the binned
features (about 4.6 bytes a value with its working memory), never a float matrix beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import numpy as np

from featurestore.errors import InputError
from learners.base import Budget, LearnerInfo
from learners.batch import FeatureBatch, MiniBatch
from learners.compute import Clock, threads_of
from learners.trees.boosted import Curve, StreamedTrees

MEETING_SECONDS: Final = 600
"""How long the machines of a fit wait for one another at its begin and end."""


class XGBoost(StreamedTrees):
    """Boosted trees, one booster per target.

    Rounds stop early on the validation rows; the best number of rounds, scaled by the gain in
    rows, is then fitted on training and validation rows together.

    Parameters
    ----------
    learning_rate, max_depth, min_child_weight, subsample, colsample_bytree, reg_lambda, max_bin
        As XGBoost names them. Embeddings have many columns that say much the same, so each
        tree sees a fifth of them.
    rounds : int
        Most rounds; ``Budget.rounds`` lowers it.
    patience : int
        Rounds without a better validation error after which to stop.
    """

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="xgboost",
        inputs=frozenset({"tabular", "bins", "codes"}),
        summary="XGBoost, streamed, early stopping on validation, refit on both",
        reference="Chen & Guestrin, KDD 2016, doi:10.1145/2939672.2939785",
        multi_output=True,
        requires=("xgboost",),
        distributed=True,
        defaults={
            "learning_rate": 0.05,
            "max_depth": 4,
            "min_child_weight": 10.0,
            "subsample": 0.7,
            "colsample_bytree": 0.2,
            "reg_lambda": 1.0,
            "max_bin": 128,
            "rounds": 2000,
            "patience": 50,
        },
    )
    _suffix = ".ubj"

    def __init__(
        self,
        *,
        learning_rate: float = 0.05,
        max_depth: int = 4,
        min_child_weight: float = 10.0,
        subsample: float = 0.7,
        colsample_bytree: float = 0.2,
        reg_lambda: float = 1.0,
        max_bin: int = 128,
        rounds: int = 2000,
        patience: int = 50,
    ) -> None:
        settings = {
            "learning_rate": learning_rate,
            "max_depth": max_depth,
            "min_child_weight": min_child_weight,
            "subsample": subsample,
            "colsample_bytree": colsample_bytree,
            "reg_lambda": reg_lambda,
            "max_bin": max_bin,
        }
        super().__init__(settings, rounds, patience)

    def _parameters(self, seed: int, budget: Budget) -> dict[str, Any]:
        return self._settings | {
            "tree_method": "hist",
            "objective": "reg:squarederror",
            "seed": seed,
            "nthread": threads_of(budget),
            "device": _device(budget),
            "verbosity": 0,
        }

    def _dataset(
        self, batch: FeatureBatch, parameters: dict[str, Any], reference: Any = None
    ) -> Any:
        return quantile_matrix(batch, parameters, reference)

    def _errors(
        self, parameters: dict[str, Any], seen: Any, held_out: Any, limit: int, clock: Clock
    ) -> Curve:
        import xgboost

        history: dict[str, dict[str, list[float]]] = {}
        xgboost.train(
            parameters,
            seen,
            limit,
            evals=[(seen, "train"), (held_out, "valid")],
            early_stopping_rounds=self._patience,
            evals_result=history,
            verbose_eval=False,
            callbacks=[_stop_at(clock)],
        )
        return history["train"]["rmse"], history["valid"]["rmse"]

    def _train(self, parameters: dict[str, Any], data: Any, rounds: int) -> Any:
        import xgboost

        return xgboost.train(parameters, data, rounds)

    def _rows(self, batch: FeatureBatch, part: MiniBatch) -> Any:
        import xgboost

        return xgboost.DMatrix(batch.matrix(part, np.float32))

    @classmethod
    def booster_bytes(cls, booster: Any) -> bytes:
        """UBJSON."""
        return bytes(booster.save_raw("ubj"))

    @classmethod
    def booster_of(cls, data: bytes) -> Any:
        """From UBJSON."""
        import xgboost

        return xgboost.Booster(model_file=bytearray(data))

    validation_is_shared_out = True

    @classmethod
    @contextmanager
    def meeting(cls, client: Any, workers: Sequence[str]) -> Iterator[dict[str, Any]]:
        """A tracker of XGBoost's collective, in this process."""
        from distributed.utils import get_ip
        from xgboost.core import XGBoostError
        from xgboost.tracker import RabitTracker

        # The address by which this machine reaches the scheduler: workers reach it by that too.
        scheduler = urlsplit(client.scheduler.address).hostname
        tracker = RabitTracker(
            len(workers), get_ip(scheduler), sortby="task", timeout=MEETING_SECONDS
        )
        tracker.start()
        try:
            yield dict(tracker.worker_args())
        finally:
            # After a lost worker it complains of that too; the error under way says it better.
            with suppress(XGBoostError):
                tracker.free()

    @classmethod
    @contextmanager
    def joined(cls, meeting: Mapping[str, Any], rank: int) -> Iterator[dict[str, Any]]:
        """Joins the collective: sketches, histograms and errors are summed over its machines."""
        from xgboost.collective import CommunicatorContext

        with CommunicatorContext(**meeting, dmlc_task_id=f"{rank:06d}"):
            yield {}


def quantile_matrix(batch: FeatureBatch, parameters: dict[str, Any], reference: Any = None) -> Any:
    """A ``QuantileDMatrix`` read from the batch shard by shard, rows in the order of shards.

    ``reference`` lends its bin edges: without it validation rows would be binned on their own.
    """
    import xgboost

    class Shards(xgboost.DataIter):  # type: ignore[misc]
        def __init__(self) -> None:
            self._parts = batch.shards()
            super().__init__(release_data=True)

        def next(self, input_data: Callable[..., Any]) -> bool:
            part = next(self._parts, None)
            if part is None:
                return False
            input_data(data=batch.matrix(part, np.float32))
            return True

        def reset(self) -> None:
            self._parts = batch.shards()

    return xgboost.QuantileDMatrix(
        Shards(), max_bin=parameters["max_bin"], ref=reference, nthread=parameters["nthread"]
    )


def _device(budget: Budget) -> str:
    """The device, or an error that says which wheel has CUDA."""
    if budget.device.startswith("cuda"):
        import xgboost

        if not xgboost.build_info().get("USE_CUDA"):
            raise InputError(
                "this XGBoost has no CUDA; pip uninstall xgboost-cpu && pip install xgboost"
            )
    return budget.device


def _stop_at(clock: Clock) -> Any:
    import xgboost
    from xgboost import collective

    class StopAt(xgboost.callback.TrainingCallback):  # type: ignore[misc]
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            if not collective.is_distributed():
                return clock.spent()
            # All machines stop after the same round, or the others would wait for ever.
            spent = np.array([clock.spent()], np.int32)
            return bool(collective.allreduce(spent, collective.Op.MAX)[0])

    return StopAt()
