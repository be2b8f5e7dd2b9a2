"""The gated head: weights are shares, follow the informative embedder, and survive being saved."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featurestore.errors import InputError
from learners.base import Budget
from learners.batch import ArraySource, Block, FeatureBatch
from learners.layout import layout_of
from learners.neural.gated import Gated
from learners.neural.gated_network import GatedNetwork, GatedSizes

ONE = Budget(threads=1)
SIZES = GatedSizes(
    channels=4, width=6, hidden=5, dropout=0.0, input_dropout=0.0, embedder_dropout=0.5
)


def genes(n: int = 400, seed: int = 0) -> FeatureBatch:
    """Labels follow from ``told``; ``noise`` has other bins and channels and says nothing."""
    rng = np.random.default_rng(seed)
    told = rng.normal(size=(n, 2, 5, 3)).astype(np.float16)
    noise = rng.normal(size=(n, 2, 8, 4)).astype(np.float16)
    codes = rng.integers(0, 4, (n, 2, 90)).astype(np.uint8)
    flat = rng.normal(size=(n, 7)).astype(np.float32)
    y = told[:, 0, 1, 0].astype(float) - told[:, 1, 3, 2] + 0.2 * rng.normal(size=n)
    ids = np.array([f"g{i}" for i in range(n)])
    rows = np.arange(n)
    blocks = {
        "noise": Block(ArraySource(noise, kind="bins"), rows),
        "told": Block(ArraySource(told, kind="bins"), rows),
        "codes": Block(ArraySource(codes, kind="codes"), rows),
        "flat": Block(ArraySource(flat, kind="tabular"), rows),
        "single": Block(ArraySource(noise[..., 0].copy(), kind="bins"), rows),
    }
    return FeatureBatch(blocks, ids, ids, ids, targets=y[:, None])


def only(batch: FeatureBatch, *names: str) -> FeatureBatch:
    return FeatureBatch(
        {n: batch.blocks[n] for n in names}, batch.gene, batch.species, batch.family,
        targets=batch.targets,
    )  # fmt: skip


def split(batch: FeatureBatch) -> tuple[FeatureBatch, FeatureBatch, FeatureBatch]:
    return tuple(batch.take(np.arange(*ends)) for ends in ((0, 240), (240, 300), (300, 400)))  # type: ignore[return-value]


def test_the_gate_leans_on_what_tells(tmp_path) -> None:
    train, valid, test = split(only(genes(), "noise", "told"))
    learner = Gated(
        epochs=40,
        channels=8,
        width=32,
        hidden=16,
        dropout=0.1,
        input_dropout=0.1,
        learning_rate=3e-3,
    )
    learner.fit(train, valid, seed=0, budget=ONE)
    assert set(learner.gates) == {"noise", "told"}
    assert sum(learner.gates.values()) == pytest.approx(1)
    assert learner.gates["told"] > 0.6
    assert learner.learned == {"gates": learner.gates}
    found = learner.predict(test.without_targets())
    assert np.corrcoef(found[:, 0], test.require_targets()[:, 0])[0, 1] > 0.7
    learner.save(tmp_path)
    again = Gated.load(tmp_path)
    assert again.gates == learner.gates
    assert np.array_equal(again.predict(test.without_targets()), found)


def test_all_kinds_together() -> None:
    train, valid, test = split(genes())
    learner = Gated(epochs=2)
    learner.fit(train, valid, seed=0, budget=ONE)
    assert list(learner.gates) == ["noise", "told", "codes", "flat", "single"]
    assert np.isfinite(learner.predict(test.without_targets())).all()


def test_the_prediction_is_that_of_the_weighted_sum() -> None:
    batch = only(genes(32), "noise", "told", "flat")
    torch.manual_seed(0)
    network = GatedNetwork(layout_of(batch), 2, SIZES).eval()
    for layer in network.standardised().values():
        layer.inverse.fill_(1.0)
    values = {n: torch.from_numpy(b.read()) for n, b in batch.blocks.items()}
    with torch.inference_mode():
        scores, gates = network.weighed(values)
        parts = [e(values[n]) for n, e in zip(network.names, network.encoders, strict=True)]
        logits = torch.cat(parts, dim=1) @ network.gate.weight.T + network.gate.bias
        weight = torch.exp(logits) / torch.exp(logits).sum(dim=1, keepdim=True)
        mixed = sum(weight[:, [i]] * part for i, part in enumerate(parts))
        assert torch.allclose(gates, weight, atol=1e-6)
        assert torch.allclose(scores, network.head(mixed), atol=1e-5)


def test_embedders_are_hidden_in_training_and_one_is_always_seen() -> None:
    batch = only(genes(400), "noise", "told", "flat")
    torch.manual_seed(0)
    network = GatedNetwork(layout_of(batch), 1, SIZES)
    values = {n: torch.from_numpy(b.read()) for n, b in batch.blocks.items()}
    gates = network.train().weighed(values)[1]
    hidden = gates == 0
    # Of rows in which all three would be hidden (⅛), all three are seen.
    assert float(hidden.float().mean()) == pytest.approx(0.5 - 1 / 8, abs=0.05)
    assert int(hidden.sum(dim=1).max()) == 2
    assert torch.allclose(gates.sum(dim=1), torch.ones(400))
    assert not (network.eval().weighed(values)[1] == 0).any()


@pytest.mark.parametrize("name", ["width", "dropout", "embedder_dropout"])
def test_wrong_settings_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=name):
        Gated(**{name: 0 if name == "width" else 1.0})
