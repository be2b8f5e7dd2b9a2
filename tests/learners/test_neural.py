"""The training loop and the one-hot network against what must hold of any."""

from __future__ import annotations

import numpy as np
import pytest

from learners.base import Budget
from learners.batch import ArraySource, Block, FeatureBatch
from learners.simulated import simulate
from learners.targets import TargetScale

torch = pytest.importorskip("torch")

from learners.neural import rows, training  # noqa: E402
from learners.neural.average import BestEpochs  # noqa: E402
from learners.neural.onehot_cnn import OneHotCNN  # noqa: E402
from learners.neural.training import (  # noqa: E402
    TrainingPlan,
    predict_network,
    reproducible,
    train_network,
)

ONE = Budget(threads=1)


class Linear(torch.nn.Module):
    def __init__(self, columns: int, targets: int = 1) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(columns, targets)

    def forward(self, values: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.layer(values["simulated"])


def _train(
    plan: TrainingPlan,
    targets: int = 1,
    budget: Budget = ONE,
    mask: np.ndarray | None = None,
) -> tuple[Linear, training.Trained, TargetScale, FeatureBatch]:
    data = simulate("tabular", genes=300, targets=targets)
    train = data.train.with_mask(mask)
    scale = TargetScale.of(train)
    with reproducible(3, budget):
        network = Linear(6, targets)
        trained = train_network(
            network, train, data.valid, scale=scale, plan=plan, seed=3, budget=budget
        )
    return network, trained, scale, data.test


def test_the_loop_finds_the_least_squares_solution() -> None:
    plan = TrainingPlan(epochs=150, learning_rate=0.02, weight_decay=0.0, patience=150, average=1)
    network, _, scale, test = _train(plan)
    data = simulate("tabular", genes=300)
    x = np.column_stack([data.train.array(np.float64), np.ones(len(data.train))])
    solution = np.linalg.lstsq(x, data.train.require_targets(), rcond=None)[0]
    expected = np.column_stack([test.array(np.float64), np.ones(len(test))]) @ solution
    found = predict_network(network, test, scale=scale, size=64, budget=ONE)
    assert np.corrcoef(found[:, 0], expected[:, 0])[0, 1] > 0.995
    assert np.abs(found - expected).max() < 0.3


def test_the_best_epoch_is_restored_and_the_curve_is_in_the_targets_unit() -> None:
    plan = TrainingPlan(epochs=12, learning_rate=0.3, patience=4)
    network, trained, scale, _ = _train(plan)
    data = simulate("tabular", genes=300)
    found = predict_network(network, data.valid, scale=scale, size=64, budget=ONE)
    error = np.sqrt(((found - data.valid.require_targets()) ** 2).mean())
    curve = [point["valid"] for point in trained.learning_curve]
    assert error == pytest.approx(min(curve), rel=1e-5)
    assert trained.best_epoch == int(np.argmin(curve)) + 1
    assert [point["step"] for point in trained.learning_curve] == list(range(1, len(curve) + 1))
    assert len(curve) == 12 or len(curve) == trained.best_epoch + 4


def test_averaging_takes_the_mean_of_the_best_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[tuple[float, torch.Tensor]] = []
    offer = BestEpochs.offer

    def record(self: object, error: float, epoch: int, network: Linear) -> None:
        offered.append((error, network.layer.weight.detach().clone()))
        offer(self, error, epoch, network)  # type: ignore[arg-type]

    monkeypatch.setattr(BestEpochs, "offer", record)
    network, trained, *_ = _train(TrainingPlan(epochs=8, learning_rate=0.3, average=3))
    assert len(offered) == 8
    best = sorted(offered, key=lambda entry: entry[0])[:3]
    expected = torch.stack([weight for _, weight in best]).mean(dim=0)
    assert torch.allclose(network.layer.weight, expected)
    assert trained.learning_curve[trained.best_epoch - 1]["valid"] == min(
        point["valid"] for point in trained.learning_curve
    )


def test_streaming_and_caching_train_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = TrainingPlan(epochs=4)
    cached, first, *_ = _train(plan)
    monkeypatch.setattr(rows, "CACHE_BYTES", 0)
    streamed, second, *_ = _train(plan)
    assert torch.equal(cached.layer.weight, streamed.layer.weight)
    assert first.learning_curve == second.learning_curve


def test_masked_targets_are_not_learned_from() -> None:
    rng = np.random.default_rng(0)
    data = simulate("tabular", genes=300, targets=2)
    mask = rng.random(data.train.require_targets().shape) > 0.3
    spoilt = np.where(mask, data.train.require_targets(), 1e6)
    networks = []
    for labels in (spoilt, np.where(mask, data.train.require_targets(), np.nan)):
        train = data.train.with_targets(labels).with_mask(mask)
        scale = TargetScale.of(train)
        with reproducible(0, ONE):
            network = Linear(6, 2)
            train_network(
                network,
                train,
                data.valid,
                scale=scale,
                plan=TrainingPlan(epochs=3),
                seed=0,
                budget=ONE,
            )
        networks.append(network.layer.weight)
        assert scale.mean == pytest.approx(
            np.nanmean(np.where(mask, data.train.require_targets(), np.nan), axis=0)
        )
    assert torch.equal(*networks)


def test_budget_limits_epochs_and_seconds() -> None:
    plan = TrainingPlan(epochs=30, patience=30)
    assert len(_train(plan, budget=Budget(threads=1, rounds=2))[1].learning_curve) == 2
    assert len(_train(plan, budget=Budget(threads=1, seconds=0.0))[1].learning_curve) == 1


def test_torch_is_left_as_it_was_found() -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    strict = torch.are_deterministic_algorithms_enabled()
    with reproducible(1, ONE):
        torch.rand(3)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.are_deterministic_algorithms_enabled() == strict


def test_a_last_batch_of_one_row_is_no_trouble() -> None:
    data = simulate("codes", genes=120)
    learner = OneHotCNN(batch_size=len(data.train) - 1, epochs=2)
    learner.fit(data.train, data.valid, seed=0, budget=ONE)
    assert np.isfinite(learner.predict(data.test.without_targets())).all()


def test_padding_with_n_beside_a_short_region() -> None:
    """Regions padded to the longest carry N; the network takes them as they are."""
    rng = np.random.default_rng(1)
    values = rng.integers(0, 4, (60, 2, 50)).astype(np.uint8)
    values[:, 1, 30:] = 4
    ids = np.array([f"g{i}" for i in range(60)])
    source = ArraySource(values, kind="codes")
    y = rng.normal(size=(60, 1))
    batch = FeatureBatch({"c": Block(source, np.arange(60))}, ids, ids, ids, targets=y)
    learner = OneHotCNN(epochs=2)
    learner.fit(batch.take(np.arange(40)), batch.take(np.arange(40, 60)), seed=0, budget=ONE)
    assert np.isfinite(learner.predict(batch.without_targets())).all()
