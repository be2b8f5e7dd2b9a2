"""The networks of the field against their published descriptions, counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featurestore.errors import InputError, UnknownNameError
from learners.base import Budget, Learner
from learners.registry import get_learner
from learners.simulated import simulate
from learners.targets import observed

torch = pytest.importorskip("torch")

from learners.neural.deepcre import DeepCRE  # noqa: E402
from learners.neural.inputs import shifted  # noqa: E402
from learners.neural.motif_scan import MotifScan  # noqa: E402
from learners.neural.objective import Quartiles  # noqa: E402
from learners.neural.onehot_cnn import OneHotCNN  # noqa: E402
from learners.neural.onehot_layers import SameConv, SameMaxPool  # noqa: E402
from learners.neural.onehot_network import segment_means  # noqa: E402
from learners.neural.phytoexpr_cnn import PAPER_MODELS, PhytoExprCNN  # noqa: E402
from learners.neural.phytoexpr_networks import Output, TransformerSize, _Attention  # noqa: E402
from learners.neural.phytoexpr_transformer import PhytoExprTransformerLearner  # noqa: E402
from learners.neural.training import reproducible  # noqa: E402
from learners.targets import TargetScale  # noqa: E402
from learners.weighing import weigh  # noqa: E402

ONE = Budget(threads=1)
QUICK = Budget(threads=1, rounds=2)
STORE = {
    "onehot": {
        "kind": "codes",
        "shape": [2, 5000],
        "windows": [
            {"anchor": "tss", "upstream": 4000, "downstream": 1000},
            {"anchor": "tts", "upstream": 1000, "downstream": 4000},
        ],
    }
}
"""The layout of a store with the windows of EMPRES, which are PhytoExpr's."""


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def conv(channels: int, filters: int, width: int) -> int:
    return channels * filters * width + filters


def dense(before: int, after: int) -> int:
    return conv(before, after, 1)


def shapes_of(network: torch.nn.Module, *kinds: type) -> list[tuple[int, ...]]:
    """Shapes (without rows) that layers of some kinds give, for one gene."""
    seen: list[tuple[int, ...]] = []
    for layer in network.modules():
        if isinstance(layer, kinds):
            layer.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[1:])))
    with torch.no_grad():
        network.eval()({"onehot": torch.zeros(1, 2, 5000, dtype=torch.uint8)})
    return seen


def sized(learner: Learner, targets: int = 1) -> Learner:
    learner._scale = TargetScale(np.full(targets, 2.0), np.full(targets, 0.5))  # type: ignore[attr-defined]
    return learner


def test_deepcre_as_published() -> None:
    network = DeepCRE(preset="paper").build(STORE, 1)
    blocks = [
        conv(4, 64, 8),
        conv(64, 64, 8),
        conv(64, 128, 8),
        conv(128, 128, 8),
        conv(128, 64, 8),
    ]
    blocks.append(conv(64, 64, 8))
    assert parameters(network) == sum(blocks) + dense(6 * 64, 128) + dense(128, 64) + dense(64, 1)
    # 3,020 → 378 → 48 → 6, each a ceiling.
    assert shapes_of(network, SameMaxPool) == [(64, 378), (128, 48), (64, 6)]
    plan = DeepCRE(preset="paper").plan()
    assert (plan.optimiser, plan.learning_rate, plan.batch_size) == ("adam", 1e-4, 64)
    assert (plan.patience, plan.plateau_patience, plan.plateau_factor) == (10, 5, 0.1)
    assert DeepCRE(preset="paper").settings["objective"] == "quartiles"


def test_published_networks_start_as_in_keras_and_small_ones_are_normalised() -> None:
    for made in (
        lambda preset: DeepCRE(preset=preset).build(STORE, 1),
        lambda preset: sized(PhytoExprCNN(preset=preset).members[0]).build(STORE, 1),
    ):
        published, small = made("paper"), made("small")
        for layer in published.blocks.modules():
            if isinstance(layer, torch.nn.Conv1d):
                bound = (6 / (layer.in_channels + layer.out_channels) / layer.kernel_size[0]) ** 0.5
                assert 0.9 * bound < float(layer.weight.detach().abs().max()) <= bound
                assert not layer.bias.any()
        norms = [
            sum(isinstance(m, torch.nn.BatchNorm1d) for m in n.modules())
            for n in (published, small)
        ]
        pools = sum(isinstance(m, SameMaxPool) for m in small.modules())
        assert norms == [0, pools]


def test_without_normalisation_a_new_network_hardly_sees_the_sequence() -> None:
    """Which is why ``small`` has it: training may never leave the mean."""
    codes = {"onehot": torch.randint(0, 4, (64, 2, 5000), dtype=torch.uint8)}
    spread = {}
    for normalise in (True, False):
        torch.manual_seed(0)
        network = DeepCRE(normalise=normalise, dropout=0.0).build(STORE, 1)
        spread[normalise] = float(network(codes).detach().std())
    assert spread[True] > 5 * spread[False]


def test_quartiles_are_the_cross_entropy_of_another_library() -> None:
    from sklearn.metrics import log_loss

    rng = np.random.default_rng(0)
    targets, scores = rng.normal(size=(80, 2)), rng.normal(size=(80, 2))
    known = rng.random((80, 2)) > 0.2
    cuts = np.array([np.quantile(targets[known[:, c], c], (0.25, 0.75)) for c in (0, 1)]).T
    aim = Quartiles(*cuts)
    found, count = aim(torch.tensor(scores), {}, torch.tensor(targets), torch.tensor(known * 1.0))
    total, told = 0.0, 0
    for c in (0, 1):
        rows = known[:, c] & ((targets[:, c] <= cuts[0, c]) | (targets[:, c] >= cuts[1, c]))
        top, odds = targets[rows, c] >= cuts[1, c], 1 / (1 + np.exp(-scores[rows, c]))
        assert 0.45 < rows.sum() / known[:, c].sum() < 0.55
        total, told = total + log_loss(top, odds, normalize=False), told + int(rows.sum())
    assert (float(found), float(count)) == (pytest.approx(total, rel=1e-5), told)
    assert aim.error(float(found), float(count)) == pytest.approx(total / told, rel=1e-5)


def test_deepcre_learns_quartiles_and_predicts_in_the_unit_of_the_target(tmp_path: Path) -> None:
    data = simulate("codes", genes=240)
    train, valid, unlabelled = data.train, data.valid, data.valid.without_targets()
    learner = DeepCRE(objective="quartiles", epochs=12)
    learner.fit(train, valid, seed=0, budget=ONE)
    found, odds = learner.predict(unlabelled)[:, 0], super(DeepCRE, learner).predict(unlabelled)
    truth = valid.require_targets()[:, 0]
    slope, intercept = np.polyfit(odds[:, 0], truth, 1)
    assert slope > 0
    assert found == pytest.approx(intercept + slope * odds[:, 0], abs=1e-8)
    learner.save(tmp_path)
    assert DeepCRE.load(tmp_path).predict(unlabelled)[:, 0] == pytest.approx(found, abs=1e-6)

    # Genes between the quartiles are not learned from: other values there change nothing.
    targets = train.require_targets().copy()
    low, high = np.quantile(targets, (0.25, 0.75), axis=0)
    between = (targets > low) & (targets < high)
    order = np.sort(targets[between])
    targets[between] = np.random.default_rng(0).permutation(order)
    again = DeepCRE(objective="quartiles", epochs=12)
    again.fit(train.with_targets(targets), valid, seed=0, budget=ONE)
    assert again.predict(unlabelled)[:, 0] == pytest.approx(found, abs=1e-6)


def test_deepcre_refuses_targets_without_quartiles() -> None:
    data = simulate("codes", genes=60)
    targets = np.where(np.arange(len(data.train)) % 10 == 0, 1.0, 0.0)[:, None]
    with pytest.raises(InputError, match=r"no quartiles to tell apart, half of .* are at 0; use"):
        DeepCRE(objective="quartiles").fit(
            data.train.with_targets(targets), data.valid, seed=0, budget=ONE
        )
    unknown = data.train.with_mask(np.zeros((len(data.train), 1), bool))
    with pytest.raises(InputError, match="target 0 is observed in none of"):
        DeepCRE(objective="quartiles", epochs=1).fit(unknown, data.valid, seed=0, budget=ONE)
    with pytest.raises(UnknownNameError, match="'quartiles'"):
        DeepCRE(objective="quartile")


def test_phytoexpr_transformer_as_published() -> None:
    learner = sized(PhytoExprTransformerLearner(preset="paper"))
    network = learner.build(STORE, 1)
    filters = [256, 256, 384, 384, 512]
    assert TransformerSize().filters == filters
    residual = {c: 2 * c + conv(c, c, 1) for c in filters}
    tower = sum(
        2 * before + conv(before, after, 5) + residual[after]
        for before, after in zip([256, *filters], filters, strict=False)
    )
    heads = 10 * 32
    layer = (
        4 * 512 + 3 * dense(512, heads) + dense(heads, 512) + dense(512, 1024) + dense(1024, 512)
    )
    last = 2 * 512 + conv(512, 1024, 1) + dense(3 * 1024, 1)
    assert parameters(network) == conv(4, 256, 15) + residual[256] + tower + 6 * layer + last
    # 10,000 → 2,500 → 625 → 157 → 40 → 10 → 3 tokens
    pooled = shapes_of(network, SameMaxPool)
    assert [length for _, length in pooled] == [2500, 625, 157, 40, 10, 3]
    assert [channels for channels, _ in pooled] == [256, *filters]
    rates = [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)]
    assert rates == pytest.approx([0.2, 0.15, 0.2] * 6 + [0.2])
    assert (learner.plan().learning_rate, learner.plan().patience) == (1e-4, 2)


def test_attention_is_softmax_of_scaled_products() -> None:
    torch.manual_seed(0)
    layer, x = _Attention(24, 3, 5), torch.randn(2, 7, 24)
    q, k, v = (part.reshape(2, 7, 3, 5) for part in layer.query_key_value(x).split(15, dim=2))
    weights = (torch.einsum("nqhd,nkhd->nhqk", q, k) / 5**0.5).softmax(dim=3)
    expected = layer.out(torch.einsum("nhqk,nkhd->nqhd", weights, v).reshape(2, 7, 15))
    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_phytoexpr_ensemble_has_27_networks_of_the_published_types() -> None:
    learner = PhytoExprCNN(preset="paper")
    assert len(set(PAPER_MODELS)) == len(learner.members) == 27
    assert {(blocks, last) for blocks, last, _, _ in PAPER_MODELS} == {
        (blocks, last) for blocks in (2, 3, 4) for last in (2, 3)
    }
    for blocks in (2, 3, 4):
        for outside in (2000, 3000, 4000):
            number = PAPER_MODELS.index((blocks, 3, outside, 8))
            network = sized(learner.members[number]).build(STORE, 1)
            assert sum(isinstance(m, SameConv) for m in network.modules()) == 2 * blocks
            assert sum(isinstance(m, torch.nn.Linear) for m in network.modules()) == 3
            read = network.bases({"onehot": torch.zeros(1, 2, 5000, dtype=torch.uint8)})
            assert sum(part.shape[2] for part in read) == 2 * (outside + 1000)
            assert network.output.activation == "relu"


def test_the_ensemble_is_joined_on_validation_rows_alone() -> None:
    data = simulate("codes", genes=240)
    learner = PhytoExprCNN(models=2, epochs=3)
    learner.fit(data.train, data.valid, seed=0, budget=ONE)
    members = np.stack([m.predict(data.valid.without_targets()) for m in learner.members])
    weight, _ = weigh(members, data.valid.require_targets(), observed(data.valid))
    assert np.array_equal(weight, learner.weight)
    found = learner.predict(data.test.without_targets())
    parts = np.stack([m.predict(data.test.without_targets()) for m in learner.members])
    line = np.linalg.lstsq(
        np.column_stack([*parts[:, :, 0], np.ones(len(data.test))]), found[:, 0], rcond=None
    )[0]
    assert line[:2] == pytest.approx(weight[:, 0], abs=1e-4)


@pytest.mark.parametrize("activation", ["softplus", "relu"])
def test_output_starts_at_the_mean_and_is_never_below_zero(activation: str) -> None:
    mean, deviation = np.array([1.5, 0.2]), np.array([0.5, 2.0])
    layer = Output(6, 2, activation=activation, mean=mean, deviation=deviation)
    assert layer(torch.zeros(3, 6)).detach().numpy() == pytest.approx(0, abs=1e-6)
    scores = layer(torch.randn(500, 6) * 50).detach().numpy() * deviation + mean
    assert scores.min() > -1e-5


@pytest.mark.parametrize("name", ["phytoexpr_transformer", "phytoexpr_cnn"])
def test_targets_below_zero_are_refused_where_the_output_is_not(name: str) -> None:
    data = simulate("codes", genes=60)
    below = data.train.with_targets(data.train.require_targets() - 9)
    with pytest.raises(InputError, match="use output=linear"):
        get_learner(name)(output="softplus", epochs=1).fit(below, data.valid, seed=0, budget=ONE)  # type: ignore[call-arg]
    with pytest.raises(UnknownNameError, match="softplus"):
        get_learner(name)(output="softpluss").fit(data.train, data.valid, seed=0, budget=ONE)  # type: ignore[call-arg]


def test_borders_are_those_of_keras() -> None:
    """Of an odd number of padded positions, Keras puts one more after than before."""
    pool = SameMaxPool(4)
    x = torch.tensor([[[9.0, 1, 2, 3, 4]]])
    assert pool(x).tolist() == [[[9, 4]]]  # (9 1 2)(3 4): one position before, two after
    assert pool(-x).tolist() == [[[-1, -3]]]  # what is padded is never the maximum
    layer = SameConv(1, 1, 8)
    with torch.no_grad():
        layer.conv.weight.copy_(torch.arange(8.0).reshape(1, 1, 8))
        layer.conv.bias.zero_()
    found = layer(torch.eye(12)[[5]].reshape(1, 1, 12))[0, 0]
    # Output i sees positions i − 3 … i + 4: weight k is met at i = 5 + 3 − k.
    assert found.tolist() == [0, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(("length", "pool"), [(22, 4), (20, 1), (3, 7), (50, 10)])
def test_scan_is_a_convolution_and_a_maximum(length: int, pool: int) -> None:
    """Matches and gradients are those of PyTorch's convolution and pooling."""
    torch.manual_seed(0)
    scan, bases = MotifScan(6, 5, pool), torch.rand(3, length, 4)
    end = -length % pool
    padded = torch.nn.functional.pad(bases, (0, 0, 2, 2 + end), value=0.25).transpose(1, 2)
    weight = scan.weights.weight.detach().clone().requires_grad_()
    kernel = weight.reshape(6, 5, 4).transpose(1, 2)
    matches = torch.nn.functional.conv1d(padded, kernel, scan.weights.bias.detach())
    expected = torch.nn.functional.max_pool1d(matches, pool).transpose(1, 2)
    found, slope = scan(bases), torch.randn(expected.shape)
    assert torch.allclose(found, expected, atol=1e-5)
    expected.backward(slope)
    for one in (scan, scan.plain):
        scan.zero_grad()
        one(bases).backward(slope)
        assert torch.allclose(scan.weights.weight.grad, weight.grad, atol=1e-4)
        assert torch.allclose(scan.weights.bias.grad, slope.sum((0, 1)), atol=1e-4)


def test_of_equal_matches_one_learns() -> None:
    scan = MotifScan(1, 3, 6)
    scan(torch.eye(4)[[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]][None]).sum().backward()
    # Two segments, each of which learns from a window of three bases.
    assert float(scan.weights.weight.grad.sum()) == pytest.approx(6)


def test_scan_in_bfloat16_is_near() -> None:
    torch.manual_seed(0)
    scan, bases = MotifScan(6, 5, 4), torch.eye(4)[torch.randint(0, 4, (3, 40))]
    whole = scan(bases)
    with torch.autocast("cpu", torch.bfloat16):
        half = scan(bases)
    half.float().sum().backward()
    assert torch.allclose(half.float(), whole, atol=0.03)
    assert scan.weights.weight.grad.dtype == torch.float32


def test_segments_and_shifts() -> None:
    x = torch.arange(10.0).reshape(1, 1, 10)
    assert segment_means(x, 5).flatten().tolist() == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert segment_means(x, 3).flatten().tolist() == [1.5, 5.5, 4.25]  # the last is half empty
    codes = torch.arange(4, dtype=torch.uint8).repeat(2, 3)
    torch.manual_seed(0)
    seen = {tuple(shifted(codes, 2)[0].tolist()) for _ in range(60)}
    row, n = codes[0].tolist(), 4
    assert seen == {
        tuple(row), (n, *row[:-1]), (n, n, *row[:-2]), (*row[1:], n), (*row[2:], n, n),
    }  # fmt: skip


@pytest.mark.parametrize("preset", ["small", "full", "paper"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("length", [3, 170, 600])
def test_every_length_and_number_of_regions_fits(preset: str, shared: bool, length: int) -> None:
    layout = {
        "a": {"kind": "codes", "shape": [2, length]},
        "b": {"kind": "codes", "shape": [1, length + 7]},
    }
    network = OneHotCNN(preset=preset, shared_branches=shared, motifs=8).build(layout, 2).eval()
    assert len(network.towers) == (1 if shared else 3)
    values = {n: torch.zeros(4, *f["shape"], dtype=torch.uint8) for n, f in layout.items()}  # type: ignore[misc]
    scores = network(values)
    assert scores.shape == (4, 2)
    assert torch.isfinite(scores).all()


def test_several_members_are_the_mean_of_networks_trained_alone(tmp_path: Path) -> None:
    data = simulate("codes", genes=120)
    several = OneHotCNN(members=2, motifs=16)
    several.fit(data.train, data.valid, seed=3, budget=QUICK)
    alone = []
    for seed in (3, 1003):
        one = OneHotCNN(motifs=16)
        one.fit(data.train, data.valid, seed=seed, budget=QUICK)
        alone.append(one.predict(data.test))
    found = several.predict(data.test)
    assert found == pytest.approx(np.mean(alone, axis=0), abs=1e-5)
    assert not np.allclose(alone[0], alone[1])
    several.save(tmp_path)
    assert OneHotCNN.load(tmp_path).predict(data.test) == pytest.approx(found, abs=1e-6)


def test_epochs_of_a_preset_follow_the_number_of_rows() -> None:
    learner, few = OneHotCNN(), simulate("codes", genes=120).train
    learner.prepare(torch.nn.Identity(), few)
    assert learner.plan().epochs == learner.steps[2]
    learner.prepare(torch.nn.Identity(), few.take(np.tile(np.arange(len(few)), 300)))
    assert learner.plan().epochs == learner.steps[1]
    assert OneHotCNN(epochs=3).plan().epochs == 3


def test_the_published_presets_train() -> None:
    """One step each of the paper's networks, on windows of their own length."""
    rng = np.random.default_rng(0)
    from tests.learners.test_sequence_windows import EMPRES, store_like

    batch = store_like(EMPRES, rng.integers(0, 4, (3, 2, 5000)).astype(np.uint8))
    for learner in (
        DeepCRE(preset="paper", epochs=1),
        PhytoExprTransformerLearner(preset="paper", epochs=1, batch_size=4),
        PhytoExprCNN(preset="paper", models=1, epochs=1),
    ):
        learner.fit(batch, batch, seed=0, budget=ONE)
        found = learner.predict(batch)
        assert found.shape == (3, 1)
        assert np.isfinite(found).all()
        if not isinstance(learner, DeepCRE):
            assert found.min() > -1e-5


def test_unknown_presets_and_values_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="'paper'"):
        DeepCRE(preset="papre")
    with pytest.raises(InputError, match="not a number"):
        DeepCRE(learning_rate="low")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="neither true nor false"):
        DeepCRE(normalise="no")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="preset small has 3"):
        PhytoExprCNN(models=4)
    with pytest.raises(InputError, match="at least 1"):
        OneHotCNN(members=0)


def test_reproducible_on_one_thread() -> None:
    data = simulate("codes", genes=120)
    found = []
    for _ in range(2):
        with reproducible(0, ONE):
            learner = OneHotCNN(motifs=16)
        learner.fit(data.train, data.valid, seed=5, budget=QUICK)
        found.append(learner.predict(data.test))
    assert np.array_equal(*found)


def test_presets_differ_where_nothing_is_given() -> None:
    assert OneHotCNN().settings["dropout"] == 0.4
    assert OneHotCNN(preset="paper").settings["dropout"] == 0.25
    assert OneHotCNN(preset="paper", dropout=0.1).settings["dropout"] == 0.1


def test_several_networks_report_as_one_and_end_as_one() -> None:
    data = simulate("codes", genes=120)
    steps: list[int] = []

    def told(step: int, error: float) -> bool:
        steps.append(step)
        return step == 2

    learner = PhytoExprCNN(epochs=5)
    learner.fit(data.train, data.valid, seed=0, budget=Budget(threads=1, on_step=told))
    assert steps == [1, 2]
    assert [len(member.learning_curve) for member in learner.members] == [2, 1, 1]
