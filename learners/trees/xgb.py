"""XGBoost, fed shard by shard.

Chen & Guestrin, KDD 2016. Only the binned features are held (about two bytes a value), or, past
the memory, a few pages of them: :mod:`learners.trees.matrices`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from learners.base import Budget, LearnerInfo
from learners.batch import FeatureBatch, MiniBatch
from learners.compute import memory_of, threads_of
from learners.search import Choice, Range, SearchSpace
from learners.targets import TargetGroup
from learners.trees.boosted import Curve, MakeDataset, Part, StreamedTrees
from learners.trees.matrices import BYTES_PER_VALUE, binned_matrix
from learners.trees.rounds import Watch

MEETING_SECONDS: Final = 600
"""How long the machines of a fit wait for one another at its begin and end."""


_STRATEGIES: Final = ("one_output_per_tree", "multi_output_tree")


class XGBoost(StreamedTrees):
    """Boosted trees, one booster per target.

    Rounds stop early on the validation rows; the best number of rounds, scaled by the gain in
    rows, is then fitted on training and validation rows together.

    Parameters
    ----------
    learning_rate, max_depth, min_child_weight, subsample, colsample_bytree, reg_lambda, max_bin
        As XGBoost names them. Embeddings have many columns that say much the same, so each
        tree sees a fifth of them.
    multi_strategy : {"one_output_per_tree", "multi_output_tree"}
        Trees of their own for each target, or one booster whose leaves are vectors for all targets
        that are observed in the same genes.
    sketched_rows : int or None
        Rows on which the bin edges of more than 512 columns are found; None is all.
    external_memory : bool or None
        Keep the binned features in a temporary file instead of memory. None does so where they would
        not fit the memory of the budget, or that of the machine.
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
            "multi_strategy": "one_output_per_tree",
            "sketched_rows": 20_000,
            "external_memory": None,
            "rounds": 2000,
            "patience": 50,
        },
    )
    search_space: ClassVar[SearchSpace] = {
        "learning_rate": Range(0.02, 0.3, log=True),
        "max_depth": Range(2, 8, integer=True),
        "min_child_weight": Range(1.0, 100.0, log=True),
        "subsample": Range(0.4, 1.0),
        "colsample_bytree": Range(0.02, 0.6, log=True),
        "reg_lambda": Range(0.1, 100.0, log=True),
        "max_bin": Choice((32, 64, 128, 256)),
    }
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
        multi_strategy: Literal["one_output_per_tree", "multi_output_tree"] = (
            "one_output_per_tree"
        ),
        sketched_rows: int | None = 20_000,
        external_memory: bool | None = None,
        rounds: int = 2000,
        patience: int = 50,
    ) -> None:
        if multi_strategy not in _STRATEGIES:
            raise InputError(
                f"multi_strategy {multi_strategy!r}: choose {' or '.join(_STRATEGIES)}"
            )
        self._multi_strategy = multi_strategy
        self._sketched_rows, self._external_memory = sketched_rows, external_memory
        settings = {
            "learning_rate": learning_rate,
            "max_depth": max_depth,
            "min_child_weight": min_child_weight,
            "subsample": subsample,
            "colsample_bytree": colsample_bytree,
            "reg_lambda": reg_lambda,
            "max_bin": max_bin,
        }
        super().__init__(
            settings, rounds, patience, multi_strategy=multi_strategy,
            sketched_rows=sketched_rows, external_memory=external_memory,
        )  # fmt: skip

    def _parameters(self, seed: int, budget: Budget) -> dict[str, Any]:
        return self._settings | {
            "tree_method": "hist",
            "multi_strategy": self._multi_strategy,
            "objective": "reg:squarederror",
            "seed": seed,
            "nthread": threads_of(budget),
            "device": _device(budget),
            "verbosity": 0,
        }

    @contextmanager
    def _datasets(
        self, part: Part, parameters: dict[str, Any], budget: Budget
    ) -> Iterator[MakeDataset]:
        make = partial(
            binned_matrix, max_bin=parameters["max_bin"], threads=parameters["nthread"],
            sketched_rows=self._sketched_rows,
        )  # fmt: skip
        if not self._beyond_memory(part, parameters, budget):
            yield make
            return
        # On a local disk: the file is mapped, and a network file system may take pages away.
        with tempfile.TemporaryDirectory(prefix="meristem-xgboost-") as folder:
            yield partial(make, folder=Path(folder))

    def _beyond_memory(self, part: Part, parameters: dict[str, Any], budget: Budget) -> bool:
        """Whether the binned features are to lie in a file; the same on all machines of a fit."""
        if self._external_memory is not None:
            return self._external_memory
        from xgboost import collective

        columns, nodes = part.both.columns, 2 ** parameters["max_depth"]
        need = BYTES_PER_VALUE * len(part.both) * columns
        need += 16.0 * columns * parameters["max_bin"] * 2 * nodes  # sums of gradients of all nodes
        beyond: bool = need > memory_of(budget)
        if collective.is_distributed():
            beyond = bool(collective.allreduce(np.array([beyond], np.int32), collective.Op.MAX)[0])
        return beyond

    def _together(self, group: TargetGroup) -> list[list[int]]:
        if self._multi_strategy == "multi_output_tree":
            return [list(range(len(group.columns)))]
        return super()._together(group)

    def _errors(
        self, parameters: dict[str, Any], seen: Any, held_out: Any, limit: int, watch: Watch
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
            callbacks=[_stop_when(watch)],
        )
        return history["train"]["rmse"], history["valid"]["rmse"]

    def _train(self, parameters: dict[str, Any], data: Any, rounds: int) -> Any:
        import xgboost

        return xgboost.train(parameters, data, rounds)

    def _rows(self, batch: FeatureBatch, part: MiniBatch) -> Any:
        import xgboost

        return xgboost.DMatrix(batch.matrix(part, np.float32))

    def _shap(self, booster: Any, rows: Any) -> NDArray[Any]:
        if self._multi_strategy == "multi_output_tree":
            raise InputError(
                "XGBoost has no SHAP values of trees whose leaves are vectors; fit with "
                "--param multi_strategy=one_output_per_tree"
            )
        found: NDArray[Any] = booster.predict(rows, pred_contribs=True)
        return found

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


def _device(budget: Budget) -> str:
    """The device, or an error that says which wheel has CUDA."""
    if budget.device.startswith("cuda"):
        import xgboost

        if not xgboost.build_info().get("USE_CUDA"):
            raise InputError(
                "this XGBoost has no CUDA; pip uninstall xgboost-cpu && pip install xgboost"
            )
    return budget.device


def _stop_when(watch: Watch) -> Any:
    import xgboost
    from xgboost import collective

    class StopWhen(xgboost.callback.TrainingCallback):  # type: ignore[misc]
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            over = watch.over(epoch + 1, float(evals_log["valid"]["rmse"][-1]))
            if not collective.is_distributed():
                return over
            # All machines stop after the same round, or the others would wait for ever.
            return bool(collective.allreduce(np.array([over], np.int32), collective.Op.MAX)[0])

    return StopWhen()
