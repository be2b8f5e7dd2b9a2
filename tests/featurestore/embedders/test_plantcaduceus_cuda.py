"""What runs PlantCaduceus on a GPU: chosen by test, forced by a variable, exact in float32.

The choice is exercised on the CPU with a stand-in for ``mamba_ssm``; tests that need a GPU skip
where there is none, saying so.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import threading
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from featurestore.embedders.batching import in_pieces
from featurestore.embedders.plantcaduceus import cuda, paths
from featurestore.embedders.plantcaduceus.configuration import PlantCaduceusConfig
from featurestore.embedders.plantcaduceus.mamba_ssm_scan import MambaSsmScan
from featurestore.embedders.plantcaduceus.modeling import PlantCaduceusForMaskedLM
from featurestore.embedders.plantcaduceus.precision import forced_precision
from featurestore.embedders.plantcaduceus.scan_backends import TorchScan
from featurestore.errors import InputError
from tests.builders.triton_interpreted import ScanCase

CPU = torch.device("cpu")


def selective_scan_fn(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    """mamba_ssm's function by its documented formula: u, delta (B, D, L); A (D, N); B, C (B, G, N, L)."""
    assert B.dim() == C.dim() == 4
    assert u.stride(-1) == delta.stride(-1) == B.stride(-1) == 1
    assert A.dtype == D.dtype == torch.float32
    assert z is None
    assert delta_bias is None
    assert not delta_softplus
    each = u.shape[1] // B.shape[1]
    B, C = (v.repeat_interleave(each, dim=1) for v in (B, C))  # (B, D, N, L)
    state = torch.zeros(*u.shape[:2], A.shape[1])
    rows = []
    for t in range(u.shape[2]):
        state = (
            torch.exp(delta[..., t, None] * A) * state
            + delta[..., t, None] * B[..., t] * u[..., t, None]
        )
        rows.append((state * C[..., t]).sum(-1))
    return torch.stack(rows, dim=-1) + u * D[:, None]


def not_built(*_, **__):
    """A release without the Mamba-1 kernel: the import succeeds, the call does not."""
    return None.fwd()  # type: ignore[attr-defined]


def without_skip(u, delta, A, B, C, D=None):
    return selective_scan_fn(u, delta, A, B, C, torch.zeros_like(D))


def wrong_gradient(u, delta, A, B, C, D=None):
    return selective_scan_fn(u, delta, A.detach() + 0 * A, B, C, D)


@pytest.fixture
def install(monkeypatch):
    """Puts a package ``mamba_ssm`` with a given function where imports find it; None hides it."""

    def put(function):
        for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.selective_scan_interface"):
            module = ModuleType(name)
            module.__path__ = []
            module.selective_scan_fn = function
            monkeypatch.setitem(sys.modules, name, None if function is None else module)

    return put


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.delenv(cuda.VARIABLE, raising=False)
    monkeypatch.setattr(cuda, "_scans", {})
    monkeypatch.setattr(cuda, "_layers", {})


class TestChoice:
    def test_mamba_ssm_where_it_is_right(self, install, caplog):
        install(selective_scan_fn)
        with caplog.at_level(logging.WARNING):
            assert cuda.scan_backend(CPU).name == "mamba_ssm"
        assert not [r for r in caplog.records if "mamba_ssm" in r.getMessage()]

    def test_is_made_once(self, install):
        install(selective_scan_fn)
        assert cuda.scan_backend(CPU) is cuda.scan_backend(CPU)

    @pytest.mark.parametrize("function", [not_built, without_skip, wrong_gradient])
    def test_what_fails_or_is_wrong_is_passed_over_with_one_line(self, install, caplog, function):
        install(function)
        with caplog.at_level(logging.WARNING):
            assert cuda.scan_backend(CPU).name != "mamba_ssm"
            cuda.scan_backend(CPU)
        told = [r.getMessage() for r in caplog.records if "mamba_ssm" in r.getMessage()]
        assert len(told) == 1
        assert "installed but not used" in told[0]

    def test_what_is_not_installed_is_not_worth_a_line(self, install, caplog):
        install(None)
        with caplog.at_level(logging.WARNING):
            cuda.scan_backend(CPU)
        assert not [r for r in caplog.records if "mamba_ssm" in r.getMessage()]

    def test_running_out_of_memory_is_no_verdict(self, install):
        def full(*_, **__):
            raise RuntimeError("CUDA out of memory")

        install(full)
        with pytest.raises(RuntimeError, match="out of memory"):
            cuda.scan_backend(CPU)
        install(selective_scan_fn)
        assert cuda.scan_backend(CPU).name == "mamba_ssm"

    def test_can_be_forced(self, install, monkeypatch):
        install(selective_scan_fn)
        monkeypatch.setenv(cuda.VARIABLE, "torch")
        assert cuda.scan_backend(CPU).name == "torch"
        assert cuda.cuda_path("cpu", "bf16") == "torch with the torch scan, bf16"
        monkeypatch.setenv(cuda.VARIABLE, "mamba_ssm")
        assert cuda.cuda_path("cpu") == "torch with the mamba_ssm scan, fp32"

    def test_forced_but_broken_is_an_error(self, install, monkeypatch):
        install(without_skip)
        monkeypatch.setenv(cuda.VARIABLE, "mamba_ssm")
        with pytest.raises(InputError, match=r"MERISTEM_SCAN=mamba_ssm: does not work .* unset"):
            cuda.scan_backend(CPU)

    def test_unknown_name(self, monkeypatch):
        monkeypatch.setenv(cuda.VARIABLE, "tritn")
        with pytest.raises(InputError, match="Did you mean 'triton'"):
            cuda.scan_backend(CPU)

    def test_layers_fall_back_to_the_plain_form(self, monkeypatch):
        model = small_model()
        ids = torch.arange(3, 7).repeat(1, 6)
        with torch.no_grad():
            x = model.backbone.word_embeddings(torch.cat([ids, ids.flip(1)]))
            layers = model.backbone.layer_tensors()
            want = paths.run_layers(x, layers, torch.float32)
            monkeypatch.setenv(cuda.VARIABLE, "torch")
            got = cuda.run_layers(x, layers, torch.float32)
        for a, b in zip(got, want, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(("states", "dtype"), [(16, torch.float32), (3, torch.float32)])
def test_the_package_s_layout_gives_the_same_scan(install, states, dtype):
    install(selective_scan_fn)
    grad, *given = ScanCase(29, 11, states, sequences=2, dtype=dtype).inputs()
    want = TorchScan().forward(*given)
    torch.testing.assert_close(MambaSsmScan().forward(*given), want, rtol=1e-5, atol=1e-5)
    gradients = TorchScan().backward(grad, *given)
    for got, right in zip(MambaSsmScan().backward(grad, *given), gradients, strict=True):
        torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-4)


def small_model(seed: int = 3, **options) -> PlantCaduceusForMaskedLM:
    torch.manual_seed(seed)
    config = PlantCaduceusConfig(**({"d_model": 16, "n_layer": 2} | options))
    model = PlantCaduceusForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture
def loose_products():
    """Float32 products as a user may have set them: TensorFloat-32 on a GPU, bfloat16 on a CPU."""
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


class TestForcedPrecision:
    def test_inside_exact_outside_the_user_s(self, loose_products):
        with forced_precision("cpu"):
            assert torch.get_float32_matmul_precision() == "highest"
            assert torch.backends.cuda.matmul.allow_tf32 is False
            with forced_precision("cpu"):
                pass
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"

    def test_the_newer_switches_return_as_well(self):
        matmul = torch.backends.cuda.matmul
        if not hasattr(matmul, "fp32_precision"):
            pytest.skip("this torch has the older settings only")
        before = matmul.fp32_precision
        matmul.fp32_precision = "tf32"
        try:
            with forced_precision("cpu"):
                assert matmul.fp32_precision == "ieee"
                assert matmul.allow_tf32 is False  # raises where the generations disagree
            assert matmul.fp32_precision == "tf32"
        finally:
            matmul.fp32_precision = before

    def test_convolutions_too(self):
        with forced_precision("cpu"):
            assert torch.backends.cudnn.allow_tf32 is False
        assert torch.backends.cudnn.allow_tf32 is True

    def test_a_setting_for_everything_is_overruled_and_returns(self):
        backends = torch.backends
        if not hasattr(backends, "fp32_precision"):
            pytest.skip("this torch has the older settings only")
        backends.fp32_precision = "tf32"
        try:
            with forced_precision("cpu"):
                assert backends.cudnn.conv.fp32_precision == "ieee"
                assert backends.cuda.matmul.fp32_precision == "ieee"
                assert backends.cudnn.allow_tf32 is False
            assert backends.cudnn.conv.fp32_precision == "tf32"
        finally:
            backends.fp32_precision = "none"

    def test_returns_after_an_error(self, loose_products):
        with pytest.raises(KeyError), forced_precision("cpu"):
            raise KeyError
        assert torch.get_float32_matmul_precision() == "medium"

    def test_threads_that_overlap_do_not_leak(self, loose_products):
        entered, leave = threading.Event(), threading.Event()

        def other():
            with forced_precision("cpu"):
                entered.set()
                leave.wait(10)

        thread = threading.Thread(target=other)
        with forced_precision("cpu"):
            thread.start()
            entered.wait(10)
        assert torch.get_float32_matmul_precision() == "highest"  # the other is still inside
        leave.set()
        thread.join()
        assert torch.get_float32_matmul_precision() == "medium"

    def test_autocast_does_not_reach_the_layers(self):
        model = small_model()
        layers = model.backbone.layer_tensors()
        x = torch.randn(2, 20, 16)
        with torch.no_grad():
            want = paths.run_layers(x, layers, torch.float32)[0]
            with torch.autocast("cpu", torch.bfloat16):
                assert F.linear(x, x[0]).dtype == torch.bfloat16
                got = paths.run(model.backbone, x, torch.float32, None)[0]
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and none is here")
class TestOnTheGpu:
    """Whole models, against the CPU in float32."""

    @pytest.fixture(scope="class")
    def model(self):
        return small_model(d_model=64, n_layer=4)

    @pytest.fixture(scope="class")
    def ids(self):
        return torch.randint(3, 7, (3, 200), generator=torch.Generator().manual_seed(1))

    def run(self, model, ids, dtype="fp32"):
        model.set_compute_dtype(dtype)
        with torch.no_grad():
            out = model.to("cuda")(ids.to("cuda"), output_hidden_states=True)
        return [h.cpu() for h in (*out.hidden_states, out.logits)]

    @pytest.fixture(scope="class")
    def exact(self, model, ids):
        model.set_compute_dtype("fp32")
        with torch.no_grad():
            out = model.to("cpu")(ids, output_hidden_states=True)
        return [*out.hidden_states, out.logits]

    @pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
    def test_triton_is_what_runs(self):
        assert cuda.cuda_path("cuda").startswith("Triton kernels")

    @pytest.mark.parametrize("forced", ["", "torch"])
    def test_float32_agrees_with_the_cpu(self, model, ids, exact, monkeypatch, forced):
        monkeypatch.setenv(cuda.VARIABLE, forced)
        for got, want in zip(self.run(model, ids), exact, strict=True):
            assert (got - want).abs().max() < 2e-5 * want.abs().max()

    @pytest.mark.parametrize(("dtype", "allowed"), [("bf16", 0.1), ("fp16", 0.02)])
    def test_half_precision_stays_near(self, model, ids, exact, dtype, allowed):
        for got, want in zip(self.run(model, ids, dtype), exact, strict=True):
            assert (got - want).abs().max() < allowed * want.abs().max()

    def test_tensorfloat_is_kept_out(self, model, ids, loose_products):
        """Bit by bit what comes out under torch's default."""
        loose = self.run(model, ids)
        torch.set_float32_matmul_precision("highest")
        for got, want in zip(loose, self.run(model, ids), strict=True):
            assert torch.equal(got, want)

    def test_reverse_complement_equivariance_is_exact(self, model, ids):
        complement = model.backbone.complement.cpu()
        there, back = self.run(model, ids), self.run(model, complement[ids].flip(1))
        assert torch.equal(back[-2], there[-2].flip(1, 2))

    def test_gradients_agree_with_the_cpu_and_repeat_exactly(self, model, ids):
        def gradients(device):
            model.set_compute_dtype("fp32")
            model.to(device).zero_grad(set_to_none=True)
            model(ids.to(device), labels=ids.to(device)).loss.backward()
            return {k: p.grad.cpu() for k, p in model.named_parameters()}

        want, got = gradients("cpu"), gradients("cuda")
        for key, right in want.items():
            assert (got[key] - right).abs().max() < 1e-3 * right.abs().max() + 1e-7, key

    def test_scan_gradient_repeats_bit_by_bit(self):
        backend = cuda.scan_backend(torch.device("cuda"))
        if backend.name != "triton":
            pytest.skip(f"the scan here is {backend.name}, whose gradient may use atomics")
        case = [v.cuda() for v in ScanCase(130, 100, 16, sequences=4).inputs()]
        first, second = backend.backward(*case), backend.backward(*case)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

    def test_out_of_memory_halves_the_batch_and_goes_on(self, model, caplog):
        codes = np.random.default_rng(2).integers(3, 7, (512, 512)).astype(np.uint8)
        model.set_compute_dtype("fp32")
        model.to("cuda")

        def run(piece):
            with torch.no_grad():
                final, _ = model.backbone(torch.from_numpy(piece.astype(np.int64)).cuda())
            return {"embedding": final.mean(1).cpu().numpy()}

        want = in_pieces(run, codes, 32)["embedding"]
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        room = torch.cuda.memory_reserved() + 2**29
        torch.cuda.set_per_process_memory_fraction(min(1.0, room / total))
        try:
            with caplog.at_level(logging.WARNING):
                got = in_pieces(run, codes, 512)["embedding"]
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        assert any("out of memory" in r.getMessage() for r in caplog.records)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
