"""a2z against Keras's own numbers, an oracle in float64, and files that only look like it."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import zarr
from click.testing import CliRunner

from featurestore.build.shards.recompute import verify_values
from featurestore.cli import cli
from featurestore.embedders.a2z import A2Z, A2ZEmbedder
from featurestore.embedders.a2z.convert import main as convert_main
from featurestore.embedders.a2z.keras_file import read_keras
from featurestore.embedders.a2z.kernels import CompiledForm
from featurestore.embedders.a2z.published import PUBLISHED, file_md5
from featurestore.embedders.a2z.word_tables import LookUpForm, WordTables
from featurestore.embedders.native.library import absence, kernels
from featurestore.embedders.registry import make_embedder
from featurestore.errors import InputError, InputFileNotFoundError, UnknownNameError
from featurestore.sample import write_sample
from featurestore.sequence.iupac import LETTERS, encode, one_hot
from tests.builders import a2z_keras
from tests.conftest import SHARED
from tests.oracles.a2z import a2z

FIXTURE = SHARED / "fixtures" / "a2z_keras"
WEIGHTS = "MERISTEM_A2Z_WEIGHTS"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small products on many threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return a2z_keras.arrays()


@pytest.fixture(scope="module")
def keras(tmp_path_factory, weights) -> Path:
    return a2z_keras.write(tmp_path_factory.mktemp("a2z") / "model.h5", weights)


@pytest.fixture(scope="module")
def model(keras) -> A2Z:
    return A2Z.from_keras(keras)


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    """12 windows: 8 of A C G T, 4 with all fifteen codes and stretches of N."""
    rng = np.random.default_rng(1)
    found = rng.integers(0, 4, (12, 600)).astype(np.uint8)
    some = rng.random((4, 600)) < 0.05
    found[8:][some] = rng.integers(0, 15, some.sum())
    found[10:, 200:330] = LETTERS.index("N")
    return found


@pytest.fixture(scope="module")
def x(codes) -> torch.Tensor:
    return torch.from_numpy(one_hot(codes))


@pytest.fixture(scope="module")
def truth(x, weights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return a2z(x.numpy(), weights)


@pytest.fixture(scope="module")
def fixture() -> Path:
    if not FIXTURE.is_dir():
        pytest.skip(f"needs the Keras fixture in {FIXTURE}, which is not here")
    return FIXTURE


def run(model: A2Z, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        embedding, probability = model(x)
    return embedding.numpy(), probability.numpy()


def test_keras_numbers(fixture):
    io = np.load(fixture / "io.npz")
    model = A2Z.from_keras(fixture / "model.h5")
    assert not model.training
    x = torch.from_numpy(io["x"])
    with_gradients = [t.detach().numpy() for t in model(x)]
    for embedding, probability in (run(model, x), with_gradients):
        np.testing.assert_allclose(embedding, io["e"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(probability, io["p"], rtol=0, atol=5e-6)


def test_the_oracle_has_keras_numbers(fixture):
    io = np.load(fixture / "io.npz")
    with h5py.File(fixture / "model.h5") as file:
        root = file["model_weights"]
        at = {"conv": "conv1d/conv1d", "dense": "dense/dense", "output": "dense_1/dense_1"}
        at |= {
            s: f"bidirectional/bidirectional/{s}_lstm/lstm_cell" for s in ("forward", "backward")
        }
        kinds = ("kernel", "bias", "recurrent_kernel")
        found = {
            f"{part}/{kind}": root[path][f"{kind}:0"][()]
            for part, path in at.items()
            for kind in kinds
            if f"{kind}:0" in root[path]
        }
    _, embedding, probability = a2z(io["x"][:4], found)
    np.testing.assert_allclose(embedding, io["e"][:4], rtol=0, atol=1e-5)
    np.testing.assert_allclose(probability, io["p"][:4], rtol=0, atol=1e-6)


def test_numbers_of_the_definition(model, truth, x):
    state, embedding, probability = truth
    assert embedding.std() > 0.05  # the weights do something
    for forward in (torch.no_grad, torch.enable_grad):
        with forward():
            np.testing.assert_allclose(model.state(x).detach(), state, rtol=0, atol=1e-5)
            found = model(x)
        np.testing.assert_allclose(found[0].detach(), embedding, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found[1].detach(), probability, rtol=0, atol=1e-6)
    assert found[0].shape == (12, 925)
    assert found[1].shape == (12, 1)


@pytest.fixture(params=["compiled", "look-up"])
def form(request, monkeypatch) -> type:
    """Which of the forms without gradients runs."""
    if request.param == "look-up":
        monkeypatch.setenv("MERISTEM_KERNELS", "off")
        return LookUpForm
    if kernels() is None:
        pytest.skip(f"no compiled kernels here: {absence()}")
    return CompiledForm


@pytest.fixture
def fast(form, keras) -> A2Z:
    model = A2Z.from_keras(keras)
    with torch.no_grad():
        assert type(model._fast()) is form
    return model


def test_every_form_has_the_numbers_of_the_definition(fast, truth, x):
    with torch.no_grad():
        np.testing.assert_allclose(fast.state(x), truth[0], rtol=0, atol=3e-6)
        np.testing.assert_allclose(fast(x)[0], truth[1], rtol=0, atol=5e-6)


def test_look_up_is_the_convolution(model, x):
    with torch.no_grad():
        sets = torch.from_numpy((x.numpy() > 0) @ np.array([1, 2, 4, 8])).byte()
        found = WordTables(model.conv.weight, model.conv.bias).pooled(sets)
        np.testing.assert_allclose(found, model.plain_pooled(x), rtol=0, atol=2e-6)


def test_sets_are_read_off_a_one_hot(fast, x):
    table = fast.table.numpy()
    with torch.no_grad():
        sets, exact = fast._fast().sets(x)
        assert exact.all()
        assert np.array_equal(table[sets.numpy()], x.numpy())
        odd = x[:8].clone()
        for row, value in enumerate((0.3, -1.0, 2.0, torch.nan, torch.inf, 1 - 2**-24, 2**-149)):
            odd[row, 300, 3] = value
        assert fast._fast().sets(odd)[1].tolist() == [False] * 7 + [True]
        assert not fast(odd)[0][3].isfinite().any()


def test_large_and_extreme_numbers_stay_within_the_functions(weights, tmp_path, form, x):
    loud = {k: v * (60 if "kernel" in k and "conv" not in k else 1) for k, v in weights.items()}
    fast = A2Z.from_keras(a2z_keras.write(tmp_path / "loud.h5", loud))
    with torch.no_grad():
        state = fast.state(x[:2])
        assert type(fast._fast()) is form
    assert state.isfinite().all()
    assert state.abs().max() <= 1


def test_inputs_that_are_no_one_hot(fast, weights, x):
    soft = x.clone()
    soft[3] = torch.softmax(torch.randn(600, 4, generator=torch.Generator().manual_seed(0)), -1)
    soft[5, 100:140] = 0  # unknown letters are zeros in a2z
    expected = a2z(soft[[3, 5]].numpy(), weights)[1]
    embedding, _ = run(fast, soft)
    np.testing.assert_allclose(embedding[[3, 5]], expected, rtol=0, atol=1e-5)
    assert np.array_equal(np.delete(embedding, [3, 5], 0), np.delete(run(fast, x)[0], [3, 5], 0))


def test_the_embedding_is_an_affine_image_of_the_state(model, x):
    weight, offset = model.affine
    assert weight.shape == (925, 640)
    with torch.no_grad():
        state = model.state(x)
    np.testing.assert_allclose(state @ weight.T + offset, run(model, x)[0], rtol=0, atol=3e-6)


def test_a_window_does_not_depend_on_its_neighbours(fast, form, x):
    whole, _ = run(fast, x)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    assert np.array_equal(run(fast, x[order])[0], whole[order])
    assert np.array_equal(run(fast, x)[0], whole)
    other = x.clone()
    other[1:] = x[7]
    assert np.array_equal(run(fast, other)[0][0], whole[0])
    with torch.no_grad():
        outputs = fast.outputs(x)
        for n in (1, 5, 11):
            if form is CompiledForm:  # whatever the number of windows, and of threads
                torch.set_num_threads(3)
                for few, all_of_them in zip(fast.outputs(x[:n]), outputs, strict=True):
                    assert torch.equal(few, all_of_them[:n])
                torch.set_num_threads(1)
            np.testing.assert_allclose(run(fast, x[:n])[0], whole[:n], rtol=0, atol=5e-6)
    assert run(fast, x[:0])[0].shape == (0, 925)


def test_a_model_can_be_copied(model, x):
    assert np.array_equal(run(copy.deepcopy(model), x)[0], run(model, x)[0])


def test_it_trains_and_the_tables_follow(keras, x):
    model = A2Z.from_keras(keras)
    assert (
        sum(p.numel() for p in model.parameters() if p.requires_grad) == 2_268_411
    )  # Keras's count
    before, _ = run(model, x)
    model.train()
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    _, probability = model(x)
    torch.nn.functional.binary_cross_entropy(probability, torch.ones_like(probability)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad)  # fmt: skip
    optimiser.step()
    model.eval()
    after, _ = run(model, x)
    assert np.abs(after - before).max() > 1e-4
    np.testing.assert_allclose(after, model(x)[0].detach(), rtol=0, atol=1e-5)


def test_safetensors_hold_the_same_model(model, x, tmp_path):
    path = tmp_path / "model.safetensors"
    model.save_safetensors(path, {"source": "here"})
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    for again in (
        A2Z.from_safetensors(path),
        A2Z.from_checkpoint(path),
        A2Z.from_checkpoint(tmp_path),
    ):
        assert all(torch.equal(v, model.state_dict()[k]) for k, v in again.state_dict().items())
        assert np.array_equal(run(again, x)[0], run(model, x)[0])
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"model\.safetensors"):
        A2Z.from_safetensors(path)


def test_safetensors_of_another_model(model, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
    save_file({k: v for k, v in tensors.items() if k != "dense.bias"}, path)
    with pytest.raises(InputError, match=r"missing \['dense.bias'\]"):
        A2Z.from_safetensors(path)
    save_file(tensors | {"dense.bias": tensors["dense.bias"].half()}, path)
    with pytest.raises(InputError, match="float32"):
        A2Z.from_safetensors(path)
    save_file(tensors | {"dense.bias": tensors["dense.bias"] * torch.nan}, path)
    with pytest.raises(InputError, match="not finite"):
        A2Z.from_safetensors(path)


def test_bfloat16_is_near_and_asked_for(form, keras, model, x):
    low = A2Z.from_keras(keras, dtype="bf16")
    difference = np.abs(run(low, x)[0] - run(model, x)[0])
    assert 1e-5 < difference.mean() < 0.01
    with pytest.raises(InputError, match="fp32 or bf16"):
        A2Z.from_keras(keras, dtype="fp16")


@pytest.mark.parametrize("shape", [(2, 4, 600), (2, 599, 4), (600, 4)])
def test_input_of_another_shape(model, shape):
    with pytest.raises(InputError, match=r"\(n, 600, 4\)"):
        model(torch.zeros(shape))


def test_input_of_another_dtype(model):
    with pytest.raises(InputError, match=r"torch\.int64"):
        model(torch.zeros((1, 600, 4), dtype=torch.int64))


# --- files


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> bool:
    return set(found) == set(wanted) and all(np.array_equal(v, wanted[k]) for k, v in found.items())


def test_names_and_notations_are_free(tmp_path, weights, keras):
    wanted = read_keras(keras)
    assert np.array_equal(wanted["conv.weight"][:, :, 0].T, weights["conv/kernel"][0])
    for n in (0, 12):
        assert same(read_keras(a2z_keras.write(tmp_path / f"{n}.h5", weights, n=n)), wanted)
    described = a2z_keras.functional(a2z_keras.config())
    assert same(
        read_keras(a2z_keras.write(tmp_path / "f.h5", weights, described=described)), wanted
    )
    described["config"]["output_layers"].insert(
        0, ["dense_6", 0, 0]
    )  # EMPRES's model of two outputs
    assert same(
        read_keras(a2z_keras.write(tmp_path / "g.h5", weights, described=described)), wanted
    )
    old = a2z_keras.config()
    del old["config"]["layers"][1]["config"]["groups"]  # Keras before 2.3
    assert same(read_keras(a2z_keras.write(tmp_path / "o.h5", weights, described=old)), wanted)


def test_layers_renamed_in_keras_own_file(fixture, tmp_path):
    """Keras loads by order where names differ; so does this."""
    path = tmp_path / "renamed.h5"
    shutil.copy(fixture / "model.h5", path)
    with h5py.File(path, "r+") as file:
        root = file["model_weights"]
        names = {
            "conv1d": "motifs",
            "bidirectional": "backward_memory",
            "dense": "z",
            "dense_1": "a",
        }
        for old, new in names.items():
            root.move(old, new)
        root.attrs["layer_names"] = [names.get(n, n) for n in root.attrs["layer_names"]]
    assert same(read_keras(path), read_keras(fixture / "model.h5"))


CONV, POOL, BOTH, DENSE, LAST = 1, 3, 4, 6, 7
WRONG = [
    (CONV, "activation", "exponential"), (CONV, "padding", "same"), (CONV, "strides", [2]),
    (CONV, "dilation_rate", [2]), (CONV, "groups", 2), (CONV, "data_format", "channels_first"),
    (CONV, "use_bias", False), (CONV, "kernel_size", [8]), (CONV, "filters", 300),
    (CONV, "dtype", "float16"), (CONV, "dtype", {"class_name": "Policy", "config": {"name": "mixed_float16"}}),
    (CONV, "batch_input_shape", [None, 1000, 4]), (POOL, "pool_size", [12]), (POOL, "strides", [12]),
    (POOL, "padding", "same"), (BOTH, "merge_mode", "sum"), (BOTH, "recurrent_activation", "hard_sigmoid"),
    (BOTH, "activation", "relu"), (BOTH, "units", 160), (BOTH, "go_backwards", True),
    (BOTH, "return_sequences", True), (BOTH, "stateful", True), (BOTH, "time_major", True),
    (BOTH, "use_bias", False), (DENSE, "units", 900), (DENSE, "activation", "relu"),
    (DENSE, "use_bias", 1), (LAST, "activation", "linear"), (LAST, "units", 2),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "key", "value"), WRONG)
def test_a_setting_that_gives_other_numbers(tmp_path, weights, layer, key, value):
    described = a2z_keras.config()
    settings = described["config"]["layers"][layer]["config"]
    inner = settings["layer"]["config"] if layer == BOTH and key != "merge_mode" else settings
    inner[key] = value
    path = a2z_keras.write(tmp_path / "wrong.h5", weights, described=described)
    with pytest.raises(InputError) as caught:
        read_keras(path)
    shown = repr(value["config"]["name"] if isinstance(value, dict) else value)
    if key == "batch_input_shape":
        key, shown = "input", "[1000, 4]"
    for word in ("wrong.h5", settings["name"], key, shown, "a2z has", "zenodo"):
        assert word in str(caught.value)


def described_with(change) -> dict:
    described = a2z_keras.config()
    change(described["config"]["layers"])
    return described


def branching() -> dict:
    described = a2z_keras.functional(a2z_keras.config())
    last = described["config"]["layers"][0]
    last["inbound_nodes"] = [[["dropout_7", 0, 0, {}]]]
    return described


def with_dropout_at_prediction() -> dict:
    described = a2z_keras.functional(a2z_keras.config())
    described["config"]["layers"][2]["inbound_nodes"][0][0][3]["training"] = True
    return described


LAMBDA = {"class_name": "Lambda", "config": {"name": "f", "function": ["4wEAAAA=", None, None]}}


@pytest.mark.parametrize(
    ("described", "words"),
    [
        (described_with(lambda layers: layers.insert(4, LAMBDA)), "Lambda"),
        (described_with(lambda layers: layers[BOTH]["config"].update(layer=LAMBDA)), "Lambda"),
        (described_with(lambda layers: layers[CONV]["config"].pop("activation")), "activation"),
        (described_with(lambda layers: layers[CONV].update(class_name="Conv2D")), "Conv2D"),
        (described_with(lambda layers: layers[BOTH]["config"]["layer"].update(class_name="GRU")), "GRU"),
        (described_with(lambda layers: layers.pop(POOL)), "its layers are"),
        (described_with(lambda layers: layers.reverse()), "its layers are"),
        (described_with(lambda layers: layers[BOTH]["config"].update(layer=3)), "model_config"),
        (described_with(lambda layers: (layers.pop(0), layers[0]["config"].pop("batch_input_shape"))), "input"),
        (branching(), "branch"),
        (with_dropout_at_prediction(), "training"),
        ({"class_name": "Sequential"}, "model_config"),
        ({"class_name": "Thing", "config": {"layers": []}}, "Thing"),
        ([1], "model_config"),
        ("text", "model_config"),
    ],
)  # fmt: skip
def test_another_architecture(tmp_path, weights, described, words):
    path = a2z_keras.write(tmp_path / "other.h5", weights, described=described)
    with pytest.raises(InputError, match=words) as caught:
        read_keras(path)
    assert "other.h5" in str(caught.value)


def dense(file: h5py.File) -> h5py.Group:
    return file["model_weights/dense_6/dense_6"]


def replace(**options):
    def change(file: h5py.File) -> None:
        group = dense(file)
        values = group["kernel:0"][()]
        del group["kernel:0"]
        if "data" in options:
            group["kernel:0"] = options["data"](values)
        else:
            group.create_dataset("kernel:0", shape=(640, 925), dtype="f4", **options)

    return change


def link(made):
    def change(file: h5py.File) -> None:
        del dense(file)["kernel:0"]
        dense(file)["kernel:0"] = made

    return change


def virtual(file: h5py.File) -> None:
    del dense(file)["kernel:0"]
    layout = h5py.VirtualLayout((640, 925), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (640, 925))
    dense(file).create_virtual_dataset("kernel:0", layout)


def spoil(value):
    def change(values):
        values[3, 4] = value
        return values

    return change


def attribute(where: str, name: str, value):
    def change(file: h5py.File) -> None:
        del file[where].attrs[name]
        if value is not None:
            file[where].attrs[name] = value

    return change


WEIGHT_NAMES = [f"dense_6/{k}:0" for k in ("kernel", "bias")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replace(data=lambda v: v.T.copy()), r"shape \(925, 640\) where a2z has \(640, 925\)"),
        (replace(data=lambda v: v.astype(np.float64)), "float64 where a2z has float32"),
        (replace(data=lambda v: v.astype(np.int32)), "int32"),
        (replace(data=spoil(np.nan)), "1 numbers that are not finite"),
        (replace(data=spoil(-np.inf)), "not finite"),
        (replace(external=[("/etc/hostname", 0, 640 * 925 * 4)]), "another file"),
        (replace(maxshape=(None, None), chunks=(1 << 13, 1 << 13)), "chunks"),
        (link(h5py.SoftLink("/model_weights/dense_7")), "SoftLink"),
        (link(h5py.ExternalLink("/etc/hostname", "/")), "ExternalLink"),
        (virtual, "another file"),
        (lambda f: f.__delitem__("model_weights"), "model_weights is missing"),
        (lambda f: f["model_weights"].__delitem__("dense_6"), "dense_6 is missing"),
        (lambda f: dense(f).__delitem__("bias:0"), "bias:0 is missing"),
        (lambda f: (f.__delitem__("model_weights"), f.create_dataset("model_weights", data=1)), "layer_names"),
        (attribute("/", "model_config", None), "no model_config"),
        (attribute("/", "model_config", "{" * 100_000), "not JSON"),
        (attribute("/", "model_config", "[" * 200_000), "not JSON"),
        (attribute("/", "model_config", 5), "no text"),
        (attribute("/", "backend", "theano"), "Theano"),
        (attribute("model_weights/dense_6", "weight_names", None), "weight_names"),
        (attribute("model_weights/dense_6", "weight_names", WEIGHT_NAMES[:1]), "1 arrays where a2z has 2"),
        (attribute("model_weights/dense_6", "weight_names", ["dense_6/kernel:0"] * 2), "its arrays are"),
        (attribute("model_weights/dense_6", "weight_names", [1.5, 2.5]), "no names"),
        (attribute("model_weights/dense_6", "weight_names", np.zeros(2000)), "more than"),
        (attribute("model_weights/dense_6", "weight_names", ["/dense_6", "dense_6/bias:0"]), "its arrays are"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_whole_or_leads_elsewhere(keras, tmp_path, change, words):
    path = tmp_path / "odd.h5"
    shutil.copy(keras, path)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(InputError, match=words) as caught:
        read_keras(path)
    assert str(path) in str(caught.value)


def test_damaged_files(keras, tmp_path):
    path, whole = tmp_path / "bad.h5", keras.read_bytes()
    contents = [
        b"",
        whole[:8],
        whole[:2000],
        whole[: len(whole) // 2],
        whole[:-1],
        b"\0" + whole[1:],
    ]
    contents += [b"<!DOCTYPE html>", b"version https://git-lfs.github.com/spec/v1", b"PK\3\4"]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.h5"):
            A2Z.from_checkpoint(path)
    with pytest.raises(InputFileNotFoundError, match="zenodo"):
        A2Z.from_keras(tmp_path / "none.h5")
    with pytest.raises(InputError, match=r"cannot be read"):
        A2Z.from_keras(tmp_path)


def test_flipped_bytes_never_give_anything_but_a_model_or_one_clear_error(keras, tmp_path):
    rng = np.random.default_rng(0)
    path, whole = tmp_path / "flipped.h5", keras.read_bytes()
    for _ in range(40):
        content = bytearray(whole)
        for at in rng.integers(8, 20_000, 4):
            content[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            assert np.isfinite(read_keras(path)["dense.weight"]).all()
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017 # either outcome is right


def test_conversion_keeps_what_the_file_was(keras, tmp_path, capsys):
    target = tmp_path / "out.safetensors"
    command = [sys.executable, "-m", "featurestore.embedders.a2z.convert", str(keras)]
    done = subprocess.run([*command, str(target)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "equal bit for bit" in done.stdout
    assert "not a published file" in done.stdout
    wanted = read_keras(keras)
    found = A2Z.from_safetensors(target).state_dict()
    assert same({k: v.numpy() for k, v in found.items()}, wanted)
    assert convert_main([str(keras), str(target)]) == 2
    assert "exists" in capsys.readouterr().err


# --- embedder


def test_without_weights_it_says_where_they_are():
    with pytest.raises(InputError) as caught:
        make_embedder("a2z")
    for published in PUBLISHED.values():
        assert published.md5 in str(caught.value)
        assert published.file in str(caught.value)
    assert "cpu" in A2ZEmbedder.availability() or "cuda" in A2ZEmbedder.availability()


def test_embedder_gives_the_models_numbers(keras, truth, codes):
    embedder = make_embedder("a2z", {"type": "a2z", "checkpoint": str(keras), "batch": 12})
    _, embedding, probability = truth
    found = embedder.embed(codes)
    assert set(found) == set(embedder.spec.outputs) == {"embedding", "accessibility"}
    np.testing.assert_allclose(found["embedding"], embedding, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["accessibility"], probability[:, 0], rtol=0, atol=1e-6)
    one = embedder.embed(codes[3:4])  # calls are padded: equal to the bit
    assert np.array_equal(one["embedding"][0], found["embedding"][3])
    assert embedder.spec.licence == "not stated"
    assert embedder.spec.pretraining_species == ()
    assert "not a published file" in embedder.spec.checkpoint


def test_the_state_brings_its_map(keras, codes):
    state = A2ZEmbedder(str(keras), stored="state", model="methylation", batch=12)
    dense = A2ZEmbedder(str(keras), batch=12).embed(codes)
    found = state.embed(codes)
    assert dict(state.spec.outputs) == {"embedding": 640, "methylation": 0}
    weight, offset = state.spec.constants["state_map"], state.spec.constants["state_offset"]
    np.testing.assert_allclose(
        found["embedding"] @ weight.T + offset, dense["embedding"], rtol=0, atol=1e-5
    )
    alone = A2ZEmbedder(str(keras), stored="probability", batch=12)
    assert dict(alone.spec.outputs) == {"accessibility": 0}
    assert np.array_equal(alone.embed(codes)["accessibility"], dense["accessibility"])
    digests = {e.spec.identity_digest() for e in (state, alone, A2ZEmbedder(str(keras)))}
    assert len(digests) == 3


def test_ambiguous_letters_are_equal_parts(keras):
    """The rule of a2z's own ``seq_one_hot_encode``."""
    model = A2Z.from_keras(keras)
    base = "ACGT" * 150
    parts = {"N": "ACGT", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
             "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG"}  # fmt: skip
    windows = np.stack([encode(base[:300] + letter + base[301:]) for letter in parts])
    x = torch.from_numpy(one_hot(encode(base)))[None].repeat(len(parts), 1, 1)
    for row, bases in zip(x, parts.values(), strict=True):
        row[300] = torch.tensor([1 / len(bases) if b in bases else 0.0 for b in "ACGT"])
    found = A2ZEmbedder(str(keras), batch=11).embed(windows)["embedding"]
    np.testing.assert_allclose(found, run(model, x)[0], rtol=0, atol=1e-6)


def test_published_files_are_known_by_content(keras, tmp_path, monkeypatch):
    """With the checksum of the file at hand in the place of the published one."""
    known = copy.copy(PUBLISHED["methylation"])
    object.__setattr__(known, "md5", file_md5(keras))
    monkeypatch.setitem(PUBLISHED, "methylation", known)
    for checkpoint in (keras, tmp_path / "m.safetensors"):
        if checkpoint.suffix == ".safetensors":
            from featurestore.embedders.a2z.convert import convert

            assert convert(keras, checkpoint) is known
        embedder = A2ZEmbedder(str(checkpoint))
        assert dict(embedder.spec.outputs) == {"embedding": 925, "methylation": 0}
        assert embedder.spec.licence == "MIT"
        assert len(embedder.spec.pretraining_species) == 10
        assert "is an unmethylated region" in embedder.spec.pooling
        with pytest.raises(InputError, match="holds the published methylation model"):
            A2ZEmbedder(str(checkpoint), model="accessibility")


def test_wrong_settings(keras, tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'state'"):
        A2ZEmbedder(str(keras), stored="stat")
    with pytest.raises(UnknownNameError, match="Did you mean 'accessibility'"):
        A2ZEmbedder(str(keras), model="accesibility")
    with pytest.raises(InputError, match="batch = 0"):
        A2ZEmbedder(str(keras), batch=0)
    with pytest.raises(InputError, match="holds no weights"):
        A2ZEmbedder(str(tmp_path))
    for name in ("model-accessibility-full.h5", "model-methylation-full.h5"):
        shutil.copy(keras, tmp_path / name)
    with pytest.raises(InputError, match="give one of them"):
        A2ZEmbedder(str(tmp_path))
    assert A2ZEmbedder(str(tmp_path), model="methylation").path.name == "model-methylation-full.h5"


def test_naming_the_embedder_imports_no_torch(keras):
    code = (
        "import sys; from featurestore.embedders.a2z import A2ZEmbedder; "
        f"A2ZEmbedder({str(keras)!r}); print('torch' in sys.modules, 'h5py' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.slow
def test_from_a_data_set_to_a_store(keras, weights, tmp_path, monkeypatch):
    write_sample(tmp_path, genes=20, lines=1)
    toml = tmp_path / "dataset.toml"
    text = toml.read_text()
    toml.write_text(text + f'\n[embedders.chromatin]\ntype = "a2z"\ncheckpoint = "{keras}"\nstored = "state"\n')  # fmt: skip
    store = tmp_path / "s.zarr"
    words = [
        "build",
        str(tmp_path),
        "--store",
        str(store),
        "--embedder",
        "onehot",
        "--embedder",
        "chromatin",
    ]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    root = zarr.open_group(store, mode="r")
    species = next(name for name, _ in root.groups())
    group = root[species]["chromatin"]
    facts = group["embedding"].attrs["meristem"]["embedder"]
    assert facts["type"] == "a2z"
    assert facts["digest"] == hashlib.sha256(keras.read_bytes()).hexdigest()
    # bin 3 of a region of 1,500 bp: its window of 600 bp lies within the region
    size = int(group["bin_start"][0, 1] - group["bin_start"][0, 0])
    start = 3 * size + size // 2 - 300
    x = one_hot(root[species]["sequence/code"][:4, 0, start : start + 600])
    state, embedding, probability = a2z(x, weights)
    stored = group["embedding"][:4, 0, 3].astype(np.float64)
    np.testing.assert_allclose(stored, state, rtol=0, atol=1e-3)  # float16
    np.testing.assert_allclose(
        group["accessibility"][:4, 0, 3], probability[:, 0], rtol=0, atol=1e-3
    )
    dense = stored @ group["state_map"][:].T + group["state_offset"][:]
    np.testing.assert_allclose(dense, embedding, rtol=0, atol=5e-3)
    assert str(keras.parent) not in json.dumps(dict(group["embedding"].attrs))
    monkeypatch.setenv("MERISTEM_CHECKPOINTS", str(keras.parent))  # the store knows its name alone
    result = verify_values(store, 0.1)
    assert result.intact
    assert not result.findings
    assert result.recomputed > 0


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_weights(name):
    """Runs wherever the published files are at hand; Kipoi's recorded predictions if they are too."""
    folder, published = os.environ.get(WEIGHTS), PUBLISHED[name]
    if not folder or not (Path(folder) / published.file).is_file():
        pytest.skip(f"needs {published.file} of https://zenodo.org/records/5724562 in ${WEIGHTS}")
    path = Path(folder) / published.file
    assert file_md5(path) == published.md5
    assert hashlib.sha256(path.read_bytes()).hexdigest() == published.sha256
    model = A2Z.from_keras(path)
    embedder = A2ZEmbedder(str(path))
    assert embedder.known is published
    recorded = Path(folder) / f"a2z-chromatin-a2z-{name}.predictions.h5"
    if not recorded.is_file():
        pytest.skip(
            f"{published.file} loads; its predictions are not checked: {recorded.name} of "
            "https://zenodo.org/records/6724196 (accessibility alone) is not beside it"
        )
    with h5py.File(recorded) as file:
        x, wanted = file["inputs"][()].astype(np.float32), file["preds"][()]
    found = np.concatenate([run(model, part)[1] for part in torch.from_numpy(x).split(128)])
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=0, atol=1e-5)
