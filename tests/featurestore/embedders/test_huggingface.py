"""``huggingface``: any model of transformers; tokens meet their bases, and nothing of a checkpoint runs."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import featurestore
from featurestore.build.engine import build
from featurestore.embedders.huggingface.alignment import Tokens
from featurestore.embedders.huggingface.embedder import HuggingFace
from featurestore.embedders.huggingface.model import LoadedModel
from featurestore.embedders.huggingface.supported import card_licence
from featurestore.embedders.huggingface.writing import Writing
from featurestore.embedders.recipe import make_recipe
from featurestore.errors import InputError
from featurestore.sample import write_sample
from featurestore.sequence.iupac import LETTERS, decode, encode, reverse_complement

torch = pytest.importorskip("torch", reason="models need torch")
transformers = pytest.importorskip("transformers", reason="models need transformers")

from tests.builders import genomic_models as build_models  # noqa: E402 # needs both
from tests.builders.hub_server import hub_server  # noqa: E402

WINDOW, SPAN = 60, 25
TOLERANCE = 2e-5


@dataclass(frozen=True)
class Case:
    """One model, and what the oracle knows of its tokenizer from its definition alone."""

    folder: Path
    settings: dict[str, Any]
    split: Callable[[str], list[tuple[int, int, str]]]  # sequence → first base, last base, token
    before: int  # special tokens in front
    after: int


def six_mers(sequence: str) -> list[tuple[int, int, str]]:
    # "6-mer tokens when possible, standalone tokens when necessary", from left to right
    return [(m.start(), m.end(), m[0]) for m in re.finditer("[ACGT]{6}|[ACGTN]", sequence)]


def three_mers(sequence: str) -> list[tuple[int, int, str]]:
    return [(i, i + 3, sequence[i : i + 3]) for i in range(len(sequence) - 2)]


def characters(sequence: str) -> list[tuple[int, int, str]]:
    return [(i, i + 1, base.lower()) for i, base in enumerate(sequence)]


def merged(folder: Path) -> Callable[[str], list[tuple[int, int, str]]]:
    """Byte-pair merges by hand: lowest rank first, leftmost first (Sennrich et al. 2016)."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    pairs = [tuple(m.split() if isinstance(m, str) else m) for m in model["merges"]]
    rank = {pair: i for i, pair in enumerate(pairs)}

    def split(sequence: str) -> list[tuple[int, int, str]]:
        parts = list(sequence)
        while True:
            known = [(rank[p], i) for i, p in enumerate(pairwise(parts)) if p in rank]  # fmt: skip
            if not known:
                break
            _, i = min(known)
            parts[i : i + 2] = ["".join(parts[i : i + 2])]
        ends = np.cumsum([len(p) for p in parts]).tolist()
        return [(e - len(p), e, p) for e, p in zip(ends, parts, strict=True)]

    return split


@pytest.fixture(scope="session")
def cases(tmp_path_factory) -> dict[str, Case]:
    root = tmp_path_factory.mktemp("genomic_models")
    bpe = build_models.bert_bpe(root / "bert_bpe")
    lower = {"case": "lower"}
    return {
        "esm": Case(build_models.esm_six_mers(root / "esm"), {}, six_mers, 1, 0),
        "bpe": Case(bpe, {}, merged(bpe), 1, 1),
        "overlapping": Case(
            build_models.bert_overlapping(root / "dnabert"),
            {"tokens": "overlapping-3"}, three_mers, 1, 1,
        ),
        "gpt2": Case(build_models.gpt2_characters(root / "gpt2"), lower, characters, 1, 0),
        "mamba": Case(build_models.mamba_characters(root / "mamba"), lower, characters, 1, 0),
    }  # fmt: skip


@pytest.fixture(params=["esm", "bpe", "overlapping", "gpt2", "mamba"])
def case(request, cases) -> Case:
    return cases[request.param]


def made(model: Case, recipe: Any = None, **other: Any) -> HuggingFace:
    settings = {"batch": 4, **model.settings, **other}
    geometry = {"window": WINDOW, "span": SPAN, **(recipe or {})}
    embedder = HuggingFace(str(model.folder), recipe=geometry, **settings)
    embedder.load("cpu")
    return embedder


def windows(n: int = 7, seed: int = 0) -> np.ndarray:
    """Random bases; runs of N inside, at either end, single ones, other ambiguity codes."""
    codes = np.random.default_rng(seed).integers(0, 4, (max(n, 7), WINDOW)).astype(np.uint8)
    codes[1, 22:31] = codes[2, :20] = codes[3, 50:] = 4
    codes[4, ::7] = 4
    codes[5, 10:25] = np.arange(15)
    return codes[:n]


@lru_cache(maxsize=8)
def published(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer as transformers loads them."""
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    model = getattr(transformers, name).from_pretrained(folder).eval()
    return model, transformers.AutoTokenizer.from_pretrained(folder)


def per_base(case: Case, codes: np.ndarray, layer: int = -1) -> np.ndarray:
    """Vector of every base of one window: from the raw model on that window alone, unpadded."""
    sequence = re.sub("[^ACGT]", "N", decode(codes))
    pieces = case.split(sequence)
    model, tokenizer = published(case.folder)
    vocabulary = tokenizer.get_vocab()
    own = [vocabulary.get(token, tokenizer.unk_token_id) for _, _, token in pieces]
    front = [tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id]  # fmt: skip
    ids = front[: case.before] + own + [tokenizer.sep_token_id] * case.after
    with torch.no_grad():
        out = model(torch.tensor([ids]), output_hidden_states=True)
    states = out.hidden_states[layer][0].numpy()[case.before : len(ids) - case.after]
    vectors = np.zeros((len(codes), states.shape[1]))
    for base in range(len(codes)):
        covering = [i for i, (first, last, _) in enumerate(pieces) if first <= base < last]
        assert covering
        vectors[base] = np.mean([states[i] for i in covering], axis=0)
    return vectors


@pytest.fixture(scope="module", autouse=True)
def one_thread_and_no_progress_bars():
    """Tiny products only lose by threads; the oracle's own loading has nothing to tell."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()
    torch.set_num_threads(threads)


def test_bins_are_means_over_their_bases_on_both_strands(case):
    codes = windows()
    got = made(case).embed(codes)["embedding"]
    first = (WINDOW - SPAN) // 2
    for row, window in zip(got, codes, strict=True):
        forward = per_base(case, window)[first : first + SPAN].mean(axis=0)
        mirrored = per_base(case, reverse_complement(window))[::-1]
        reverse = mirrored[first : first + SPAN].mean(axis=0)
        np.testing.assert_allclose(row, (forward + reverse) / 2, atol=TOLERANCE)


@pytest.mark.parametrize("layer", [-1, 0, 1, 2])
def test_tokens_bases_and_layers_are_the_ones_asked_for(cases, layer):
    case = cases["esm"]
    codes = windows(3)
    shared = {"layer": layer, "strands": "forward"}
    each = made(case, {"pool": "tokens", **shared}).embed(codes)["embedding"]
    one = made(case, {"pool": "token", "token": 33, **shared}).embed(codes)["embedding"]
    assert each.shape == (3, SPAN, build_models.WIDTH)
    first = (WINDOW - SPAN) // 2
    for i, window in enumerate(codes):
        want = per_base(case, window, layer)
        np.testing.assert_allclose(each[i], want[first : first + SPAN], atol=TOLERANCE)
        np.testing.assert_allclose(one[i], want[33], atol=TOLERANCE)


def test_reading_the_other_strand_mirrors_the_positions(case):
    codes = windows()
    other = reverse_complement(codes)
    # spans of even overhang lie in the middle, whichever strand is read
    even = {"span": SPAN + 1}
    pooled, each = made(case, even), made(case, even | {"pool": "tokens"})
    np.testing.assert_allclose(
        pooled.embed(other)["embedding"], pooled.embed(codes)["embedding"], atol=TOLERANCE
    )
    np.testing.assert_allclose(
        each.embed(other)["embedding"][:, ::-1], each.embed(codes)["embedding"], atol=TOLERANCE
    )
    np.testing.assert_allclose(
        each.embed(codes)["embedding"].mean(axis=1), pooled.embed(codes)["embedding"], atol=TOLERANCE
    )  # fmt: skip
    both = made(case, even | {"strands": "both"}).embed(codes)["embedding"]
    forward = made(case, even | {"strands": "forward"})
    np.testing.assert_array_equal(both[:, : build_models.WIDTH], forward.embed(codes)["embedding"])
    np.testing.assert_array_equal(both[:, build_models.WIDTH :], forward.embed(other)["embedding"])


def test_a_row_does_not_depend_on_its_neighbours(case):
    embedder = made(case)
    codes = np.concatenate([windows(), windows(4, seed=1)])
    whole = embedder.embed(codes)["embedding"]
    order = np.random.default_rng(2).permutation(len(codes))
    np.testing.assert_array_equal(embedder.embed(codes[order])["embedding"], whole[order])
    alone = np.concatenate([embedder.embed(c[None])["embedding"] for c in codes[:3]])
    np.testing.assert_array_equal(alone, whole[:3])


def test_out_of_memory_halves_the_piece_and_goes_on(cases, monkeypatch):
    codes = windows()
    embedder = made(cases["bpe"])
    whole = embedder.embed(codes)["embedding"]
    seen = []

    def small_memory(self: Any, ids: Any, mask: Any, layer: int) -> Any:
        seen.append(len(ids))
        if len(ids) > 2:
            raise RuntimeError("out of memory")
        return plain(self, ids, mask, layer)

    plain = LoadedModel.hidden
    monkeypatch.setattr(LoadedModel, "hidden", small_memory)
    np.testing.assert_allclose(embedder.embed(codes)["embedding"], whole, atol=TOLERANCE)
    assert {4, 2} <= set(seen)


def test_windows_without_any_base_are_zeros(cases):
    codes = windows(3)
    codes[1] = 4
    codes[2] = LETTERS.index("R")
    vectors = made(cases["esm"]).embed(codes)["embedding"]
    assert vectors[0].any()
    assert not vectors[1:].any()


def test_too_many_single_bases_cost_context_but_not_the_bin(tmp_path):
    # 60 bp are 11 tokens; with N in the flanks they are more than the 40 the model takes
    folder = build_models.esm_six_mers(tmp_path / "short", positions=40)
    case = Case(folder, {}, six_mers, 1, 0)
    codes = np.repeat(windows(1), 2, axis=0)
    codes[1, :17] = codes[1, 42:] = 4  # 18 more at the end: 17 + 5 + 18 tokens and CLS
    got = made(case, {"strands": "forward"}).embed(codes)["embedding"]
    np.testing.assert_allclose(got[0], per_base(case, codes[0])[17:42].mean(axis=0), atol=TOLERANCE)
    shorter = codes[1, :-1]  # the token farthest from the bin went
    np.testing.assert_allclose(got[1], per_base(case, shorter)[17:42].mean(axis=0), atol=TOLERANCE)
    wide = HuggingFace(str(folder), recipe={"window": 60, "span": 50})
    with pytest.raises(InputError, match=r"bases 5 to 54 of a window .* more tokens than the 40"):
        wide.load("cpu")


def test_models_that_feel_their_padding_run_without(cases, tmp_path):
    # FNet mixes all positions and has no mask; Mamba-2's configuration holds an infinity
    sizes = {"vocab_size": 60, "num_hidden_layers": 2, "pad_token_id": 3}
    made_up = {
        1: transformers.FNetForMaskedLM(
            transformers.FNetConfig(
                **sizes, hidden_size=16, intermediate_size=24, max_position_embeddings=128
            )
        ),
        32: transformers.Mamba2ForCausalLM(
            transformers.Mamba2Config(
                **sizes, hidden_size=16, state_size=4, num_heads=4, head_dim=8, n_groups=1
            )
        ),
    }
    for step, model in made_up.items():
        folder = tmp_path / str(step)
        shutil.copytree(cases["bpe"].folder, folder)
        model.save_pretrained(folder)
        case = Case(folder, {}, merged(folder), 1, 1)
        embedder = made(case, {"strands": "forward"})
        assert embedder.step == step
        codes = windows()
        for row, window in zip(embedder.embed(codes)["embedding"], codes, strict=True):
            np.testing.assert_allclose(
                row, per_base(case, window)[17:42].mean(axis=0), atol=TOLERANCE
            )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.data())
def test_weights_of_tokens_are_shares_of_bases(lengths, data):
    stop = np.cumsum(lengths)
    start = stop - lengths
    total = int(stop[-1])
    tokens = Tokens(np.zeros(len(stop) + 2, np.int64), np.r_[0, start, 0], np.r_[0, stop, 0])
    first = data.draw(st.integers(0, total - 1))
    last = data.draw(st.integers(first + 1, total))
    counted = [
        sum(a <= b < z for b in range(first, last)) for a, z in zip(start, stop, strict=True)
    ]
    weights = tokens.mean_weights(first, last)
    np.testing.assert_allclose(weights[1:-1], np.array(counted) / (last - first), atol=1e-6)
    assert weights[0] == weights[-1] == 0
    np.testing.assert_allclose(tokens.base_weights(first, last).mean(axis=0), weights, atol=1e-6)


def test_text_is_written_as_the_settings_say():
    codes = encode("ACGTRN")[None]
    assert Writing().texts(codes) == ["ACGTNN"]
    assert Writing(case="lower", ambiguous="keep").texts(codes) == ["acgtrn"]
    assert Writing("overlapping-4").texts(codes) == ["ACGT CGTN GTNN"]
    assert Writing("separate-4").texts(codes) == ["ACGT NN"]
    for wrong in ({"tokens": "overlapping"}, {"case": "Upper"}, {"ambiguous": "NN"}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))} = "):
            Writing(**wrong)


def test_half_precision_is_near_and_forced(cases):
    codes = windows(4)
    full = made(cases["bpe"]).embed(codes)["embedding"]
    half = made(cases["bpe"], dtype="bf16")
    assert half.spec.dtype == "bf16"
    near = half.embed(codes)["embedding"]
    assert near.dtype == np.float32
    assert 0 < np.abs(near - full).max() < 0.1 * np.abs(full).max()


def test_identity_follows_content_and_not_the_place(cases, tmp_path):
    source = cases["esm"].folder
    moved = tmp_path / "elsewhere" / "esm"
    shutil.copytree(source, moved)
    here, there = made(cases["esm"]), HuggingFace(str(moved), {"window": 60, "span": 25}, batch=4)
    assert here.spec.identity() == there.spec.identity()
    assert str(tmp_path) not in json.dumps(there.spec.identity())
    words = (moved / "vocab.txt").read_text().splitlines()
    words[10], words[11] = words[11], words[10]
    (moved / "vocab.txt").write_text("\n".join(words))
    other = HuggingFace(str(moved), {"window": 60, "span": 25}, batch=4)
    assert other.spec.identity_digest() != here.spec.identity_digest()
    assert "N: letters of the vocabulary" in here.spec.iupac_rule
    assert "N: not in the vocabulary" in made(cases["bpe"]).spec.iupac_rule


def test_licence_comes_from_the_card_or_the_user(cases, tmp_path):
    folder = tmp_path / "esm"
    shutil.copytree(cases["esm"].folder, folder)
    assert HuggingFace(str(folder)).spec.licence == "not stated"
    card = "---\nlicense: cc-by-nc-sa-4.0\ntags:\n- !!python/object/apply:os.system ['false']\n---\n# A model\nlicense: mit\n"
    (folder / "README.md").write_text(card)
    assert HuggingFace(str(folder)).spec.licence == "cc-by-nc-sa-4.0"
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: 'own-1'\n---\n")
    assert card_licence(folder) == "own-1"
    told = HuggingFace(str(folder), licence="MIT", pretraining_species=["Zea mays"]).spec
    assert (told.licence, told.pretraining_species) == ("MIT", ("Zea mays",))


def test_the_default_window_is_512_or_what_the_model_takes(cases, tmp_path):
    folder = tmp_path / "gpt2"
    shutil.copytree(cases["gpt2"].folder, folder)
    config = json.loads((folder / "config.json").read_text())
    for positions, window in ((1024, 512), (512, 510), (401, 398), (128, 512)):
        (folder / "config.json").write_text(json.dumps(config | {"n_positions": positions}))
        assert HuggingFace(str(folder)).spec.input_bp == window


# What is refused


def changed(source: Path, folder: Path, **config: Any) -> str:
    shutil.copytree(source, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return str(folder)


def test_what_needs_code_of_a_third_party_is_refused_by_name(cases, tmp_path):
    with pytest.raises(InputError, match="huggingface needs checkpoint"):
        HuggingFace()
    source = cases["bpe"].folder
    code = {"AutoModelForMaskedLM": "bert_layers.BertForMaskedLM"}
    refused = [
        ({"model_type": "caduceus"}, 'type = "plantcaduceus"'),
        ({"model_type": "hyenadna", "auto_map": code}, "HyenaDNA is not in transformers"),
        ({"model_type": "stripedhyena", "auto_map": code}, "Evo .StripedHyena. is not in"),
        ({"auto_map": code}, r"'bert' comes with code of its own .auto_map.*native = true"),
        ({"model_type": None}, "names no model_type"),
        ({"model_type": None, "auto_map": code}, r"None comes with code of its own"),
        ({"quantization_config": {"bits": 8}}, "quantised"),
        ({"is_encoder_decoder": True}, "encoder-decoder"),
        ({"hidden_size": "wide"}, "says no hidden_size"),
    ]
    for i, (config, message) in enumerate(refused):
        with pytest.raises(InputError, match=message):
            HuggingFace(changed(source, tmp_path / str(i), **config))
    unknown = HuggingFace(changed(source, tmp_path / "unknown", model_type="genomix"))
    with pytest.raises(
        InputError, match=r"model_type 'genomix' is none .* knows.*loaded are masked"
    ):
        unknown.load("cpu")
    other = HuggingFace(changed(source, tmp_path / "vit", model_type="vit"))
    with pytest.raises(InputError, match="no masked or causal model"):
        other.load("cpu")


def test_weights_that_do_not_fit_are_refused_where_transformers_would_go_on(cases, tmp_path):
    from safetensors.torch import load_file, save_file

    source = cases["bpe"].folder
    given = changed(source, tmp_path / "a", auto_map={"AutoModel": "x.Y"})
    fine = HuggingFace(given, {"window": 60, "span": 25}, native=True)
    fine.load("cpu")
    weights = Path(given) / "model.safetensors"
    tensors = load_file(weights)
    some = next(k for k in tensors if "layer.1.attention.self.query.weight" in k)
    renamed = {k.replace("self.query", "self.Wqkv") if k == some else k: v for k, v in tensors.items()}  # fmt: skip
    save_file(renamed, weights)
    with pytest.raises(InputError, match=r"1 tensors are missing.*query.*have no place.*Wqkv"):
        HuggingFace(given, {"window": 60, "span": 25}, native=True).load("cpu")
    save_file(tensors | {some: torch.zeros(48, 16)}, weights)
    with pytest.raises(InputError, match=r"query.weight is \(48, 16\) where \(16, 16\) belongs"):
        HuggingFace(given, {"window": 60, "span": 25}, native=True).load("cpu")
    save_file(tensors | {some: torch.full((16, 16), torch.nan)}, weights)
    with pytest.raises(InputError, match="not finite"):
        HuggingFace(given, {"window": 60, "span": 25}, native=True).load("cpu")


class Planted:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_read_as_tensors_or_not_at_all(cases, tmp_path):
    folder = tmp_path / "bin"
    shutil.copytree(cases["bpe"].folder, folder)
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    codes = windows(2)
    embedder = HuggingFace(str(folder), {"window": 60, "span": 25}, batch=4)
    np.testing.assert_array_equal(
        embedder.embed(codes)["embedding"], made(cases["bpe"]).embed(codes)["embedding"]
    )
    trap = tmp_path / "ran"
    torch.save(tensors | {"extra": Planted(trap)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="not a file of tensors alone"):
        HuggingFace(str(folder), {"window": 60, "span": 25}).load("cpu")
    assert not trap.exists()


def test_windows_longer_than_the_model_say_which_fit(cases):
    long = HuggingFace(str(cases["gpt2"].folder), {"window": 200, "span": 25}, case="lower")
    with pytest.raises(InputError, match=r"200 bp is 201 tokens .* takes 128; .*window = 125"):
        long.load("cpu")
    fits = HuggingFace(str(cases["gpt2"].folder), {"window": 125, "span": 25}, case="lower")
    fits.load("cpu")


def test_tokenizers_that_do_not_fit_are_told(cases, tmp_path):
    folder = tmp_path / "none"
    shutil.copytree(cases["bpe"].folder, folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="holds no tokenizer"):
        HuggingFace(str(folder))
    with pytest.raises(
        InputError, match=r"does not know .* of .* tokens .* settings tokens and case"
    ):
        made(cases["gpt2"], case="upper")
    with pytest.raises(InputError, match=r"does not know"):
        made(cases["overlapping"], tokens="plain")
    # A BPE without unknown token drops what it lacks, without a word.
    drops = tmp_path / "drops"
    shutil.copytree(cases["bpe"].folder, drops)
    body = json.loads((drops / "tokenizer.json").read_text())
    body["model"]["unk_token"] = None
    (drops / "tokenizer.json").write_text(json.dumps(body))
    with pytest.raises(InputError, match=r"does not give the sequence back.* no token covers 'N+'"):
        HuggingFace(str(drops), {"window": 60, "span": 25}).load("cpu")
    HuggingFace(str(drops), {"window": 60, "span": 25}, ambiguous="A").load("cpu")
    shutil.copy(drops / "tokenizer.json", tmp_path / "tokenizer.json")
    foreign = tmp_path / "foreign"
    shutil.copytree(cases["bpe"].folder, foreign)
    body["model"] |= {"unk_token": "[UNK]"}
    body["model"]["vocab"]["A"] = 999
    (foreign / "tokenizer.json").write_text(json.dumps(body))
    with pytest.raises(InputError, match="gives token 999, and the model has"):
        HuggingFace(str(foreign), {"window": 60, "span": 25}).load("cpu")


def test_wrong_settings_are_told(cases):
    folder = str(cases["bpe"].folder)
    for wrong, message in (
        ({"dtype": "fp64"}, "choose fp32"),
        ({"batch": 0}, "number of windows"),
        ({"recipe": {"layer": 3}}, "layers −1 to 2"),
        ({"recipe": "empress"}, "Did you mean 'empres'"),
    ):
        with pytest.raises(InputError, match=message):
            HuggingFace(folder, **wrong)


# The hub, and a whole build


def test_a_hub_id_is_fetched_without_code(cases, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(cases["esm"].folder, folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "modeling_trap.py").write_text("raise SystemExit('ran')")
    script = (
        "from featurestore.embedders.huggingface.embedder import HuggingFace\n"
        "import json, sys\n"
        "one = HuggingFace('lab/tiny', {'window': 60, 'span': 25}, batch=4)\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
        "print(json.dumps([one.spec.identity(), str(one.checkpoint.folder)]))\n"
    )
    with hub_server(lab__tiny=folder) as hub:
        environment = {
            **os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }  # fmt: skip
        run = [sys.executable, "-c", script]
        done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        asked = " ".join(hub.requests)
    identity, fetched = json.loads(done.stdout)
    assert identity["checkpoint"] == "lab/tiny"
    assert identity["licence"] == "mit"
    assert "model.safetensors" in asked
    assert "modeling_trap" not in asked
    here = HuggingFace(fetched, {"window": 60, "span": 25}, batch=4)
    assert here.spec.digest == identity["digest"] == made(cases["esm"]).spec.digest
    codes = windows(2)
    np.testing.assert_array_equal(
        here.embed(codes)["embedding"], made(cases["esm"]).embed(codes)["embedding"]
    )


def test_a_build_stores_the_vectors_of_the_bins(tmp_path):
    write_sample(tmp_path / "sample", seed=1, genes=20, lines=0)
    dataset = tmp_path / "sample" / "dataset.toml"
    text = dataset.read_text()
    # a bin of nothing but N is 250 tokens
    folder = build_models.esm_six_mers(tmp_path / "esm", positions=300)
    text += (
        f'\n[embedders.tiny]\ntype = "huggingface"\ncheckpoint = "{folder}"\nbatch = 8\n'
        'recipe = { window = 300 }\nlicence = "MIT"\npretraining_species = ["none: random weights"]\n'
    )
    dataset.write_text(text)
    build(dataset, tmp_path / "s.zarr", embedders=["tiny"], species=["simulated_beta"])
    store = featurestore.open(tmp_path / "s.zarr")
    group = store["simulated_beta"]["tiny"]
    attrs = store.embedder_attrs("simulated_beta", "tiny")
    assert str(tmp_path) not in json.dumps(attrs, default=str)
    assert attrs["licence"] == "MIT"
    vectors = group["embedding"].values
    assert vectors.shape == (20, 2, 6, build_models.WIDTH)
    bases = store["simulated_beta"]["sequence"]["code"].values
    model = Case(folder, {}, six_mers, 1, 0)
    for gene in (0, 7, 19):
        window = bases[gene, 0, 500 - 25 : 750 + 25]  # bin 2 and 25 bases on either side
        forward = per_base(model, window)[25:275].mean(axis=0)
        mirrored = per_base(model, reverse_complement(window))[::-1][25:275].mean(axis=0)
        want = (forward + mirrored) / 2
        np.testing.assert_allclose(vectors[gene, 0, 2], want, atol=2e-3)


def test_the_examples_of_the_page_have_settings_that_exist():
    page = Path(__file__).resolve().parents[3] / "docs" / "huggingface.md"
    blocks = re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.M | re.S)
    known = set(inspect.signature(HuggingFace).parameters)
    # the list of names and the tables of a data set share a key in print, not in the parser
    plain = [re.sub(r"(?m)^embedders = .*$", "", block) for block in blocks]
    examples = [e for block in plain for e in tomllib.loads(block)["embedders"].values()]
    assert len(examples) == 3
    for example in examples:
        assert example.pop("type") == "huggingface"
        assert set(example) <= known
        make_recipe(example.get("recipe", "empres"), "page")
