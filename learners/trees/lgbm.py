"""LightGBM, fed shard by shard.

Ke et al., NeurIPS 2017. A ``Sequence`` must give float64 (LightGBM issues 5045, 5057), and
bin edges are found on a sample of rows that LightGBM holds as float64, once by row and once by column
with its place: 20 bytes a value. Its default of 200,000 rows would cost 3 GB at 768 columns, so fewer
are taken.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from learners.base import Budget, LearnerInfo
from learners.batch import FeatureBatch
from learners.compute import threads_of
from learners.search import Choice, Range, SearchSpace
from learners.targets import TargetGroup
from learners.trees.boosted import Curve, Fitted, MakeDataset, Part, StreamedTrees
from learners.trees.rounds import Watch

SAMPLED_ROWS: Final = 20_000
"""Rows on which bin edges are found; same validation error as all rows, a third of the memory."""

SAMPLED_VALUES: Final = 60_000_000
"""Most values of these rows, of wide features."""

_VALUES_AT_ONCE: Final = 1 << 22

MEETING_MINUTES: Final = 10
"""How long the machines of a fit wait for one another."""


class LightGBM(StreamedTrees):
    """Leaf-wise boosted trees, one booster per target.

    Rounds stop early on the validation rows; the best number of rounds, scaled by the gain in
    rows, is then fitted on training and validation rows together. The wheel has no CUDA: that
    needs LightGBM built from its source.

    Parameters
    ----------
    learning_rate, num_leaves, min_data_in_leaf, bagging_fraction, feature_fraction, lambda_l2,
    max_bin
        As LightGBM names them.
    rounds : int
        Most rounds; ``Budget.rounds`` lowers it.
    patience : int
        Rounds without a better validation error after which to stop.
    """

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="lightgbm",
        inputs=frozenset({"tabular", "bins", "codes"}),
        summary="LightGBM, streamed, early stopping on validation, refit on both",
        reference="Ke et al., NeurIPS 2017",
        multi_output=True,
        requires=("lightgbm",),
        distributed=True,
        defaults={
            "learning_rate": 0.05,
            "num_leaves": 15,
            "min_data_in_leaf": 20,
            "bagging_fraction": 0.7,
            "feature_fraction": 0.2,
            "lambda_l2": 1.0,
            "max_bin": 127,
            "rounds": 2000,
            "patience": 50,
        },
    )
    search_space: ClassVar[SearchSpace] = {
        "learning_rate": Range(0.02, 0.3, log=True),
        "num_leaves": Range(4, 63, log=True, integer=True),
        "min_data_in_leaf": Range(5, 200, log=True, integer=True),
        "bagging_fraction": Range(0.4, 1.0),
        "feature_fraction": Range(0.02, 0.6, log=True),
        "lambda_l2": Range(0.1, 100.0, log=True),
        "max_bin": Choice((31, 63, 127, 255)),
    }
    _suffix = ".txt"

    def __init__(
        self,
        *,
        learning_rate: float = 0.05,
        num_leaves: int = 15,
        min_data_in_leaf: int = 20,
        bagging_fraction: float = 0.7,
        feature_fraction: float = 0.2,
        lambda_l2: float = 1.0,
        max_bin: int = 127,
        rounds: int = 2000,
        patience: int = 50,
    ) -> None:
        settings = {
            "learning_rate": learning_rate,
            "num_leaves": num_leaves,
            "min_data_in_leaf": min_data_in_leaf,
            "bagging_fraction": bagging_fraction,
            "feature_fraction": feature_fraction,
            "lambda_l2": lambda_l2,
            "max_bin": max_bin,
        }
        super().__init__(settings, rounds, patience)

    def _parameters(self, seed: int, budget: Budget) -> dict[str, Any]:
        return self._settings | {
            "objective": "regression",
            "metric": "rmse",
            "bagging_freq": 1,
            "seed": seed,
            "num_threads": threads_of(budget),
            "device_type": _device(budget),
            "deterministic": True,
            # Left on auto, the layout is chosen by a race, which is not deterministic;
            # row-wise was measured to be half as fast on embeddings.
            "force_col_wise": True,
            "feature_pre_filter": False,
            "verbosity": -1,
        }

    @contextmanager
    def _datasets(
        self, part: Part, parameters: dict[str, Any], budget: Budget
    ) -> Iterator[MakeDataset]:
        rows = max(1000, SAMPLED_VALUES // part.both.columns)
        sampled = {"bin_construct_sample_cnt": min(SAMPLED_ROWS, rows)}
        yield partial(streamed_dataset, parameters=parameters | sampled)

    def _errors(
        self, parameters: dict[str, Any], seen: Any, held_out: Any, limit: int, watch: Watch
    ) -> Curve:
        import lightgbm

        history: dict[str, dict[str, list[float]]] = {}
        lightgbm.train(
            parameters,
            seen,
            limit,
            valid_sets=[seen, held_out],
            valid_names=["train", "valid"],
            callbacks=[
                lightgbm.early_stopping(self._patience, verbose=False),
                lightgbm.record_evaluation(history),
                _stop_when(watch),
            ],
        )
        return history["train"]["rmse"], history["valid"]["rmse"]

    def _train(self, parameters: dict[str, Any], data: Any, rounds: int) -> Any:
        import lightgbm

        return lightgbm.train(parameters, data, rounds)

    def _shap(self, booster: Any, rows: Any) -> NDArray[Any]:
        return np.asarray(booster.predict(rows, pred_contrib=True))

    @classmethod
    def booster_bytes(cls, booster: Any) -> bytes:
        """LightGBM's text."""
        return str(booster.model_to_string()).encode()

    @classmethod
    def booster_of(cls, data: bytes) -> Any:
        """From LightGBM's text."""
        import lightgbm

        return lightgbm.Booster(model_str=data.decode())

    # LightGBM sums no errors over machines: each needs all validation rows, to stop with the others.
    validation_is_shared_out = False

    def _fit_group(
        self, group: TargetGroup, parameters: dict[str, Any], budget: Budget
    ) -> list[Fitted]:
        if budget.scheduler is not None and budget.seconds is not None:
            raise InputError(
                "lightgbm over several workers cannot stop by the clock, as its workers would stop after "
                "different rounds: limit the rounds instead (--rounds)"
            )
        return super()._fit_group(group, parameters, budget)

    @classmethod
    @contextmanager
    def meeting(cls, client: Any, workers: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Addresses of the workers, each with a port that is free there."""
        ports = client.run(free_port, workers=list(workers))
        hosts = [urlsplit(worker).hostname for worker in workers]
        yield {
            "machines": [f"{host}:{ports[w]}" for host, w in zip(hosts, workers, strict=True)],
            "ports": [ports[worker] for worker in workers],
        }

    @classmethod
    @contextmanager
    def joined(cls, meeting: Mapping[str, Any], rank: int) -> Iterator[dict[str, Any]]:
        """Joins LightGBM's network: bin edges and histograms are shared among its machines.

        The network belongs to the thread; it has to be there before the first data set, which
        ``lightgbm.train`` would be too late for.
        """
        import lightgbm

        machines = meeting["machines"]
        nothing = lightgbm.Dataset(np.zeros((2, 1)), np.zeros(2), params={"verbosity": -1})
        network = lightgbm.Booster({"verbosity": -1}, nothing)
        network.set_network(machines, meeting["ports"][rank], MEETING_MINUTES, len(machines))
        try:
            yield {
                "tree_learner": "data",
                "num_machines": len(machines),
                "pre_partition": True,
            }
        finally:
            network.free_network()


def streamed_dataset(batch: FeatureBatch, reference: Any, parameters: Mapping[str, Any]) -> Any:
    """A constructed ``Dataset`` read from the batch shard by shard, rows in the order of shards."""
    import lightgbm

    # Rows of one shard lie together, so that a slice reads few shards.
    ordered = batch.without_targets().take(batch.shard_order())

    class Rows(lightgbm.Sequence):  # type: ignore[misc]
        batch_size = max(64, min(2048, _VALUES_AT_ONCE // ordered.columns))

        def __init__(self) -> None:
            self._start, self._held = 0, np.empty((0, ordered.columns))

        def __len__(self) -> int:
            return len(ordered)

        def __getitem__(self, index: Any) -> NDArray[np.float64]:
            if isinstance(index, slice):
                rows = np.arange(*index.indices(len(ordered)), dtype=np.int64)
            elif isinstance(index, list):
                rows = np.array(index, np.int64)
            else:
                return self._one(int(index))
            found: NDArray[np.float64] = ordered.take(rows).array(np.float64)
            return found

        def _one(self, row: int) -> NDArray[np.float64]:
            # The sampler asks for single rows, ascending: read a block at a time.
            if not self._start <= row < self._start + len(self._held):
                self._start = row
                self._held = self[row : row + self.batch_size]
            one: NDArray[np.float64] = self._held[row - self._start]
            return one

    data = lightgbm.Dataset(
        Rows(), label=np.zeros(len(ordered)), reference=reference, params=dict(parameters)
    )
    return data.construct()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def _device(budget: Budget) -> str:
    """LightGBM's word for the device, or an error that says what it is not built for."""
    if not budget.device.startswith("cuda"):
        return "cpu"
    import lightgbm

    tiny = lightgbm.Dataset(np.zeros((4, 1)), np.zeros(4), params={"verbosity": -1})
    try:
        lightgbm.train({"device_type": "cuda", "verbosity": -1, "min_data_in_bin": 1}, tiny, 1)
    except lightgbm.basic.LightGBMError as error:
        raise InputError(
            f"this LightGBM cannot use {budget.device}, its wheel has no CUDA ({str(error).splitlines()[0]}): fit "
            "with --device cpu, use xgboost, or build LightGBM from source with -DUSE_CUDA=ON"
        ) from error
    return "cuda"


def _stop_when(watch: Watch) -> Callable[[Any], None]:
    import lightgbm

    def stop(state: Any) -> None:
        errors = [e for e in state.evaluation_result_list if e[0] == "valid"]
        if watch.over(state.iteration + 1, float(errors[0][2])):
            raise lightgbm.callback.EarlyStopException(state.iteration, errors)

    stop.order = 40  # type: ignore[attr-defined]  # after the recording of errors
    return stop
