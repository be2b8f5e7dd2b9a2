"""The head of EMPRES against its layer list written anew, its published sizes, and its variants."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.inputs.own_features import own_features
from featurestore.errors import InputError, UnknownNameError
from learners.base import Budget
from learners.batch import ArraySource, Block, FeatureBatch
from learners.layout import layout_of
from learners.neural.inputs import moments
from learners.neural.plan import TrainingPlan
from learners.neural.s2e import S2E, Empres0, Empres1, Empres2, Empres3, Empres4
from learners.neural.s2e_network import HeadSizes, S2ENetwork
from learners.search import Choice, Range, search_space_of

ONE = Budget(threads=1)
SIZES = HeadSizes(
    conv_layers=3, filters=6, kernel=3, base_layers=3, base_filters=6, base_kernel=4, dilation=2, pool=3, dense_layers=2,
    post_layers=2, units=5, dropout=0.3, input_dropout=0.0,
)  # fmt: skip


def batch(seed: int = 0, n: int = 60, **features: tuple[int, ...]) -> FeatureBatch:
    """Random genes; a shape of two numbers whose name begins with ``codes`` gives base codes."""
    rng = np.random.default_rng(seed)
    blocks = {}
    for name, shape in features.items():
        codes = name.startswith("codes")
        values = (
            rng.integers(0, 15, (n, *shape)).astype(np.uint8)
            if codes
            else rng.normal(2, 3, (n, *shape)).astype(np.float16)
        )
        source = ArraySource(values, kind="codes" if codes else "bins", shard_rows=16)
        blocks[name] = Block(source, rng.permutation(n))
    ids = np.array([f"g{i}" for i in range(n)])
    return FeatureBatch(blocks, ids, ids, ids, targets=rng.normal(size=(n, 1)))


class Branch(nn.Module):
    """[Conv1d valid → ReLU → BatchNorm] · n → flatten → [Linear → ReLU] · n, as §1.8 lists it."""

    def __init__(self, channels: int, bins: int) -> None:
        super().__init__()
        self.conv = nn.ModuleList([nn.Conv1d(channels if i == 0 else 6, 6, 3) for i in range(3)])
        self.norm = nn.ModuleList([nn.BatchNorm1d(6) for _ in range(3)])
        self.dense = nn.ModuleList([nn.Linear(6 * (bins - 6) if i == 0 else 5, 5) for i in (0, 1)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in zip(self.conv, self.norm, strict=True):
            x = norm(torch.relu(conv(x)))
        x = x.reshape(len(x), -1)
        for dense in self.dense:
            x = torch.relu(dense(x))
        return x


class TwoBranch(nn.Module):
    """Branches end to end → [Linear → ReLU] · n → Dropout → Linear."""

    def __init__(self, channels: int, bins: int, branches: int, targets: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([Branch(channels, bins) for _ in range(branches)])
        self.post = nn.ModuleList([nn.Linear(5 * branches, 5), nn.Linear(5, 5)])
        self.last = nn.Linear(5, targets)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, region, channel, bin), channel first as in the deposit."""
        parts = [branch(x[:, i]) for i, branch in enumerate(self.branches)]
        x = torch.cat(parts, dim=1)
        for dense in self.post:
            x = torch.relu(dense(x))
        return self.last(torch.dropout(x, 0.3, self.training))


def randomised(network: nn.Module) -> None:
    """Weights, and running means and variances, that are not those of a start."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif value.is_floating_point() and "standardise" not in name:
                value.normal_(0, 0.4)


@pytest.mark.parametrize("regions", [1, 2, 3])
def test_the_layers_are_those_of_the_paper(regions: int) -> None:
    data = batch(plantcad=(regions, 20, 4), access=(regions, 20))
    network = S2ENetwork(layout_of(data), 2, SIZES)
    randomised(network)
    for name, (mean, deviation) in moments(data, network.standardised()).items():
        network.standardised()[name].take(mean, deviation)
    oracle = TwoBranch(5, 20, regions, 2)
    ours = {n: t for n, t in network.state_dict().items() if "standardise" not in n}
    kinds = ("Conv1d", "BatchNorm1d", "Linear")

    def layers(module: nn.Module) -> list[nn.Module]:
        return [m for m in module.modules() if type(m).__name__ in kinds]

    # The oracle lists convolutions before normalisations; ours has them by turns.
    def key(index_and_layer: tuple[int, nn.Module]) -> tuple[int, int]:
        index, layer = index_and_layer
        return kinds.index(type(layer).__name__), index

    for mine, theirs in zip(
        sorted(enumerate(layers(network)), key=key),
        sorted(enumerate(layers(oracle)), key=key),
        strict=True,
    ):
        theirs[1].load_state_dict(mine[1].state_dict())
    assert sum(p.numel() for p in oracle.parameters()) == sum(
        p.numel() for p in network.parameters()
    )
    assert len(ours) > 0
    stored = {n: b.read().astype(np.float64) for n, b in data.blocks.items()}
    both = np.concatenate([stored["plantcad"], stored["access"][..., None]], axis=3)
    scaled = (both - both.mean(axis=0)) / both.std(axis=0)
    x = torch.from_numpy(np.moveaxis(scaled, 3, 2)).float()
    values = {n: torch.from_numpy(b.read()) for n, b in data.blocks.items()}
    with torch.inference_mode():
        found, expected = network.eval()(values), oracle.eval()(x)
    assert torch.allclose(found, expected, atol=1e-4)
    assert float(expected.std()) > 0.01


def test_the_branch_over_bases_is_that_of_the_paper() -> None:
    """Fractional one-hot → [Conv1d same, dilated → ReLU → BatchNorm → MaxPool] · n → dense."""
    data = batch(codes=(2, 100))
    network = S2ENetwork(layout_of(data), 1, SIZES)
    randomised(network)
    network.eval()
    from featurestore.sequence.iupac import one_hot

    codes = data.blocks["codes"].read()
    state = network.state_dict()
    parts = []
    with torch.inference_mode():
        for region in range(2):
            x = torch.from_numpy(np.moveaxis(one_hot(codes[:, region]), 2, 1)).float()
            index = 0
            for _ in range(3):
                at = f"branches.{region}.{index}"
                x = nn.functional.pad(x, (3, 3))  # dilation 2 · (kernel 4 − 1)
                x = nn.functional.conv1d(x, state[f"{at}.weight"], state[f"{at}.bias"], dilation=2)
                at = f"branches.{region}.{index + 2}"
                mean, var = state[f"{at}.running_mean"], state[f"{at}.running_var"]
                x = (torch.relu(x) - mean[:, None]) / torch.sqrt(var[:, None] + 1e-5)
                x = x * state[f"{at}.weight"][:, None] + state[f"{at}.bias"][:, None]
                x = x.unfold(2, 3, 3).amax(dim=3)
                index += 4
            assert x.shape[2] == 100 // 3 // 3 // 3
            x = x.flatten(1)
            for layer in (index + 1, index + 3):
                weight = state[f"branches.{region}.{layer}.weight"]
                x = torch.relu(x @ weight.T + state[f"branches.{region}.{layer}.bias"])
            parts.append(x)
        x = torch.cat(parts, dim=1)
        for layer in (0, 2):
            x = torch.relu(x @ state[f"post.{layer}.weight"].T + state[f"post.{layer}.bias"])
        expected = x @ state["post.5.weight"].T + state["post.5.bias"]
        found = network({"codes": torch.from_numpy(codes)})
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_scan_for_motifs_comes_before_the_convolutions_where_it_is_asked_for() -> None:
    """Strongest matches → normalised → exponential, cut at e³ → [Conv1d → ReLU → …] → dense."""
    sizes = replace(SIZES, motifs=4, motif_width=5, motif_pool=6, base_layers=1, base_dropout=0.2, shift=3)  # fmt: skip
    data = batch(codes=(1, 100))
    network = S2ENetwork(layout_of(data), 1, sizes)
    randomised(network)
    branch, codes = network.eval().branches[0], data.blocks["codes"].read()
    from featurestore.sequence.iupac import one_hot

    state = branch.state_dict()
    x = torch.from_numpy(np.moveaxis(one_hot(codes[:, 0]), 2, 1)).float()
    x = nn.functional.pad(x, (2, 4), value=0.25)  # 100 bases make 17 segments of six, 102
    weight = state["0.scan.weights.weight"].reshape(4, 5, 4).transpose(1, 2)
    x = nn.functional.conv1d(x, weight, state["0.scan.weights.bias"])[:, :, :102]
    x = x.unfold(2, 6, 6).amax(dim=3)
    norm = {name: state[f"0.norm.{name}"] for name in ("running_mean", "running_var", "weight", "bias")}  # fmt: skip
    x = torch.exp(nn.functional.batch_norm(x, **norm).clamp(max=3))
    with torch.inference_mode():
        expected = branch[1:](x)
        found = branch(network._bases(torch.from_numpy(codes[:, 0])))
    assert x.shape == (60, 4, 17)
    assert torch.allclose(found, expected, atol=1e-4)


def test_bases_are_moved_in_training_alone() -> None:
    data = batch(codes=(1, 100))
    codes = torch.from_numpy(data.blocks["codes"].read()[:, 0])
    network = S2ENetwork(layout_of(data), 1, replace(SIZES, shift=5))
    plain = S2ENetwork(layout_of(data), 1, SIZES)
    assert torch.equal(network.eval()._bases(codes), plain.train()._bases(codes))
    assert not torch.equal(network.train()._bases(codes), plain._bases(codes))


def test_published_settings_add_nothing_to_the_paper() -> None:
    settings = Empres0().settings
    added = ("motifs", "base_dropout", "shift", "input_dropout")
    assert not any(settings[name] for name in added)
    layout = {"codes": {"kind": "codes", "shape": [2, 5000]}}
    with torch.device("meta"):
        kinds = {type(m).__name__ for m in Empres0().build(layout, 1).branches.modules()}
    assert kinds == {"ModuleList", "Sequential", "SameConv", "ReLU", "BatchNorm1d", "MaxPool1d", "Flatten", "Linear"}  # fmt: skip


@pytest.mark.parametrize(
    ("channels", "smallest", "largest"), [(384, 0.25, 6.6), (1309, 0.49, 9.5), (925, 0.39, 8.3)]
)
def test_the_published_space_has_the_published_sizes(
    channels: int, smallest: float, largest: float
) -> None:
    """Millions of parameters over the search space, as computed from the authors' code (§1.8)."""
    layout = {"x": {"kind": "bins", "shape": [2, 20, channels]}}
    space = search_space_of(Empres1)
    named = ("conv_layers", "filters", "kernel", "dense_layers", "units", "post_layers")
    ends = [(min(space[n].options), max(space[n].options)) for n in named]
    counts = []
    for values in product(*ends):
        learner = Empres1(**dict(zip(named, values, strict=True)))
        with torch.device("meta"):
            counts.append(sum(p.numel() for p in learner.build(layout, 1).parameters()))
    assert min(counts) / 1e6 == pytest.approx(smallest, abs=0.01)
    assert max(counts) / 1e6 == pytest.approx(largest, abs=0.06)


def test_defaults_lie_within_the_published_space() -> None:
    for cls in (Empres0, Empres1, Empres2, Empres3, Empres4):
        settings = cls().settings
        for name, one in search_space_of(cls).items():
            value = settings[name]
            if isinstance(one, Choice):
                assert value in one.options, name
            elif isinstance(one, Range):
                assert one.low <= value <= one.high, name
        plan = cls().plan()
        assert (plan.optimiser, plan.schedule, plan.epochs, plan.patience, plan.average) == (
            "adamw", "constant", 50, 10, 5,
        )  # fmt: skip


def test_numbers_are_standardised_from_training_genes_alone() -> None:
    train, valid = batch(1, a=(2, 6, 3)), batch(2, a=(2, 6, 3))
    learner = S2E(epochs=1)
    learner.fit(train, valid, seed=0, budget=ONE)
    layer = learner._network.standardise[0]
    rows = train.blocks["a"].read().astype(np.float64)
    assert np.allclose(layer.mean.numpy(), rows.mean(axis=0), atol=1e-5)
    assert np.allclose(layer.inverse.numpy(), 1 / rows.std(axis=0), atol=1e-5)


def test_a_number_that_never_changes_stays_out() -> None:
    data = batch(a=(1, 4, 3))
    values = data.blocks["a"].source.values
    values[:, 0, 2, 1] = 100.1
    (mean, deviation) = moments(data, ["a"])["a"]
    assert deviation[0, 2, 1] == 0
    assert mean[0, 2, 1] == np.float16(100.1)
    network = S2ENetwork(layout_of(data), 1, SIZES)
    network.standardised()["a"].take(mean, deviation)
    before = network.standardised()["a"](torch.from_numpy(values.copy()))
    assert not before[:, 0, 2, 1].any()
    assert before[:, 0, 2, 0].std(correction=0) == pytest.approx(1, abs=1e-3)


def test_features_of_equal_bins_are_stacked_and_others_have_their_own_branches() -> None:
    data = batch(a=(2, 6, 3), b=(2, 6), c=(2, 4, 2), d=(1, 9, 2), codes=(2, 50))
    network = S2ENetwork(layout_of(data), 1, SIZES)
    assert len(network.branches) == 2 + 2 + 1 + 2
    assert network.branches[0][0].in_channels == 4
    assert network.branches[0][0].weight is not network.branches[1][0].weight
    learner = S2E(epochs=2)
    learner.fit(data.take(np.arange(40)), data.take(np.arange(40, 60)), seed=0, budget=ONE)
    assert np.isfinite(learner.predict(data.without_targets())).all()


@pytest.mark.parametrize(("bins", "kernel"), [(20, 4), (9, 3), (4, 1), (1, 1)])
def test_a_kernel_too_wide_is_narrowed_and_said(bins: int, kernel: int) -> None:
    data = batch(a=(2, bins, 3))
    learner = S2E(kernel=4, conv_layers=4, epochs=1)
    learner.fit(data, data, seed=0, budget=ONE)
    network = learner.build(layout_of(data), 1)
    assert network.branches[0][0].kernel_size == (kernel,)
    assert bool(learner.notes) == (kernel < 4)
    if learner.notes:
        assert f"do not fit {bins} bins" in learner.notes[0]


def test_saved_and_loaded_predicts_the_same(tmp_path) -> None:
    data = batch(a=(2, 6, 3), b=(2, 6), codes=(1, 40))
    learner = Empres2(epochs=3, filters=8, units=4)
    learner.fit(data, data, seed=0, budget=ONE)
    learner.save(tmp_path)
    again = Empres2.load(tmp_path)
    assert np.array_equal(again.predict(data), learner.predict(data))
    assert again.parameters == learner.parameters


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"preset": "smal"}, UnknownNameError, "small"),
        ({"variant": "EMPRES_5"}, UnknownNameError, "EMPRES_"),
        ({"units": 0}, InputError, "units 0"),
        ({"pool": 1}, InputError, "pool 1"),
        ({"motifs": -1}, InputError, "motifs -1"),
        ({"dropout": 1.0}, InputError, "dropout 1.0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        S2E(**settings)


def test_settings_come_from_the_preset_unless_given() -> None:
    assert S2E().settings["filters"] < S2E(variant="EMPRES_1").settings["filters"]
    assert S2E(variant="EMPRES_1").settings == Empres1().settings
    assert Empres1(units=16).settings == {**Empres1().settings, "units": 16}
    assert isinstance(S2E(ema=0.9).plan(), TrainingPlan)
    assert S2E(ema=0.9).plan().ema == 0.9


# -- the features of a variant -------------------------------------------------------------------


def store(**groups: tuple[str, list[str]]) -> Any:
    """A store whose groups have a type and outputs."""
    attrs = {name: {"type": t, "outputs": dict.fromkeys(o, 1)} for name, (t, o) in groups.items()}
    return SimpleNamespace(
        path="s.zarr", embedders=lambda species: list(attrs), embedder_attrs=lambda s, n: attrs[n]
    )


CODES, PC, A2Z = ("onehot", []), ("plantcaduceus", ["embedding"]), ("a2z", ["embedding", "accessibility"])  # fmt: skip


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (Empres0, "onehot"),
        (Empres1, "pc"),
        (Empres2, "pc+chromatin.accessibility"),
        (Empres3, "pc+chromatin.embedding"),
        (Empres4, "chromatin.embedding"),
    ],
)
def test_variants_find_their_features_by_type(cls: type[S2E], expected: str) -> None:
    one = store(onehot=CODES, pc=PC, chromatin=A2Z, kmer=("kmer", ["embedding"]))
    assert own_features(one, ["x"], cls, {}) == expected
    assert own_features(one, ["x"], S2E, {"variant": cls.info.name}) == expected
    assert own_features(one, ["x"], S2E, {}) is None


def test_a_group_of_the_very_name_comes_first() -> None:
    one = store(onehot=CODES, plantcaduceus=("arrays", ["embedding"]), nano=PC)
    assert own_features(one, ["x"], Empres1, {}) == "plantcaduceus"


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"kmer": ("kmer", ["embedding"])}, "EMPRES_2 is defined on features of plantcaduceus; s.zarr holds onehot, kmer"),
        ({"pc": PC}, "features of a2z; .*--embedder a2z"),
        ({"pc": PC, "nano": PC, "a2z": A2Z}, "several: pc, nano; choose with --learner EMPRES_2@"),
        ({"pc": PC, "a2z": ("a2z", ["embedding", "methylation"])}, "a2z.accessibility; the group a2z of s.zarr holds embedding, methylation"),
    ],
)  # fmt: skip
def test_a_store_that_lacks_them_is_told_what(groups: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        own_features(store(onehot=CODES, **groups), ["x"], Empres2, {})
