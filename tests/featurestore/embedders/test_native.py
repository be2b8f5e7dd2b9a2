"""Compiled kernels of PlantCaduceus: plain torch's numbers, whatever stands beside, or plain torch."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from featurestore.embedders.native import library
from featurestore.embedders.plantcaduceus import paths
from featurestore.embedders.plantcaduceus.configuration import COMPLEMENT_MAP, PlantCaduceusConfig
from featurestore.embedders.plantcaduceus.layers import run_layers
from featurestore.embedders.plantcaduceus.modeling import PlantCaduceusForMaskedLM
from featurestore.embedders.plantcaduceus.native.inference import PackedLayers
from featurestore.embedders.plantcaduceus.native.scan import CompiledScan
from featurestore.embedders.plantcaduceus.scan import scan_by_steps
from featurestore.embedders.plantcaduceus.scan_backends import TorchScan, choose
from featurestore.errors import InputError
from featurestore.native import compiler
from featurestore.native.compiler import KernelError
from featurestore.native.loading import Loaded
from tests.conftest import SHARED

FIXTURE = SHARED / "fixtures" / "caduceus_tiny_even"
COMPLEMENT = torch.tensor([COMPLEMENT_MAP[k] for k in range(8)])
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@pytest.fixture
def kernels(monkeypatch):
    """The kernels; skips, saying why, where this machine cannot compile them."""
    monkeypatch.delenv(library.SWITCH, raising=False)
    found = library.kernels()
    if found is None:
        pytest.skip(f"needs compiled kernels: {library.absence()}")
    return found


@pytest.fixture
def anew(monkeypatch, tmp_path):
    """Kernels are loaded anew, from an empty cache; what was loaded returns afterwards."""
    monkeypatch.delenv(library.SWITCH, raising=False)
    monkeypatch.setenv("MERISTEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(library, "_loaded", Loaded(library._load, "plain torch is used"))
    return tmp_path


@pytest.fixture
def small_sources(monkeypatch, tmp_path):
    """A source that compiles at once, in place of the kernels."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "one.c").write_text("int one(void) { return 1; }\n")
    monkeypatch.setenv("MERISTEM_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def model_of(d_model=32, n_layer=2, dtype="fp32", **ssm):
    torch.manual_seed(d_model + n_layer)
    config = PlantCaduceusConfig(d_model=d_model, n_layer=n_layer, ssm_cfg=ssm)
    model = PlantCaduceusForMaskedLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith(".D"):
                parameter += torch.randn_like(parameter) / 4
    model.set_compute_dtype(dtype)
    return model


def ids_of(batch, length, seed=0):
    return torch.randint(0, 7, (batch, length), generator=torch.Generator().manual_seed(seed))


def apart(one, other):
    """Largest difference, of the largest value."""
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-30))


SHAPES = [
    # d_model, layers, strands, length, mixer
    (32, 4, 2, 64, {}),
    (20, 3, 3, 37, {}),
    (32, 2, 1, 1, {}),
    (32, 2, 2, 3, {}),
    (48, 1, 5, 511, {}),
    (64, 2, 2, 512, {}),
    (16, 2, 1, 513, {}),
    (24, 2, 2, 70, {"d_state": 5, "d_conv": 3, "dt_rank": 7}),
    (12, 2, 2, 70, {"d_state": 33, "d_conv": 2, "expand": 3}),
]


@pytest.mark.parametrize(("d", "layers", "strands", "length", "ssm"), SHAPES)
def test_layers_agree_with_plain_torch(kernels, d, layers, strands, length, ssm):
    tensors = model_of(d, layers, **ssm).backbone.layer_tensors()
    x = torch.randn(strands, length, d)
    with torch.no_grad():
        for dtype in DTYPES.values():
            wanted, found = [], []
            wanted.extend(run_layers(x, tensors, torch.float32, wanted))
            found.extend(PackedLayers(kernels, tensors, dtype).run(x, found))
            assert len(found) == len(wanted) == layers + 2
            worst = max(apart(one, other) for one, other in zip(found, wanted, strict=True))
            assert worst < (5e-6 if dtype == torch.float32 else 2e-2)


def test_bf16_products_lose_no_more_than_torch_does(kernels):
    tensors = model_of(64, 4).backbone.layer_tensors()
    x = torch.randn(2, 200, 64)
    with torch.no_grad():
        exact = run_layers(x, tensors, torch.float32)[0]
        ours = PackedLayers(kernels, tensors, torch.bfloat16).run(x)[0]
        torchs = run_layers(x, tensors, torch.bfloat16)[0]
    assert 1e-4 < apart(ours, exact) < apart(torchs, exact) * 1.5


@pytest.mark.skipif(not FIXTURE.is_dir(), reason=f"needs {FIXTURE}, which is not here")
def test_the_originals_numbers(kernels, monkeypatch):
    monkeypatch.setenv(library.SWITCH, "on")
    model = PlantCaduceusForMaskedLM.from_pretrained(str(FIXTURE))
    io = np.load(FIXTURE / "io.npz")
    with torch.no_grad():
        out = model(torch.from_numpy(io["input_ids"]), output_hidden_states=True)
    assert model.backbone.prepared._packed[torch.float32] is not None
    for i, state in enumerate(out.hidden_states):
        wanted = io[f"hidden_{i}"] if i < len(out.hidden_states) - 1 else io["last_hidden_state"]
        np.testing.assert_allclose(state.numpy(), wanted, atol=2e-5, rtol=0)
    assert apart(out.logits, torch.from_numpy(io["logits"])) < 1e-5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layers", [2, 3])
def test_reverse_complement_is_exact(kernels, dtype, layers):
    model, ids = model_of(40, layers, dtype), ids_of(2, 131)
    with torch.no_grad():
        one = model(ids, output_hidden_states=True)
        other = model(COMPLEMENT[ids].flip(1), output_hidden_states=True)
    for state, mirrored in zip(one.hidden_states, other.hidden_states, strict=True):
        assert torch.equal(state, mirrored.flip(1, 2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_neither_threads_nor_neighbours_change_a_number(kernels, threads, dtype):
    model, ids = model_of(40, 2, dtype), ids_of(7, 130)
    with torch.no_grad():
        threads(1)
        wanted = model(ids, output_hidden_states=True).hidden_states
        for count in (2, 3, 16):
            threads(count)
            found = model(ids, output_hidden_states=True).hidden_states
            assert all(map(torch.equal, found, wanted))
        for row in (0, 4, 6):
            alone = model(ids[row : row + 1], output_hidden_states=True).hidden_states
            assert all(torch.equal(a[0], w[row]) for a, w in zip(alone, wanted, strict=True))


def test_what_is_not_a_number_stays_in_its_strand(kernels):
    tensors = model_of(20, 2).backbone.layer_tensors()
    x = torch.randn(3, 30, 20)
    packed = PackedLayers(kernels, tensors, torch.float32)
    clean = packed.run(x)[0]
    x[1, 15, 3] = torch.nan
    last, residual = packed.run(x)
    assert last[1].isnan().all()  # both directions carry it everywhere
    assert residual[1].isnan().any()
    assert torch.equal(last[[0, 2]], clean[[0, 2]])


def test_a_change_of_weights_is_seen(kernels):
    model, ids = model_of(), ids_of(1, 20)
    with torch.no_grad():
        before = model(ids).logits
        model.backbone.layers[0].norm.weight *= 2
        after = model(ids).logits
        plain = run_layers(
            model.backbone.word_embeddings(ids), model.backbone.layer_tensors(), torch.float32
        )
        ours = model.backbone.prepared.packed(model.backbone, torch.float32)
        assert apart(ours.run(model.backbone.word_embeddings(ids))[0], plain[0]) < 5e-6
    assert not torch.equal(before, after)


def test_a_model_that_has_run_can_be_copied_and_pickled(kernels):
    model, ids = model_of(), ids_of(1, 20)
    with torch.no_grad():
        wanted = model(ids).logits
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301 # own bytes
            assert torch.equal(twin(ids).logits, wanted)


def test_training_goes_by_torch_and_the_compiled_scan(kernels):
    model, ids = model_of(), ids_of(2, 20)
    assert choose(torch.device("cpu")).name == "compiled"
    loss = model(ids, labels=ids).loss
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def scan_case(sequences, length, channels, states):
    draw = torch.Generator().manual_seed(states)

    def some(*shape):
        return torch.randn(shape, generator=draw)

    steps = torch.nn.functional.softplus(some(sequences, length, channels) - 2)
    a, b, c = -torch.exp(some(channels, states)), some(sequences, length, states), None
    c, d = some(sequences, length, states), some(channels)
    return [some(sequences, length, channels), steps, a, b, c, d]


@pytest.mark.parametrize(
    "shape", [(2, 64, 32, 16), (3, 37, 21, 16), (1, 1, 5, 16), (2, 30, 20, 7), (1, 9, 3, 40)]
)
def test_scan_and_gradient_agree_with_autograd_in_float64(kernels, shape):
    given = scan_case(*shape)
    followed = [t.double().requires_grad_() for t in given]
    wanted = scan_by_steps(*followed)
    grad = torch.randn(wanted.shape)
    gradients = torch.autograd.grad(wanted, followed, grad.double())
    scan = CompiledScan(kernels)
    assert apart(scan.forward(*given), wanted.detach()) < 1e-5
    for found, gradient in zip(scan.backward(grad, *given), gradients, strict=True):
        assert found.shape == gradient.shape
        assert apart(found, gradient) < 1e-5


def test_gradients_do_not_depend_on_threads(kernels, threads):
    given, grad = scan_case(5, 40, 24, 16), torch.randn(5, 40, 24)
    scan, results = CompiledScan(kernels), []
    for count in (1, 4):
        threads(count)
        results.append(scan.backward(grad, *given))
    assert all(map(torch.equal, *results))


def test_scan_takes_views_and_leaves_float64_to_torch(kernels):
    given = scan_case(2, 12, 6, 16)
    views = [t.mT.contiguous().mT if t.ndim > 1 else t for t in given]
    scan = CompiledScan(kernels)
    assert torch.equal(scan.forward(*views), scan.forward(*given))
    double = scan.forward(*(t.double() for t in given))
    assert double.dtype == torch.float64
    assert apart(scan.forward(*given), double) < 1e-5


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (None, "no C compiler found"),
        ("exit 1", "failed with status 1"),
        ("exit 0", "cannot be loaded"),
        ('case "$*" in *-shared*) exit 4;; esac', "failed with status 4"),
    ],
)
def test_without_a_working_compiler_torch_runs_and_the_log_says_why(
    anew, monkeypatch, caplog, command, said
):
    tools = anew / "tools"
    tools.mkdir()
    monkeypatch.delenv("CC", raising=False)
    if command is not None:
        (tools / "cc").write_text(f"#!/bin/sh\n{command}\n")
        (tools / "cc").chmod(0o700)
    monkeypatch.setenv("PATH", str(tools))
    with caplog.at_level(logging.WARNING):
        assert library.kernels() is None
        assert library.kernels() is None
    warnings = [r.getMessage() for r in caplog.records if "plain torch" in r.getMessage()]
    assert len(warnings) == 1
    assert paths.active("cpu", "fp32").startswith("plain torch, fp32: ")
    assert said in warnings[0]
    assert said in paths.active("cpu", "fp32")
    assert isinstance(choose(torch.device("cpu")), TorchScan)
    with torch.no_grad():
        assert model_of()(ids_of(1, 9)).logits.isfinite().all()
    monkeypatch.setenv(library.SWITCH, "on")
    with pytest.raises(KernelError, match="MERISTEM_KERNELS=on, but"):
        library.kernels()


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize(
    "planted", ["vector.h:1.0f + exp2_of:2.0f + exp2_of", "scan.c:dc[i] +=:dc[i] ="]
)
def test_kernels_that_compute_something_else_are_not_used(anew, monkeypatch, caplog, planted):
    file, old, new = planted.split(":")
    sources = anew / "src"
    shutil.copytree(library.SOURCES, sources)
    text = (sources / file).read_text()
    assert old in text
    (sources / file).write_text(text.replace(old, new))
    monkeypatch.setattr(library, "SOURCES", sources)
    monkeypatch.setattr(compiler, "FLAGS", tuple(f.replace("-O3", "-O1") for f in compiler.FLAGS))
    with caplog.at_level(logging.WARNING):
        assert library.kernels() is None
    assert "failed their self-test" in caplog.text
    assert "failed their self-test" in paths.active("cpu", "bf16")


def test_the_switch(kernels, monkeypatch):
    monkeypatch.setenv(library.SWITCH, "off")
    assert library.kernels() is None
    assert paths.active("cpu", "fp32") == "plain torch, fp32: MERISTEM_KERNELS=off"
    monkeypatch.setenv(library.SWITCH, "on")
    assert library.kernels() is kernels
    assert paths.active("cpu", "fp32").startswith("kernels compiled by ")
    assert paths.active("cpu", "fp16").startswith("plain torch, fp16")
    monkeypatch.setenv(library.SWITCH, "perhaps")
    with pytest.raises(InputError, match="on, off or auto"):
        library.kernels()


COMPILE = """
import sys, ctypes
from pathlib import Path
from featurestore.native import compiler
path = compiler.compiled(compiler.find_compiler(), Path(sys.argv[1]))
assert ctypes.CDLL(str(path)).one() == 1
assert "torch" not in sys.modules
print(path)
"""


def test_processes_that_compile_at_once_end_with_one_library(small_sources):
    words = [sys.executable, "-c", COMPILE, str(small_sources)]
    started = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    found = {process.communicate(timeout=60)[0] for process in started}
    assert [process.returncode for process in started] == [0] * 4
    assert len(found) == 1
    path = Path(found.pop().strip())
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", [b"", b"not a library", None])
def test_a_damaged_library_is_compiled_again(small_sources, caplog, damage):
    path = compiler.compiled(compiler.find_compiler(), small_sources)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert compiler.compiled(compiler.find_compiler(), small_sources) == path
    assert path.read_bytes() == whole
    assert "is damaged" in caplog.text


def test_other_sources_are_another_library(small_sources):
    one = compiler.find_compiler().key(small_sources)
    (small_sources / "one.c").write_text("int one(void) { return 2; }\n")
    assert compiler.find_compiler().key(small_sources) != one


def test_a_folder_that_others_may_write_to_is_refused(small_sources, tmp_path):
    folder = tmp_path / "cache" / "kernels"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(KernelError, match="not yours alone"):
        compiler.compiled(compiler.find_compiler(), small_sources)
    folder.chmod(0o700)
    path = compiler.compiled(compiler.find_compiler(), small_sources)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o722)
    with pytest.raises(KernelError, match="not yours alone"):
        compiler.compiled(compiler.find_compiler(), small_sources)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_library_of_somebody_else_is_refused(small_sources):
    path = compiler.compiled(compiler.find_compiler(), small_sources)
    os.chown(path, 12345, -1)
    with pytest.raises(KernelError, match="owner 12345"):
        compiler.compiled(compiler.find_compiler(), small_sources)


def test_a_cache_that_cannot_be_made_says_so(small_sources, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MERISTEM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(KernelError, match="set MERISTEM_CACHE"):
        compiler.compiled(compiler.find_compiler(), small_sources)
