"""The loop's parts against plain loops and formulas written here; a fit taken up is one never killed."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from featurestore.errors import InputError, UnknownNameError
from learners.base import Budget, LearnerInfo
from learners.batch import Block, FeatureBatch
from learners.neural import rows as rows_module
from learners.neural.average import MovingAverage, mean_of
from learners.neural.checkpoint import Checkpoint
from learners.neural.distributed import Ranks
from learners.neural.learner import TorchLearner
from learners.neural.plan import Schedule, TrainingPlan, make_optimiser
from learners.neural.rows import Rows
from learners.neural.training import reproducible, train_network
from learners.simulated import simulate
from learners.targets import TargetScale
from learners.unpickled import pickles_in

ONE = Budget(threads=1)


class Perceptron(TorchLearner):
    """Batch normalisation and dropout: buffers that change, random numbers that are drawn."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="perceptron", inputs=frozenset({"tabular"}), summary="for a test"
    )

    def build(self, layout: Mapping[str, Any], targets: int) -> nn.Module:
        return Network(next(iter(layout.values()))["shape"][0], targets)

    def plan(self) -> TrainingPlan:
        return TrainingPlan(**{"epochs": 8, "batch_size": 32, **self.parameters})


class Network(nn.Module):
    def __init__(self, width: int, targets: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, targets)
        )  # fmt: skip

    def forward(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.layers(next(iter(values.values())))


class Killed(BaseException):
    """Ends a fit as a signal would: nothing of it is caught on the way."""


def kill_after(epoch: int) -> Any:
    def say(line: str) -> None:
        if line.startswith(f"epoch {epoch}/"):
            raise Killed

    return say


def fitted(learner: Perceptron, budget: Budget = ONE, seed: int = 3) -> Perceptron:
    data = simulate("tabular", genes=300)
    learner.fit(data.train, data.valid, seed=seed, budget=budget)
    return learner


TEST = simulate("tabular", genes=300).test.without_targets()


# -- resume ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"schedule": "plateau", "plateau_patience": 1, "learning_rate": 0.05},
        {"schedule": "constant", "optimiser": "adam", "ema": 0.9, "average": 3},
        {"average": 3, "averaged": "predictions"},
    ],
)
@pytest.mark.parametrize("epoch", [1, 5])
def test_a_fit_taken_up_is_one_never_killed(tmp_path: Path, settings: dict, epoch: int) -> None:
    whole = fitted(Perceptron(**settings))
    kept = replace(ONE, checkpoint=tmp_path)
    with pytest.raises(Killed):
        fitted(Perceptron(**settings), replace(kept, say=kill_after(epoch)))
    said: list[str] = []
    resumed = fitted(Perceptron(**settings), replace(kept, say=said.append))
    assert said[0] == f"taken up after epoch {epoch}"
    assert len(said) == 1 + 8 - epoch
    assert np.array_equal(whole.predict(TEST), resumed.predict(TEST))
    assert whole.learning_curve == resumed.learning_curve
    assert whole.best_step == resumed.best_step


def test_a_checkpoint_changes_nothing_and_is_no_pickle(tmp_path: Path) -> None:
    kept = fitted(Perceptron(), replace(ONE, checkpoint=tmp_path))
    assert np.array_equal(kept.predict(TEST), fitted(Perceptron()).predict(TEST))
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]
    assert not pickles_in(tmp_path)


def test_what_is_finished_is_not_trained_again(tmp_path: Path) -> None:
    kept = replace(ONE, checkpoint=tmp_path)
    first, said = fitted(Perceptron(average=2), kept), []
    again = fitted(Perceptron(average=2), replace(kept, say=said.append))
    assert said == ["taken up after epoch 8"]
    assert np.array_equal(first.predict(TEST), again.predict(TEST))
    assert first.learning_curve == again.learning_curve


@pytest.mark.parametrize("other", ["seed", "settings", "genes", "labels"])
def test_the_checkpoint_of_another_fit_is_not_taken(tmp_path: Path, other: str) -> None:
    kept = replace(ONE, checkpoint=tmp_path)
    with pytest.raises(Killed):
        fitted(Perceptron(), replace(kept, say=kill_after(3)))
    data = simulate("tabular", genes=300)
    train, learner, seed = data.train, Perceptron(), 3
    if other == "seed":
        seed = 4
    elif other == "settings":
        learner = Perceptron(weight_decay=0.5)
    elif other == "genes":
        train = train.take(np.arange(1, len(train)))
    else:
        train = train.with_targets(train.require_targets() + np.eye(len(train), 1))
    said: list[str] = []
    learner.fit(train, data.valid, seed=seed, budget=replace(kept, say=said.append))
    assert not any("taken up" in line for line in said)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_broken_checkpoint_is_as_none(tmp_path: Path) -> None:
    kept = replace(ONE, checkpoint=tmp_path)
    with pytest.raises(Killed):
        fitted(Perceptron(), replace(kept, say=kill_after(3)))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    said: list[str] = []
    resumed = fitted(Perceptron(), replace(kept, say=said.append))
    assert said[0].startswith("epoch 1/8")
    assert np.array_equal(resumed.predict(TEST), fitted(Perceptron()).predict(TEST))


def test_a_write_that_is_cut_short_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Checkpoint(tmp_path, "d" * 64)
    one.write({"x": torch.ones(3)}, {"epoch": 1})

    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("learners.neural.checkpoint.save_file", full)
    with pytest.raises(OSError, match="no space"):
        one.write({"x": torch.zeros(3)}, {"epoch": 2})
    found = one.read()
    assert found is not None
    assert found[1]["epoch"] == 1
    assert found[0]["x"].tolist() == [1, 1, 1]


def test_seconds_before_the_kill_count(tmp_path: Path) -> None:
    budget = replace(ONE, checkpoint=tmp_path, seconds=1e-9)
    assert len(fitted(Perceptron(), budget).learning_curve) == 1


# -- reporting -------------------------------------------------------------------------------------


def test_whoever_is_told_of_the_steps_may_end_the_fit(tmp_path: Path) -> None:
    told: list[tuple[int, float]] = []

    def on_step(step: int, valid: float) -> bool:
        told.append((step, valid))
        return step == 3

    learner = fitted(Perceptron(), replace(ONE, on_step=on_step, checkpoint=tmp_path))
    assert [(p["step"], p["valid"]) for p in learner.learning_curve] == told
    assert len(told) == 3
    assert list(tmp_path.iterdir()) == []  # it is not what the fit would have been without


def test_a_training_that_diverges_says_so() -> None:
    data = simulate("tabular", genes=300)
    scale = TargetScale.of(data.train)
    network = Network(6, 1)
    with torch.no_grad():
        network.layers[0].weight.fill_(math.nan)
    with pytest.raises(InputError, match="diverges at learning_rate"):
        train_network(
            network, data.train, data.valid, scale=scale, plan=TrainingPlan(), seed=0, budget=ONE
        )


# -- the parts against what they are defined as ------------------------------------------------


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
def test_an_epoch_is_that_of_a_plain_loop(optimiser: str) -> None:
    data = simulate("tabular", genes=300, targets=2)
    scale = TargetScale.of(data.train)
    plan = TrainingPlan(
        epochs=2, batch_size=50, optimiser=optimiser, schedule="constant", warmup=0.0,
        weight_decay=0.1, learning_rate=0.01, clip_norm=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(6, 2))
    theirs = nn.Linear(6, 2)
    theirs.load_state_dict(ours[0].state_dict())

    class Of(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = ours

        def forward(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
            return self.inner(values["simulated"])

    with reproducible(1, ONE):
        trained = train_network(
            Of(), data.train, data.valid, scale=scale, plan=plan, seed=9, budget=ONE
        )
    kind = torch.optim.Adam if optimiser == "adam" else torch.optim.AdamW
    steps = kind(
        [
            {"params": [theirs.weight], "weight_decay": 0.1},
            {"params": [theirs.bias], "weight_decay": 0.0},
        ],
        lr=0.01,
    )
    x = torch.from_numpy(data.train.array())
    y = torch.from_numpy(scale.apply(data.train.require_targets())).float()
    seen = Rows(data.train, scale, "cpu", Ranks(), seed=9)
    states, errors = [], []
    held_x = torch.from_numpy(data.valid.array())
    held_y = torch.from_numpy(scale.apply(data.valid.require_targets())).float()
    for epoch in range(2):
        order = seen.order(50, epoch)
        for start in range(0, len(order), 50):
            rows = order[start : start + 50]
            steps.zero_grad()
            ((theirs(x[rows]) - y[rows]) ** 2).mean().backward()
            nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
            steps.step()
        states.append(theirs.weight.detach().clone())
        errors.append(float(((theirs(held_x) - held_y) ** 2).mean().sqrt().detach()))
    best = int(np.argmin(errors))
    assert torch.allclose(ours[0].weight, states[best], atol=1e-6)
    assert trained.best_epoch == best + 1
    unit = scale.deviation.mean()
    assert [p["valid"] for p in trained.learning_curve] == pytest.approx([e * unit for e in errors])


def test_the_moving_average_is_its_formula() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    average, decay = MovingAverage(network, 0.6), 0.6
    expected = network[0].weight.detach().clone().double()
    mean = network[1].running_mean.clone().double()
    for step in range(1, 12):
        with torch.no_grad():
            network[0].weight.add_(torch.randn(3, 2))
        network(torch.randn(8, 2))
        average.update(network)
        kept = min(decay, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * network[0].weight.detach().double()
        mean = kept * mean + (1 - kept) * network[1].running_mean.double()
    assert torch.allclose(average.network[0].weight.double(), expected, atol=1e-6)
    assert torch.allclose(average.network[1].running_mean.double(), mean, atol=1e-6)
    assert int(average.network[1].num_batches_tracked) == 11
    assert not average.network[0].weight.requires_grad


def test_the_moving_average_is_what_is_kept() -> None:
    plain, averaged = fitted(Perceptron(epochs=3)), fitted(Perceptron(epochs=3, ema=0.99))
    assert [p["train"] for p in plain.learning_curve] == [p["train"] for p in averaged.learning_curve]  # fmt: skip
    assert not np.allclose(plain.predict(TEST), averaged.predict(TEST), atol=1e-3)


def test_a_mean_of_states_is_the_mean_and_leaves_equals_as_they_are() -> None:
    torch.manual_seed(1)
    states = [
        {"w": torch.randn(50), "same": torch.full((3,), 0.1), "count": torch.tensor(n)}
        for n in (7, 8, 9)
    ]
    for state in states:
        state["same"] = states[0]["same"].clone()
    mean = mean_of(states)
    expected = np.mean([s["w"].double().numpy() for s in states], axis=0)
    assert np.allclose(mean["w"].numpy(), expected, atol=1e-7)
    assert torch.equal(mean["same"], states[0]["same"])
    assert int(mean["count"]) == 7


def test_the_mean_of_predictions_is_that_of_the_networks(tmp_path: Path) -> None:
    learner = fitted(Perceptron(average=3, averaged="predictions"))
    assert len(learner._network.members) == 3
    single = []
    for member in learner._network.members:
        member.eval()
        x = torch.from_numpy(TEST.array())
        with torch.inference_mode():
            single.append(learner._scale.undo(member({"simulated": x}).numpy()))
    assert np.allclose(learner.predict(TEST), np.mean(single, axis=0), atol=1e-5)
    assert np.ptp(single, axis=0).max() > 1e-3
    learner.save(tmp_path)
    assert np.array_equal(Perceptron.load(tmp_path).predict(TEST), learner.predict(TEST))


def rates(plan: TrainingPlan, steps: int, errors: list[float]) -> list[float]:
    """Learning rate of each step, an epoch of two steps."""
    optimiser = make_optimiser(nn.Linear(2, 1), plan)
    schedule, found = Schedule(optimiser, plan, steps), []
    for step in range(steps):
        schedule.before_step()
        found.append(optimiser.param_groups[0]["lr"])
        if step % 2:
            schedule.after_epoch(errors[step // 2])
    return found


def test_learning_rates_follow_their_schedule() -> None:
    better = [1.0 - 0.01 * n for n in range(20)]
    constant = rates(TrainingPlan(schedule="constant", warmup=0.1, learning_rate=1.0), 40, better)
    assert constant[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert set(constant[5:]) == {1.0}
    cosine = rates(TrainingPlan(schedule="cosine", warmup=0.1, learning_rate=1.0), 40, better)
    done = (np.arange(4, 40) - 4) / 36
    assert cosine[4:] == pytest.approx(0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * done)))
    plan = TrainingPlan(schedule="plateau", warmup=0.0, learning_rate=1.0, plateau_patience=2)
    errors = [1.0, 0.9, 0.95, 0.95, 0.95, 0.8, 0.9, 0.9, 0.9, 0.9]
    torch_schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0), factor=0.5, patience=1, threshold=0.0
    )  # fmt: skip
    expected = []
    for error in errors:
        expected += [torch_schedule.optimizer.param_groups[0]["lr"]] * 2
        torch_schedule.step(error)
    assert rates(plan, 20, errors) == expected


def test_mixed_precision_is_of_training_steps_alone_and_only_where_asked_on_a_cpu() -> None:
    seen: list[tuple[bool, torch.dtype]] = []

    class Watched(Perceptron):
        def build(self, layout: Mapping[str, Any], targets: int) -> nn.Module:
            network = super().build(layout, targets)
            network.layers[0].register_forward_hook(
                lambda layer, _, out: seen.append((layer.training, out.dtype))
            )
            return network

    fitted(Watched(epochs=2))
    assert {dtype for _, dtype in seen} == {torch.float32}
    seen.clear()
    learner = fitted(Watched(epochs=2, amp="bf16"))
    learner.predict(TEST)
    assert set(seen) == {(True, torch.bfloat16), (False, torch.float32)}
    assert TrainingPlan().precision("cpu") is None
    assert TrainingPlan(amp="off").precision("cuda") is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimiser": "adamv"}, "adamw"),
        ({"schedule": "cosinus"}, "cosine"),
        ({"amp": "fp16"}, "amp"),
        ({"averaged": "weight"}, "weights"),
    ],
)
def test_unknown_words_of_a_plan_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        TrainingPlan(**settings)


@pytest.mark.parametrize("name", ["epochs", "batch_size", "average", "learning_rate", "clip_norm"])
def test_numbers_of_a_plan_have_bounds(name: str) -> None:
    with pytest.raises(InputError, match=name):
        TrainingPlan(**{name: 0})


def test_a_budget_travels_without_its_callables() -> None:
    import pickle

    budget = Budget(threads=2, say=print, on_step=lambda step, valid: False, checkpoint=Path("x"))
    there = pickle.loads(pickle.dumps(budget))  # noqa: S301 - of this very process
    assert there == Budget(threads=2, checkpoint=Path("x"))
    assert (there.say, there.on_step) == (None, None)


# -- rows ------------------------------------------------------------------------------------------


class Made:
    """Rows that are made when they are read, and counted: a data set of any size, none of it held."""

    kind, dims, coords, valid = "bins", ("region", "bin", "channel"), {}, None
    dtype = np.dtype(np.float32)

    def __init__(self, n: int, shape: tuple[int, int, int] = (2, 10, 40)) -> None:
        self.n, self.shape, self.read_rows = n, shape, np.zeros(n, np.int64)
        self.shard_start = np.arange(0, n, 500)

    def __len__(self) -> int:
        return self.n

    def read(self, rows: np.ndarray) -> np.ndarray:
        self.read_rows[rows] += 1
        out = np.zeros((len(rows), *self.shape), np.float32)
        out[:, 0, 0, 0] = rows
        return out


def made(n: int) -> FeatureBatch:
    ids = np.array([f"g{i}" for i in range(n)])
    order = np.random.default_rng(0).permutation(n)
    return FeatureBatch(
        {"made": Block(Made(n), order)}, ids, ids, ids, targets=order[:, None].astype(float)
    )


@pytest.fixture
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "CACHE_BYTES", 0)
    monkeypatch.setattr(rows_module, "RUN_BYTES", 1 << 20)


@pytest.mark.usefixtures("small_runs")
@pytest.mark.parametrize("world", [1, 3])
def test_every_row_comes_once_an_epoch_with_its_own_target(world: int) -> None:
    batch = made(1000)
    source = batch.blocks["made"].source
    scale = TargetScale(np.zeros(1), np.ones(1))
    found, sizes = [], []
    for rank in range(world):
        for values, targets, known in Rows(batch, scale, "cpu", Ranks(rank, world)).batches(64, 2):
            assert torch.equal(values["made"][:, 0, 0, 0], targets[:, 0])
            assert bool(known.all())
            found.append(targets[:, 0])
            sizes.append(len(targets))
    assert sorted(torch.cat(found).tolist()) == list(range(1000))
    assert (source.read_rows == 1).all()
    assert max(sizes) == -(-64 // world)


def test_orders_differ_by_epoch_and_mix_blocks() -> None:
    rows = Rows(made(3000), TargetScale(np.zeros(1), np.ones(1)), "cpu", Ranks(), seed=1)
    first, second = rows.order(64, 0), rows.order(64, 1)
    assert sorted(first) == sorted(second) == list(range(3000))
    assert (first == second).mean() < 0.01
    assert np.array_equal(first, rows.order(64, 0))
    stored = made(3000).blocks["made"].rows[first]
    # Neighbours in the order are as far apart on disk as those of a random one.
    assert abs(np.abs(np.diff(stored)).mean() / 1000 - 1) < 0.1


@pytest.mark.usefixtures("small_runs")
def test_memory_does_not_grow_with_the_rows() -> None:
    def peak(n: int, epochs: int) -> int:
        batch = made(n)
        scale = TargetScale(np.zeros(1), np.ones(1))
        rows = Rows(batch, scale, "cpu", Ranks())
        tracemalloc.start()
        for epoch in range(epochs):
            for _ in rows.batches(64, epoch):
                pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    # 6.4 and 51 MB of features. As many runs are read of both: whether one is read while another is
    # used is a matter of threads, and the peak of few runs may miss it.
    small, large = peak(2_000, epochs=8), peak(16_000, epochs=1)
    assert large < 1.5 * small
    assert large < 8 << 20
