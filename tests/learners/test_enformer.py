"""The learner ``enformer`` on small windows with planted motifs, and ``enformer_head``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featurestore.embedders.enformer import Enformer, TrackModel
from featurestore.errors import InputError
from featurestore.sequence.iupac import reverse_complement
from learners.base import Budget
from learners.batch import ArraySource, Block, FeatureBatch
from learners.enformer.learner import EnformerLearner
from learners.enformer.networks import PoissonTracks, TrackNetwork, at_tss

LENGTH, BINS = 2048, 10
MOTIF = np.array([2, 0, 3, 3, 0, 1, 0, 2, 0, 3], np.uint8)
HEADS = ("species a", "species a", "b")
SHORT = Budget(threads=1, rounds=2)


def _tracks(
    n: int, seed: int, length: int = LENGTH, bins: int = BINS
) -> tuple[FeatureBatch, np.ndarray]:
    """Windows of two species; a motif in a bin is a peak of one track and a dip of another."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (n, length), dtype=np.uint8)
    signal = np.full((n, bins, 3), -1, np.float32)
    first = (length // 128 - bins) // 2
    for row in range(n):
        hit = rng.random(bins) < 0.3
        for b in np.flatnonzero(hit):
            start = (first + b) * 128 + int(rng.integers(5, 110))
            codes[row, start : start + len(MOTIF)] = MOTIF
        rate = 1 + 20 * hit
        if row % 2:
            signal[row, :, 2] = rng.poisson(rate)
        else:
            signal[row, :, 0], signal[row, :, 1] = rng.poisson(rate), rng.poisson(10 - 0.4 * rate)
    source: Any = ArraySource(signal, kind="signal", dims=("bin", "track"))
    source.head_of, source.bin_bp = HEADS, 128
    rows = np.arange(n, dtype=np.int64)
    known = (signal >= 0).any(1)
    means = np.where(known, np.where(signal >= 0, signal, 0).mean(1), np.nan).astype(float)
    names = np.array([f"window_{seed}_{i}" for i in range(n)])
    batch = FeatureBatch(
        {
            "genome": Block(ArraySource(codes, kind="long", dims=("position",)), rows),
            "tracks": Block(source, rows),
        },
        gene=names, species=np.array(["species a", "b"])[rows % 2], family=names, targets=means,
        mask=known, target_names=("peak", "dip", "peak_b"),
    )  # fmt: skip
    return batch, signal


def _expression(n: int, seed: int) -> FeatureBatch:
    batch, _ = _tracks(n, seed)
    labels = np.random.default_rng(seed).normal(size=(n, 2))
    return FeatureBatch(
        {"genome:2048": batch.blocks["genome"]}, gene=batch.gene, species=batch.species,
        family=batch.family, targets=labels, target_names=("x", "y"),
    )  # fmt: skip


def _predicted(learner: EnformerLearner, batch: FeatureBatch) -> np.ndarray:
    out = np.full((len(batch), BINS, 3), np.nan, np.float32)
    for index, tracks in learner.predict_tracks(batch.without_targets()):
        out[index] = tracks
    return out


@pytest.fixture(scope="module")
def fitted() -> EnformerLearner:
    learner = EnformerLearner(preset="tiny", epochs=20, batch_size=2, patience=20)
    train, _ = _tracks(110, 1)
    valid, _ = _tracks(16, 2)
    learner.fit(train, valid, seed=0, budget=Budget(threads=1))
    return learner


def test_every_bin_of_each_species_head_is_learned(fitted: EnformerLearner) -> None:
    test, signal = _tracks(40, 3)
    tracks = _predicted(fitted, test)
    for track, least in enumerate((0.6, 0.5, 0.6)):
        seen = signal[..., track] >= 0
        assert np.corrcoef(tracks[..., track][seen], signal[..., track][seen])[0, 1] > least
    assert fitted._enformer().config.output_heads == {"species_a": 2, "b": 1}
    np.testing.assert_allclose(fitted.predict(test), tracks.mean(1), rtol=1e-5)


def test_a_saved_learner_predicts_the_same_and_holds_a_checkpoint(
    fitted: EnformerLearner, tmp_path: Path
) -> None:
    test, _ = _tracks(6, 3)
    before = _predicted(fitted, test)
    fitted.save(tmp_path)
    assert np.array_equal(_predicted(EnformerLearner.load(tmp_path), test), before)
    opened = TrackModel.open(tmp_path / "enformer", device="cpu")
    assert [t.label for t in opened.tracks] == ["species_a:peak", "species_a:dip", "b:peak_b"]
    codes = test.blocks["genome"].read()
    np.testing.assert_allclose(opened.predict(codes), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("trained", ["lora", "head"])
def test_fine_tuning_moves_what_it_may_and_nothing_else(
    fitted: EnformerLearner, tmp_path: Path, trained: str
) -> None:
    fitted.save(tmp_path)
    checkpoint = str(tmp_path / "enformer")
    train, _ = _tracks(16, 4)
    valid, _ = _tracks(8, 5)
    learner = EnformerLearner(preset="tiny", checkpoint=checkpoint, trained=trained, batch_size=4)
    learner.fit(train, valid, seed=0, budget=SHORT)
    before = Enformer.from_pretrained(checkpoint).state_dict()
    after = learner._enformer().state_dict()
    assert set(after) == set(before)
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    attention = {n for n in before if any(p in n for p in (".to_q.weight", ".to_k.weight", ".to_v.weight", ".to_out.weight"))}  # fmt: skip
    heads = {n for n in before if n.startswith("_heads.")}
    assert heads <= moved
    assert moved <= (heads | attention if trained == "lora" else heads)
    assert (attention & moved == attention) == (trained == "lora")


def test_longer_windows_begin_with_a_checkpoint_of_short_ones(
    fitted: EnformerLearner, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "short")
    checkpoint = str(tmp_path / "short" / "enformer")
    # 16 bins keep 10, a share of which 96 would keep 60; windows of tracks keep Enformer's 56.
    train, valid = (_tracks(n, seed, 12_288, 56)[0] for n, seed in ((8, 4), (4, 5)))
    learner = EnformerLearner(preset="tiny", checkpoint=checkpoint, batch_size=4)
    learner.fit(train, valid, seed=0, budget=SHORT)
    learner.save(tmp_path / "long")
    opened = TrackModel.open(tmp_path / "long" / "enformer", device="cpu")
    assert (opened.input_bp, opened.bins) == (12_288, 56)
    assert opened.predict(valid.blocks["genome"].read()).shape == (4, 56, 3)


def test_expression_is_read_from_the_bins_at_the_tss(tmp_path: Path) -> None:
    learner = EnformerLearner(preset="tiny", batch_size=8)
    train, valid, test = (_expression(n, s) for n, s in ((24, 1), (8, 2), (8, 3)))
    learner.fit(train, valid, seed=0, budget=SHORT)
    found = learner.predict(test.without_targets())
    assert found.shape == (8, 2)
    learner.save(tmp_path)
    again = EnformerLearner.load(tmp_path)
    np.testing.assert_allclose(again.predict(test.without_targets()), found, rtol=1e-5)
    with pytest.raises(InputError, match="not on tracks"):
        next(learner.predict_tracks(test))
    bins = torch.arange(896.0)[None, :, None]
    assert float(at_tss(bins)) == pytest.approx((447 + 448 + 449) / 3)


def test_a_turned_window_gives_its_tracks_on_the_strand_it_was_given() -> None:
    torch.manual_seed(0)
    batch, _ = _tracks(4, 1)
    learner = EnformerLearner(preset="tiny", shift=0)
    learner._tracks = {
        "names": ["+", "−", "b"], "place": [["a", 0], ["a", 1], ["b", 0]],
        "species": {"a": ["a"], "b": ["b"]}, "opposite": [1, 0, 2],
    }  # fmt: skip
    layout = {
        "genome": {"kind": "long", "shape": [LENGTH]},
        "tracks": {"kind": "signal", "shape": [BINS, 3]},
    }
    network: Any = learner.build(layout, 3)
    assert isinstance(network, TrackNetwork)
    network.eval()
    codes = batch.blocks["genome"].read()
    other = torch.from_numpy(reverse_complement(codes))
    with torch.no_grad():
        turned = network({"genome": other})
        network.training = network.sequence.training = True  # turned at random, nothing else moves
        seen = set()
        for _ in range(8):
            tracks = network({"genome": torch.from_numpy(codes)})
            network.training = network.sequence.training = False
            plain = network({"genome": torch.from_numpy(codes)})
            network.training = network.sequence.training = True
            for row in range(4):
                as_given = torch.allclose(tracks[row], plain[row], atol=1e-5)
                back = turned[row].flip(0)[:, [1, 0, 2]]
                assert as_given or torch.allclose(tracks[row], back, atol=1e-5)
                seen.add(as_given)
    assert seen == {True, False}


def test_the_loss_is_half_the_poisson_deviance_of_known_bins() -> None:
    rng = np.random.default_rng(0)
    observed = rng.poisson(3, (2, 5, 3)).astype(np.float32)
    observed[0, 0] = -1
    rate = rng.gamma(2, 1, observed.shape).astype(np.float32)
    losses, count = PoissonTracks()(
        torch.from_numpy(rate), {"tracks": torch.from_numpy(observed)}, torch.zeros(2, 3), torch.ones(2, 3)
    )  # fmt: skip
    seen = observed >= 0
    y, mu = observed[seen].astype(float), rate[seen].astype(float)
    deviance = 2 * (np.where(y > 0, y * np.log(np.maximum(y, 1e-9) / mu), 0) - (y - mu))
    assert int(count) == seen.sum()
    assert PoissonTracks().error(float(losses), float(count)) == pytest.approx(deviance.mean(), rel=1e-4)  # fmt: skip


def test_wrong_settings_are_named() -> None:
    with pytest.raises(InputError, match="checkpoint"):
        EnformerLearner(trained="lora")
    with pytest.raises(InputError, match="context"):
        EnformerLearner(context=0)
    with pytest.raises(InputError, match="lora_rank"):
        EnformerLearner(lora_rank=0)
    batch, _ = _tracks(4, 1)
    two = {"one": batch.blocks["genome"], "two": batch.blocks["genome"]}
    both = FeatureBatch(two, gene=batch.gene, species=batch.species, family=batch.family, targets=np.zeros((4, 1)))  # fmt: skip
    with pytest.raises(InputError, match="one feature of windows"):
        EnformerLearner(preset="tiny").fit(both, both, seed=0, budget=SHORT)
