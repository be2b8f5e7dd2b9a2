"""Enformer against the recorded outputs of the public port, scipy, and plain recomputation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from featurestore.embedders.enformer import Enformer, EnformerConfig, TrackModel
from featurestore.embedders.enformer.layers import AttentionPool, gelu, shifted
from featurestore.embedders.enformer.positions import relative_positions
from featurestore.errors import InputError
from featurestore.sequence.iupac import N, encode
from tests.conftest import SHARED

FIXTURE = SHARED / "fixtures" / "enformer_tiny"
needs_fixture = pytest.mark.skipif(
    not FIXTURE.is_dir(), reason=f"needs the recorded outputs in {FIXTURE}"
)


def _random(seed: int = 0, **changes: Any) -> Enformer:
    """A small model none of whose parts is neutral: every weight and running statistic is random."""
    torch.manual_seed(seed)
    model = Enformer(EnformerConfig.preset("tiny", **{"output_heads": {"a": 3, "b": 2}, **changes}))
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point() and tensor.ndim <= 1:
                tensor.add_(0.2 * torch.randn_like(tensor))
            elif "to_out" in name:
                tensor.normal_(std=0.1)
    return model.eval()


def _windows(n: int, length: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 5, (n, length)).astype(np.uint8)


@needs_fixture
def test_gives_the_numbers_of_the_public_port() -> None:
    recorded = np.load(FIXTURE / "io.npz")
    model = Enformer.from_pretrained(FIXTURE)
    codes = recorded["codes"][None]
    with torch.no_grad():
        tracks = model.forward_codes(codes)
        embedding = model.embed(model.one_hot(codes))
    for head in ("human", "mouse"):
        assert np.abs(tracks[head].numpy() - recorded[head]).max() < 2e-4
        np.testing.assert_allclose(tracks[head].numpy(), recorded[head], rtol=2e-4)
    assert np.abs(embedding.numpy()[:, ::16] - recorded["embedding"]).max() < 1e-4


@needs_fixture
def test_the_ports_own_normalisation_of_gamma_is_another_model() -> None:
    recorded = np.load(FIXTURE / "io.npz")
    model = Enformer.from_pretrained(FIXTURE, gamma_norm="position")
    with torch.no_grad():
        tracks = model.forward_codes(recorded["codes"][None], ["human"])
    assert np.abs(tracks["human"].numpy() - recorded["human"]).max() > 1e-2


@needs_fixture
@pytest.mark.parametrize("keys", ["trunk", "named"])
def test_either_name_of_a_tensor_is_enough(tmp_path: Path, keys: str) -> None:
    from safetensors.torch import save_file

    tensors = torch.load(FIXTURE / "pytorch_model.bin", weights_only=True)
    kept = {
        name: value.clone()
        for name, value in tensors.items()
        if name.startswith("_heads") or name.startswith("_trunk") == (keys == "trunk")
    }
    assert len(kept) < len(tensors)
    (tmp_path / "config.json").write_text((FIXTURE / "config.json").read_text())
    save_file(kept, tmp_path / "model.safetensors")
    both, one = Enformer.from_pretrained(FIXTURE), Enformer.from_pretrained(tmp_path)
    for name, value in both.state_dict().items():
        assert torch.equal(value, one.state_dict()[name]), name


@needs_fixture
def test_two_names_with_different_numbers_are_refused(tmp_path: Path) -> None:
    tensors = torch.load(FIXTURE / "pytorch_model.bin", weights_only=True)
    tensors["_trunk.1.0.bias"] = tensors["_trunk.1.0.bias"] + 1
    (tmp_path / "config.json").write_text((FIXTURE / "config.json").read_text())
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"stem\.0\.bias.*differ"):
        Enformer.from_pretrained(tmp_path)


def test_sizes_of_the_published_model() -> None:
    with torch.device("meta"):
        model = Enformer(EnformerConfig())
    assert sum(p.numel() for p in model.parameters()) == 251_221_292
    assert EnformerConfig().tower == (768, 768, 896, 1024, 1152, 1280, 1536)
    assert EnformerConfig().cropped(1536) == 896


@pytest.mark.parametrize(("length", "features"), [(96, 24), (1536, 192)])
def test_gamma_features_are_gamma_densities(length: int, features: int) -> None:
    found = relative_positions(length, features).numpy()
    each = features // 6
    far = np.abs(np.arange(1 - length, length))[:, None]
    mean, deviation = np.linspace(length / each, length, each), length / (2 * each)
    density = stats.gamma.pdf(far, (mean / deviation) ** 2, scale=deviation**2 / mean) + 1e-8
    density /= density.max(axis=0)
    assert np.abs(found[:, 2 * each : 3 * each] - density).max() < 1e-6
    sign = np.sign(np.arange(1 - length, length))[:, None]
    assert np.array_equal(found[:, 3 * each :], sign * found[:, : 3 * each])
    assert np.array_equal(found[:, 2 * each - 1], np.ravel(far < 2**each - 1))
    assert np.allclose(found[length - 1 + 8, 0], 0.5)  # the shortest half-life is eight bins


def test_logits_by_distance_go_to_their_keys() -> None:
    length = 5
    by_distance = torch.randn(2, 3, length, 2 * length - 1)
    found = shifted(by_distance)
    for i in range(length):
        for j in range(length):
            assert torch.equal(found[..., i, j], by_distance[..., i, j - i + length - 1])


def test_pooling_is_a_softmax_over_pairs() -> None:
    pool = AttentionPool(6)
    torch.nn.init.normal_(pool.to_attn_logits.weight)
    x = torch.randn(2, 6, 1, 10)
    logits = torch.einsum("oi,nilp->nolp", pool.to_attn_logits.weight[:, :, 0, 0], x)
    pairs = x.reshape(2, 6, 5, 2), logits.reshape(2, 6, 5, 2).softmax(-1)
    assert torch.allclose(pool(x)[:, :, 0], (pairs[0] * pairs[1]).sum(-1), atol=1e-5)


def test_gelu_is_the_papers() -> None:
    x = torch.linspace(-6, 6, 101)
    assert torch.allclose(gelu(x), x * torch.sigmoid(1.702 * x), atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"depth": 2, "attention_reach": 3}, {"num_downsamples": 5, "target_length": 96}])  # fmt: skip
@pytest.mark.parametrize("length", [4096, 6144])
def test_windows_without_gradients_are_computed_piece_by_piece_and_alike(
    changes: dict[str, int], length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featurestore.embedders.enformer import inference

    monkeypatch.setattr(inference, "PIECE_VALUES", 24 * 300)  # several pieces, the last one short
    model = _random(**changes)
    x = model.one_hot(_windows(2, length))
    slow = model(x)
    with torch.no_grad():
        fast = model(x)
        trunk = model.trunk(x)
    for head, tracks in slow.items():
        assert tracks.shape == fast[head].shape
        torch.testing.assert_close(fast[head], tracks.detach(), rtol=2e-5, atol=2e-6)
    torch.testing.assert_close(trunk, model.trunk(x).detach(), rtol=2e-5, atol=2e-5)


def test_changed_weights_are_seen_by_the_fast_path() -> None:
    model = _random()
    x = model.one_hot(_windows(1, 4096))
    with torch.no_grad():
        before = model(x)["a"].clone()
        model.stem[0].weight.mul_(1.5)
        after = model(x)["a"]
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, model(x)["a"].detach(), rtol=2e-5, atol=2e-6)


def test_half_the_bits_give_nearly_the_same() -> None:
    model = _random()
    x = model.one_hot(_windows(1, 4096))
    with torch.no_grad():
        whole = model.embed(x).numpy().ravel()
        model.dtype = "bf16"
        half = model.embed(x).numpy().ravel()
    assert np.corrcoef(whole, half)[0, 1] > 0.999
    assert not np.array_equal(whole, half)


def test_a_bin_attends_no_further_than_it_may() -> None:
    reach = 2
    model = _random(depth=1, attention_reach=reach)
    codes = _windows(1, 4096)
    other = codes.copy()
    bin_bp, changed = model.config.bin_bp, 16
    other[0, changed * bin_bp : (changed + 1) * bin_bp] = 0
    with torch.no_grad():
        difference = model.trunk(model.one_hot(codes)) - model.trunk(model.one_hot(other))
    moved = np.flatnonzero(difference[0].abs().amax(-1).numpy() > 1e-6)
    conv_bins = -(-model.config.conv_reach // bin_bp)
    assert moved.min() >= changed - reach - conv_bins
    assert moved.max() <= changed + reach + conv_bins
    assert {changed - reach, changed + reach} <= set(moved.tolist())


def test_checkpointing_changes_neither_gradients_nor_running_statistics() -> None:
    found = {}
    x = _random().one_hot(_windows(2, 4096))
    for checkpointing in (False, True):
        model = _random(dropout_rate=0.0, attn_dropout=0.0, pos_dropout=0.0).train()
        model.checkpointing = checkpointing
        model(x)["a"].sum().backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        found[checkpointing] = gradients, {k: v.clone() for k, v in model.named_buffers()}
    for plain, again in zip(found[False][0], found[True][0], strict=True):
        torch.testing.assert_close(again, plain)
    for name, value in found[False][1].items():
        torch.testing.assert_close(found[True][1][name], value)
        if name.endswith("num_batches_tracked"):
            assert int(value) == 1


def test_the_reverse_complement_of_a_code_and_n_is_four_zeros() -> None:
    model = _random()
    x = model.one_hot(encode("ACGTNR")[None])[0]
    assert torch.equal(x[:4], torch.eye(4))
    assert x[4].tolist() == [0, 0, 0, 0]
    assert x[5].tolist() == [0.5, 0, 0.5, 0]
    assert N == 4


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    model = _random(track_names={"a": ["x", "y", "z"]}, head_species={"b": ["zea_mays"]})
    model.save_pretrained(tmp_path)
    again = Enformer.from_pretrained(tmp_path)
    assert again.config == model.config
    codes = _windows(1, 4096)
    with torch.no_grad():
        assert torch.equal(again.forward_codes(codes)["a"], model.forward_codes(codes)["a"])
    opened = TrackModel.open(tmp_path, device="cpu").chosen(["z", "b:0"])
    assert [t.label for t in opened.tracks] == ["a:z", "b:0"]
    tracks = opened.predict(codes)
    with torch.no_grad():
        whole = model.forward_codes(codes)
    assert np.array_equal(tracks[..., 0], whole["a"][..., 2].numpy())
    assert np.array_equal(tracks[..., 1], whole["b"][..., 0].numpy())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dim": 50}, "dim"),
        ({"heads": 5}, "multiple of 6"),
        ({"target_length": 40}, "target_length"),
        ({"target_length": 15}, "even"),
        ({"input_bp": 4100}, "multiple of the bin"),
        ({"output_heads": {"no name": 3}}, "named like variables"),
        ({"track_names": {"human": ["one"]}}, "track_names"),
        ({"dropout_rate": 1.5}, "dropout_rate"),
        ({"gamma_norm": "row"}, "gamma_norm"),
    ],
)  # fmt: skip
def test_sizes_that_make_no_network_are_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        EnformerConfig.preset("tiny", **change)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c, t: t.pop("stem.0.weight"),
        lambda c, t: t.update({"stem.9.weight": torch.zeros(3)}),
        lambda c, t: t.update({"stem.0.bias": torch.full_like(t["stem.0.bias"], torch.nan)}),
        lambda c, t: c.update(model_type="bert"),
        lambda c, t: c.update(depth=3),
    ],
)  # fmt: skip
def test_a_checkpoint_that_is_not_whole_is_refused(
    spoil: Callable[[dict[str, Any], dict[str, torch.Tensor]], object], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    _random().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    tensors = load_file(tmp_path / "model.safetensors")
    spoil(config, tensors)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=str(tmp_path)):
        Enformer.from_pretrained(tmp_path)


def test_windows_of_a_wrong_shape_are_refused() -> None:
    model = _random()
    with pytest.raises(InputError, match="multiple of the bin"):
        model(torch.zeros(1, 4095, 4))
    with pytest.raises(InputError, match="shape"):
        model(torch.zeros(1, 4, 4096))
    with pytest.raises(InputError, match="unknown head"):
        model(torch.zeros(1, 4096, 4), ["c"])
