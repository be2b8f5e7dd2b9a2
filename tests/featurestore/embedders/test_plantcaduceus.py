"""PlantCaduceus: the original's numbers, from any form of its checkpoints, and nothing else."""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from featurestore.embedders.plantcaduceus import paths
from featurestore.embedders.plantcaduceus import selective_scan as scan_module
from featurestore.embedders.plantcaduceus.cards import CARDS, card_of
from featurestore.embedders.plantcaduceus.configuration import COMPLEMENT_MAP, PlantCaduceusConfig
from featurestore.embedders.plantcaduceus.layers import run_layers
from featurestore.embedders.plantcaduceus.modeling import PlantCaduceusForMaskedLM
from featurestore.embedders.plantcaduceus.scan import scan_by_steps
from featurestore.embedders.plantcaduceus.strand_order import compare_strand_orders
from featurestore.embedders.plantcaduceus.tokenizer import (
    ID_OF_CODE,
    VOCABULARY,
    PlantCaduceusTokenizer,
)
from featurestore.errors import InputError
from featurestore.sequence.iupac import LETTERS, encode
from tests.builders.caduceus_oracle import Oracle, config_of, random_tensors
from tests.conftest import SHARED

FIXTURE = SHARED / "fixtures" / "caduceus_tiny_even"
MIXER = "caduceus.backbone.layers.{}.mixer.submodule."
TIED = [MIXER.format(i) + f"mamba_rev.{p}_proj.weight" for i in (0, 1) for p in ("in", "out")]
ORDER = torch.tensor([COMPLEMENT_MAP[k] for k in range(8)])


def as_torch(tensors: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {k: torch.from_numpy(np.array(v)) for k, v in tensors.items()}


def without_ties(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    dropped = ("mamba_rev.in_proj.weight", "mamba_rev.out_proj.weight", "lm_head.lm_head.weight")
    return {k: v for k, v in tensors.items() if not k.endswith(dropped)}


def write(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor] | None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if tensors is not None:
        torch.save(tensors, folder / "pytorch_model.bin")
    return folder


def model_of(config: dict[str, Any], tensors: dict[str, Any]) -> PlantCaduceusForMaskedLM:
    model = PlantCaduceusForMaskedLM(PlantCaduceusConfig(**config))
    model.load_tensors(as_torch(tensors), "made here")
    return model.eval()


def ids_of(batch: int = 2, length: int = 70, seed: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(2, 7, (batch, length)))


def run(model: PlantCaduceusForMaskedLM, ids: torch.Tensor) -> Any:
    with torch.no_grad():
        return model(ids, output_hidden_states=True)


@pytest.fixture(autouse=True)
def one_thread():
    """Small products over several threads of a busy machine wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def fixture() -> Path:
    if not FIXTURE.is_dir():
        pytest.skip(f"needs the recorded numbers in {FIXTURE}, which are not here")
    return FIXTURE


@pytest.fixture(scope="module")
def small() -> tuple[dict[str, Any], dict[str, Any]]:
    config = config_of(16, 2, ssm={"d_state": 4})
    return config, random_tensors(config)


@pytest.fixture(params=["chosen", "plain torch"])
def path(request, monkeypatch):
    if request.param == "plain torch":
        monkeypatch.setattr(
            paths,
            "run",
            lambda backbone, x, dtype, keep: run_layers(x, backbone.layer_tensors(), dtype, keep),
        )
    return request.param


# The original's recorded numbers


def test_the_fixtures_numbers_come_from_either_weight_file_bit_for_bit(fixture, tmp_path):
    recorded = np.load(fixture / "io.npz")
    ids = torch.from_numpy(recorded["input_ids"]).long()
    outputs = []
    for file in ("model.safetensors", "pytorch_model.bin"):
        folder = tmp_path / file
        folder.mkdir()
        for name in ("config.json", file):
            shutil.copy(fixture / name, folder)
        model = PlantCaduceusForMaskedLM.from_pretrained(folder)
        assert not model.training
        outputs.append(run(model, ids))
    tied_dropped, all_keys = outputs
    for i, (one, other) in enumerate(
        zip(tied_dropped.hidden_states, all_keys.hidden_states, strict=True)
    ):
        assert torch.equal(one, other)
        np.testing.assert_allclose(one.numpy(), recorded[f"hidden_{i}"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(one.numpy(), recorded["last_hidden_state"], rtol=0, atol=2e-5)
    assert torch.equal(tied_dropped.logits, all_keys.logits)
    logits, truth = tied_dropped.logits.numpy(), recorded["logits"]
    assert np.abs(logits - truth).max() <= 1e-5 * np.abs(truth).max()
    d = one.shape[-1] // 2
    averaged = (one[..., :d] + one[..., d:].flip(-1)) / 2
    np.testing.assert_allclose(averaged.numpy(), recorded["averaged"], rtol=0, atol=2e-5)


def test_the_oracle_agrees_with_the_fixture(fixture):
    config = json.loads((fixture / "config.json").read_text())
    config["complement_map"] = {int(k): v for k, v in config["complement_map"].items()}
    tensors = torch.load(fixture / "pytorch_model.bin", weights_only=True)
    recorded = np.load(fixture / "io.npz")
    hidden, logits = Oracle(config, {k: v.numpy() for k, v in tensors.items()})(
        recorded["input_ids"]
    )
    for i, one in enumerate(hidden):
        np.testing.assert_allclose(one, recorded[f"hidden_{i}"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(logits, recorded["logits"], rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(
    "MERISTEM_PLANTCADUCEUS_L20" not in os.environ,
    reason="needs the real l20 weights: set MERISTEM_PLANTCADUCEUS_L20 to their folder or hub id",
)
def test_the_real_l20_gives_its_recorded_probabilities():
    recorded = json.loads((SHARED / "fixtures" / "plantcaduceus_l20_masked_probs.json").read_text())
    name = os.environ["MERISTEM_PLANTCADUCEUS_L20"]
    ids = torch.tensor(PlantCaduceusTokenizer.from_pretrained(name)(recorded["sequence"]).input_ids)
    ids[recorded["mask_index"]] = VOCABULARY["[MASK]"]
    model = PlantCaduceusForMaskedLM.from_pretrained(name)
    got = run(model, ids[None]).logits[0, recorded["mask_index"], 3:7].softmax(-1)
    np.testing.assert_allclose(got.numpy(), recorded["probs"], rtol=0, atol=1e-4)
    orders = compare_strand_orders(model, ids, range(100, 200))
    assert orders["exchanged"] < orders["in place"]


# An independent float64 form of the original, no folding


SHAPES = {
    "one layer": config_of(32, 1),
    "three layers": config_of(32, 3),
    "five layers": config_of(24, 5),
    "width 48": config_of(48, 3),
    "width 64, 8 states": config_of(64, 2, ssm={"d_state": 8}),
    "width 100, rank 5": config_of(100, 3, ssm={"dt_rank": 5, "d_state": 8}),
    "expand 3, filter of 3": config_of(20, 2, ssm={"expand": 3, "d_conv": 3}),
    "halves in place": config_of(32, 3, fused_add_norm=False),
    "halves in place, even": config_of(32, 2, fused_add_norm=False),
}


@pytest.mark.parametrize("name", SHAPES)
def test_any_shape_agrees_with_the_oracle(path, name):
    config = SHAPES[name]
    tensors = random_tensors(config, seed=1)
    ids = ids_of(length=67)
    hidden, logits = Oracle(config, tensors)(ids.numpy())
    got = run(model_of(config, tensors), ids)
    assert len(got.hidden_states) == config["n_layer"] + 1 == len(hidden)
    for one, truth in zip(got.hidden_states, hidden, strict=True):
        np.testing.assert_allclose(one.numpy(), truth, rtol=0, atol=4e-6 * np.abs(truth).max())
    np.testing.assert_allclose(got.logits.numpy(), logits, rtol=0, atol=1e-5 * np.abs(logits).max())


def test_the_order_of_the_halves_matters():
    tensors = random_tensors(config_of(32, 3))
    one, other = (
        run(model_of(config_of(32, 3, fused_add_norm=fused), tensors), ids_of()).hidden_states[-1]
        for fused in (True, False)
    )
    assert float(torch.cosine_similarity(one.flatten(), other.flatten(), dim=0)) < 0.9


@pytest.mark.parametrize("length", [1, 2, 3, 63, 64, 65, 130])
def test_lengths_around_the_pieces_of_the_scan(length):
    config = config_of(16, 2, ssm={"d_state": 4})
    tensors, ids = random_tensors(config), ids_of(1, length)
    hidden, _ = Oracle(config, tensors)(ids.numpy())
    got = run(model_of(config, tensors), ids).hidden_states[-1].numpy()
    np.testing.assert_allclose(got, hidden[-1], rtol=0, atol=2e-5)


# Forms of a checkpoint


def _norms_wrapped(tensors):
    return {
        k.replace("norm.weight", "norm.submodule.weight").replace(
            "norm_f.weight", "norm_f.submodule.weight"
        ): v
        for k, v in tensors.items()
    }


def _no_prefix(tensors):
    return {k.removeprefix("caduceus."): v for k, v in tensors.items()}


def _no_head(tensors):
    return {k: v for k, v in tensors.items() if not k.startswith("lm_head")}


FORMS = {
    "all keys": lambda t: t,
    "ties dropped": without_ties,
    "norms wrapped": _norms_wrapped,
    "no prefix": _no_prefix,
    "no prefix, ties dropped": lambda t: _no_prefix(without_ties(t)),
    "no head": _no_head,
    "half precision file": lambda t: {k: v.bfloat16() if v.is_floating_point() else v for k, v in t.items()},
}  # fmt: skip


@pytest.mark.parametrize("form", [f for f in FORMS if f != "half precision file"])
@pytest.mark.parametrize("file", ["bin", "safetensors", "bin shards", "safetensors shards"])
def test_every_form_of_a_checkpoint_gives_the_same_model(small, tmp_path, form, file):
    config, tensors = small
    changed = FORMS[form](as_torch(tensors))
    folder = write(tmp_path, config, None)
    shards = [changed]
    if "shards" in file:
        keys = sorted(changed)
        shards = [{k: changed[k] for k in keys[::2]}, {k: changed[k] for k in keys[1::2]}]
    stem = "pytorch_model" if "bin" in file else "model"
    suffix = file.split()[0]
    names = [f"{stem}.{suffix}"]
    if len(shards) > 1:
        names = [f"{stem}-0000{i + 1}-of-00002.{suffix}" for i in range(2)]
        where = {k: n for n, shard in zip(names, shards, strict=True) for k in shard}
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": where}))
    for name, shard in zip(names, shards, strict=True):
        if suffix == "bin":
            torch.save(shard, folder / name)
        else:  # safetensors refuses shared memory
            save_file({k: v.clone() for k, v in shard.items()}, folder / name)
    got = run(PlantCaduceusForMaskedLM.from_pretrained(folder), ids_of())
    want = run(model_of(config, tensors), ids_of())
    assert torch.equal(got.logits, want.logits)


def test_weights_of_half_precision_are_computed_in_full(small, tmp_path):
    config, tensors = small
    folder = write(tmp_path, config, FORMS["half precision file"](as_torch(tensors)))
    model = PlantCaduceusForMaskedLM.from_pretrained(folder)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_shard_that_lacks_or_an_index_that_leaves_its_folder_is_refused(small, tmp_path):
    config, _ = small
    folder = write(tmp_path, config, None)
    index = folder / "model.safetensors.index.json"
    for name, said in (("model-1.safetensors", "not found"), ("../x.safetensors", "outside")):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(InputError, match=said):
            PlantCaduceusForMaskedLM.from_pretrained(folder)


@pytest.mark.parametrize("key", [*TIED, "lm_head.lm_head.weight"])
def test_ties_that_differ_are_an_error_that_names_them(small, tmp_path, key):
    config, tensors = small
    changed = as_torch(tensors)
    changed[key] = changed[key].clone()
    changed[key][0, 0] += 1e-6
    with pytest.raises(InputError, match="tied in the model but differ") as caught:
        PlantCaduceusForMaskedLM.from_pretrained(write(tmp_path, config, changed))
    assert key in str(caught.value)
    assert "pytorch_model.bin" in str(caught.value)


def test_ties_of_nan_are_no_ties(small, tmp_path):
    config, tensors = small
    changed = as_torch(tensors)
    for way in ("fwd", "rev"):
        changed[MIXER.format(0) + f"mamba_{way}.in_proj.weight"] = torch.full((64, 16), torch.nan)
    with pytest.raises(InputError):
        PlantCaduceusForMaskedLM.from_pretrained(write(tmp_path, config, changed))


@pytest.mark.parametrize("key", TIED)
def test_a_copy_without_its_original_is_an_error(small, tmp_path, key):
    config, tensors = small
    changed = as_torch(tensors)
    original = key.replace("rev", "fwd")
    del changed[original]
    with pytest.raises(InputError, match="but not") as caught:
        PlantCaduceusForMaskedLM.from_pretrained(write(tmp_path, config, changed))
    assert original in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        MIXER.format(1) + "mamba_fwd.in_proj.weight",  # and its copy
        MIXER.format(0) + "mamba_rev.A_log",
        MIXER.format(0) + "mamba_fwd.conv1d.bias",
        "caduceus.backbone.layers.1.norm.weight",
        "caduceus.backbone.norm_f.weight",
        "caduceus.backbone.embeddings.word_embeddings.embedding.weight",
    ],
)
def test_a_missing_tensor_is_an_error_that_names_it(small, tmp_path, key):
    config, tensors = small
    gone = {key, key.replace("mamba_fwd.in_proj", "mamba_rev.in_proj"), "lm_head.lm_head.weight"}
    changed = {k: v for k, v in as_torch(tensors).items() if k not in gone}
    with pytest.raises(InputError, match="missing") as caught:
        PlantCaduceusForMaskedLM.from_pretrained(write(tmp_path, config, changed))
    assert key in str(caught.value)


def _surplus(t):
    t["caduceus.backbone.layers.7.norm.weight"] = torch.ones(16)


def _wrong_shape(t):
    t["caduceus.backbone.norm_f.weight"] = torch.ones(17)


def _nan(t):
    t[MIXER.format(0) + "mamba_fwd.D"] = torch.full((32,), torch.nan)


def _infinite(t):
    t[MIXER.format(0) + "mamba_rev.A_log"] = torch.full((32, 4), torch.inf)


def _whole_numbers(t):
    t["caduceus.backbone.norm_f.weight"] = torch.ones(16, dtype=torch.int64)


def _twice(t):
    t["backbone.norm_f.weight"] = torch.ones(16)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_surplus, r"have no place.*layers\.7"),
        (_wrong_shape, r"norm_f\.weight: \(17,\) where config\.json says \(16,\)"),
        (_nan, "not finite"),
        (_infinite, "not finite"),
        (_whole_numbers, "not finite"),
        (_twice, "there twice"),
    ],
)
def test_a_spoilt_tensor_is_an_error(small, tmp_path, spoil, said):
    config, tensors = small
    changed = as_torch(tensors)
    spoil(changed)
    with pytest.raises(InputError, match=said):
        PlantCaduceusForMaskedLM.from_pretrained(write(tmp_path, config, changed))


class _Code:
    """Pickled, it makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_code_in_a_pickle_is_refused_and_not_run(small, tmp_path):
    config, tensors = small
    changed: dict[str, Any] = as_torch(tensors)
    mark = tmp_path / "ran"
    changed["x"] = _Code(mark)
    folder = write(tmp_path / "model", config, changed)
    with pytest.raises(InputError, match="not a file of tensors alone"):
        PlantCaduceusForMaskedLM.from_pretrained(folder)
    assert not mark.exists()


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.999])
def test_a_truncated_file_is_refused(small, tmp_path, file, kept):
    config, tensors = small
    folder = write(tmp_path, config, None)
    whole = without_ties(as_torch(tensors))
    path = folder / file
    save_file(whole, path) if file.endswith("safetensors") else torch.save(whole, path)
    body = path.read_bytes()
    path.write_bytes(body[: int(kept * len(body)) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match=file):
        PlantCaduceusForMaskedLM.from_pretrained(folder)


def test_no_code_of_a_checkpoint_is_run(small, tmp_path):
    config, tensors = small
    config = config | {"auto_map": {"AutoModelForMaskedLM": "modeling_x.Model"}}
    folder = write(tmp_path, config, as_torch(tensors))
    mark = tmp_path / "ran"
    (folder / "modeling_x.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    model = PlantCaduceusForMaskedLM.from_pretrained(folder)
    assert not mark.exists()
    assert not hasattr(model.config, "auto_map")
    with pytest.raises(InputError, match="trust_remote_code"):
        PlantCaduceusForMaskedLM.from_pretrained(folder, trust_remote_code=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rcps": False}, "rcps = False"),
        ({"bidirectional": False}, "bidirectional = False"),
        ({"bidirectional_strategy": "ew_multiply"}, "bidirectional_strategy = 'ew_multiply'"),
        ({"bidirectional_weight_tie": False}, "bidirectional_weight_tie"),
        ({"rms_norm": False}, "rms_norm"),
        ({"ssm_cfg": {"bias": True}}, "bias"),
        ({"ssm_cfg": {"conv_bias": False}}, "conv_bias"),
        ({"ssm_cfg": {"d_state": 0}}, "d_state"),
        ({"ssm_cfg": {"dt_rank": "large"}}, "dt_rank"),
        ({"ssm_cfg": [1]}, "ssm_cfg"),
        ({"complement_map": {0: 0, 1: 1, 2: 2, 3: 4, 4: 3, 5: 6, 6: 4, 7: 7}}, "complement_map"),
        ({"complement_map": {"a": "t"}}, "complement_map"),
        ({"d_intermediate": 512}, "d_intermediate"),
        ({"mixer": "mamba3"}, "mamba3"),
        ({"model_type": "bert"}, "bert"),
        ({"d_model": "wide"}, "d_model"),
        ({"n_layer": 0}, "n_layer"),
        ({"vocab_size": -8}, "vocab_size"),
    ],
)
def test_a_config_of_another_model_is_refused(small, tmp_path, change, said):
    config, tensors = small
    folder = write(tmp_path, config | change, as_torch(tensors))
    with pytest.raises(InputError, match=said):
        PlantCaduceusForMaskedLM.from_pretrained(folder)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "7"])
def test_a_config_that_is_missing_or_no_json_object_is_refused(small, tmp_path, text):
    config, tensors = small
    folder = write(tmp_path, config, as_torch(tensors))
    (folder / "config.json").unlink()
    if text is not None:
        (folder / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json"):
        PlantCaduceusForMaskedLM.from_pretrained(folder)


def test_a_folder_without_weights_is_refused(small, tmp_path):
    with pytest.raises(InputError, match=r"no weights.*model\.safetensors"):
        PlantCaduceusForMaskedLM.from_pretrained(write(tmp_path, small[0], None))


# Saving


@pytest.mark.parametrize("fused", [True, False])
def test_saved_and_loaded_again_it_is_the_same(tmp_path, fused):
    config = config_of(16, 3, ssm={"d_state": 4}, fused_add_norm=fused)
    model = model_of(config, random_tensors(config))
    model.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    keys = {k for k in without_ties(as_torch(random_tensors(config))) if "complement" not in k}
    assert set(load_file(tmp_path / "model.safetensors")) == keys
    again = PlantCaduceusForMaskedLM.from_pretrained(tmp_path)
    assert torch.equal(run(model, ids_of()).logits, run(again, ids_of()).logits)
    assert PlantCaduceusConfig.from_pretrained(tmp_path).to_dict() == again.config.to_dict()


def test_released_sizes_have_their_parameters():
    for layers, width in ((20, 384), (24, 512), (28, 768), (32, 1024)):
        with torch.device("meta"):
            model = PlantCaduceusForMaskedLM(PlantCaduceusConfig(d_model=width, n_layer=layers))
        card = card_of(f"PlantCaduceus_l{layers}")
        assert card is not None
        assert sum(p.numel() for p in model.parameters()) == card.parameters


def test_cards_name_the_species_of_the_pre_training():
    assert {card.licence for card in CARDS.values()} == {"Apache-2.0"}
    first, second = (
        card_of("kuleshov-group/PlantCaduceus_l20"),
        card_of("PlantCAD2-Small-l24-d0768"),
    )
    assert first is not None
    assert second is not None
    assert len(set(first.pretraining_species)) == 16
    assert len(set(second.pretraining_species)) == 65
    assert "Zea mays" not in first.pretraining_species  # its test species
    assert "Zea mays" in second.pretraining_species
    assert card_of("someone/else") is None


# Reverse complement


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("width", "layers", "fused", "batch", "length"),
    [
        (48, 2, True, 3, 100), (48, 3, True, 3, 100), (48, 3, False, 2, 64),
        (36, 2, True, 1, 7), (100, 3, True, 5, 77), (16, 1, True, 1, 1),
    ],
)  # fmt: skip
def test_the_reverse_complement_is_equivariant_to_the_last_bit(
    path, dtype, width, layers, fused, batch, length
):
    config = config_of(width, layers, fused_add_norm=fused)
    model = model_of(config, random_tensors(config))
    model.set_compute_dtype(dtype)
    ids = ids_of(batch, length)
    one, other = run(model, ids), run(model, ORDER[ids].flip(1))
    for a, b in zip(one.hidden_states, other.hidden_states, strict=True):
        assert torch.equal(a, b.flip(1, 2))
    assert torch.equal(one.logits, other.logits.flip(1)[..., ORDER])


def test_a_row_depends_on_nothing_but_itself(small):
    model = model_of(*small)
    ids = ids_of(5)
    whole = run(model, ids).logits
    torch.testing.assert_close(run(model, ids[3:4]).logits, whole[3:4], rtol=0, atol=1e-5)


# Tokens


def test_one_token_a_base_and_none_beside():
    tokenizer = PlantCaduceusTokenizer()
    assert tokenizer("ACGTacgt").input_ids == [3, 4, 5, 6, 3, 4, 5, 6]
    assert tokenizer("NRYSWKMBDHVn").input_ids == [2] * 12
    assert len(tokenizer("A" * 512).input_ids) == 512
    both = tokenizer(["AC", "GT"], return_tensors="pt")
    assert both["input_ids"].tolist() == [[3, 4], [5, 6]]
    assert set(both) == {"input_ids"}
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    assert tokenizer.convert_tokens_to_ids(["a", "t", "[MASK]"]) == [3, 6, 1]
    assert tokenizer.get_vocab() == VOCABULARY


def test_base_codes_and_the_tokenizer_agree():
    text = "".join(LETTERS)
    assert ID_OF_CODE[encode(text)].tolist() == PlantCaduceusTokenizer()(text).input_ids


def test_the_complement_of_tokens_is_that_of_bases():
    tokenizer = PlantCaduceusTokenizer()
    for base, other in zip("acgt", "tgca", strict=True):
        assert COMPLEMENT_MAP[VOCABULARY[base]] == VOCABULARY[other]
        assert tokenizer.decode([COMPLEMENT_MAP[VOCABULARY[base]]]) == other


def test_a_tokenizer_file_of_another_vocabulary_is_refused(small, tmp_path):
    folder = write(tmp_path, small[0], {})
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({"model": {"vocab": VOCABULARY}}))
    assert PlantCaduceusTokenizer.from_pretrained(folder)("acgt").input_ids == [3, 4, 5, 6]
    path.write_text(json.dumps({"model": {"vocab": VOCABULARY | {"a": 6, "t": 3}}}))
    with pytest.raises(InputError, match="vocabulary"):
        PlantCaduceusTokenizer.from_pretrained(folder)
    path.write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        PlantCaduceusTokenizer.from_pretrained(folder)


def test_saved_the_tokenizer_comes_back(small, tmp_path):
    folder = write(tmp_path, small[0], {})
    PlantCaduceusTokenizer().save_pretrained(folder)
    assert PlantCaduceusTokenizer.from_pretrained(folder)("acgtn").input_ids == [3, 4, 5, 6, 2]


# Compute dtypes


@pytest.mark.parametrize("name", ["bf16", "bfloat16", torch.bfloat16])
def test_dtypes_go_by_any_of_their_names(small, name):
    model = model_of(*small)
    model.set_compute_dtype(name)
    assert model.backbone.compute_dtype == "bf16"
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["fp8", "int8", torch.float64, None])
def test_an_unknown_dtype_is_refused(small, name):
    with pytest.raises(InputError, match="choose fp32, bf16 or fp16"):
        model_of(*small).set_compute_dtype(name)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_products_stay_close(dtype):
    config = config_of(64, 4)
    model = model_of(config, random_tensors(config))
    exact = run(model, ids_of(2, 128)).hidden_states[-1]
    model.set_compute_dtype(dtype)
    got = run(model, ids_of(2, 128)).hidden_states[-1]
    assert not torch.equal(got, exact)
    assert got.dtype == torch.float32
    assert float(torch.cosine_similarity(got, exact, dim=-1).min()) > 0.999


# Training


def test_the_gradient_of_the_scan_is_that_of_autograd_through_its_steps():
    rng = np.random.default_rng(0)

    def made(*shape: int, low: float = -1.0, high: float = 1.0) -> torch.Tensor:
        return torch.from_numpy(rng.uniform(low, high, shape)).requires_grad_()

    s, length, c, n = 2, 150, 3, 4  # over two borders between pieces
    given = [
        made(s, length, c), made(s, length, c, low=0.01), made(c, n, low=-3, high=-0.1),
        made(s, length, n), made(s, length, n), made(c),
    ]  # fmt: skip
    weight = torch.from_numpy(rng.standard_normal((s, length, c)))
    truth = torch.autograd.grad((scan_by_steps(*given) * weight).sum(), given)
    got = torch.autograd.grad((scan_module.selective_scan(*given) * weight).sum(), given)
    for one, other in zip(got, truth, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def _loss(model: PlantCaduceusForMaskedLM, seed: int = 5) -> torch.Tensor:
    ids = ids_of(2, 70, seed)
    labels = torch.full_like(ids, -100)
    labels[:, ::7] = ids[:, ::7]
    masked = ids.clone()
    masked[:, ::7] = VOCABULARY["[MASK]"]
    loss: torch.Tensor = model(masked, labels=labels).loss
    return loss


def test_the_gradient_of_the_model_is_that_of_autograd_through_the_steps(small, monkeypatch):
    grads = []
    for plain in (False, True):
        model = model_of(*small).train()
        if plain:
            monkeypatch.setattr(
                "featurestore.embedders.plantcaduceus.layers.selective_scan", scan_by_steps
            )
        _loss(model).backward()
        grads.append({k: p.grad for k, p in model.named_parameters()})
    for key, grad in grads[1].items():
        assert grad is not None, key
        assert float(grad.abs().max()) > 0, key
        torch.testing.assert_close(grads[0][key], grad, rtol=1e-4, atol=1e-6, msg=key)


def test_training_lowers_the_loss_and_leaves_frozen_parameters(small):
    model = model_of(*small).train()
    frozen = model.backbone.word_embeddings.weight.requires_grad_(False)
    before = frozen.clone()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = _loss(model)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1
    assert torch.equal(frozen, before)


def test_weights_of_positions_in_the_loss(small):
    model = model_of(*small)
    ids = ids_of()
    labels = torch.where(torch.rand(ids.shape, generator=torch.manual_seed(0)) < 0.3, ids, -100)
    with torch.no_grad():
        plain = model(ids, labels=labels).loss
        even = model(ids, labels=labels, loss_weights=torch.full(ids.shape, 0.5)).loss
        front = model(ids, labels=labels, loss_weights=(torch.arange(70) < 35).expand(2, -1)).loss
        truth = model(ids, labels=labels.masked_fill(torch.arange(70) >= 35, -100)).loss
    torch.testing.assert_close(even, plain)
    torch.testing.assert_close(front, truth)


def _in_place(model, other):
    with torch.no_grad():
        for mine, new in zip(model.parameters(), other.parameters(), strict=True):
            mine.copy_(new)


def _state_dict(model, other):
    model.load_state_dict(other.state_dict())


def _assigned(model, other):
    model.load_state_dict(other.state_dict(), assign=True)


def _data(model, other):
    for mine, new in zip(model.parameters(), other.parameters(), strict=True):
        mine.data = new.data.clone()


def _data_in_place(model, other):
    for mine, new in zip(model.parameters(), other.parameters(), strict=True):
        mine.data.copy_(new.data)
    model.train().eval()


def _stepped(model, other):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for mine, new in zip(model.parameters(), other.parameters(), strict=True):
        mine.grad = (mine - new).detach()
    optimizer.step()


@pytest.mark.parametrize(
    "change", [_in_place, _state_dict, _assigned, _data, _data_in_place, _stepped]
)
def test_what_is_prepared_follows_the_parameters(small, change):
    config, tensors = small
    model, other = model_of(config, tensors), model_of(config, random_tensors(config, seed=9))
    before = run(model, ids_of()).logits
    assert torch.equal(run(model, ids_of()).logits, before)
    want = run(other, ids_of()).logits
    change(model, other)
    torch.testing.assert_close(run(model, ids_of()).logits, want, rtol=1e-4, atol=1e-4)


def test_inference_mode_in_between_does_no_harm(small):
    model = model_of(*small)
    with torch.inference_mode():
        before = model(ids_of()).logits.clone()
    _loss(model.train()).backward()
    assert torch.equal(run(model.eval(), ids_of()).logits, before)


def test_a_copy_stands_on_its_own(small):
    model = model_of(*small)
    before = run(model, ids_of()).logits
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.backbone.norm_f.weight.mul_(2)
    assert torch.equal(run(model, ids_of()).logits, before)
    assert not torch.equal(run(other, ids_of()).logits, before)
    copied = other.backbone.layers[0].mixer.submodule
    assert copied.mamba_rev.in_proj is copied.mamba_fwd.in_proj
    assert other.lm_head.lm_head.weight is other.backbone.word_embeddings.weight


def test_a_new_model_starts_as_the_originals_do():
    torch.manual_seed(0)
    config = PlantCaduceusConfig(d_model=64, n_layer=4)
    model = PlantCaduceusForMaskedLM(config)
    one = model.backbone.layers[0].mixer.submodule
    for way in (one.mamba_fwd, one.mamba_rev):
        step = torch.nn.functional.softplus(way.dt_proj.bias.detach())
        assert 1e-3 * 0.99 <= float(step.min()) < float(step.max()) <= 0.1 * 1.01
        torch.testing.assert_close(way.A_log.detach().exp()[0], torch.arange(1.0, 17))
    assert 0.015 < float(model.backbone.word_embeddings.weight.detach().std()) < 0.025
    assert abs(float(_loss(model.train()).detach()) - np.log(8)) < 0.5


def test_predictions_tell_the_order_of_the_halves():
    torch.manual_seed(0)
    config = PlantCaduceusConfig(d_model=16, n_layer=2, ssm_cfg={"d_state": 4})
    model = PlantCaduceusForMaskedLM(config).train()
    # A periodic sequence: what stands at a place follows from its neighbours.
    text = torch.tensor([3, 4, 4, 5, 3, 6, 5] * 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for step in range(60):
        ids = text.roll(step)[None].repeat(4, 1)
        hidden = torch.rand(ids.shape, generator=torch.manual_seed(step)) < 0.15
        optimizer.zero_grad()
        model(ids.masked_fill(hidden, 1), labels=ids.masked_fill(~hidden, -100)).loss.backward()
        optimizer.step()
    model.eval()
    before = run(model, text[None]).logits
    found = compare_strand_orders(model, text, range(7, 21))
    assert found["exchanged"] < 0.7 < found["in place"]
    assert torch.equal(run(model, text[None]).logits, before)
