"""PlantCaduceus's Triton kernels: run on the CPU by Triton's interpreter, compiled for GPUs not here."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from featurestore.embedders.plantcaduceus.layers import run_layers
from featurestore.embedders.plantcaduceus.scan import scan_by_steps
from tests.builders.triton_interpreted import GRADIENTS, LAYERS, SCANS
from tests.conftest import SHARED

FIXTURE = SHARED / "fixtures" / "caduceus_tiny_even"
ROOT = Path(__file__).resolve().parents[3]

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None,
        reason="needs Triton, which is not installed (it comes with CUDA builds of torch)",
    ),
    pytest.mark.xdist_group("triton"),
]


def interpreted(*arguments: Path) -> dict[str, torch.Tensor]:
    command = [sys.executable, "-W", "error", "-m", "tests.builders.triton_interpreted"]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *map(str, arguments)], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return load_file(arguments[0])


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """Everything that is computed by the kernels, in one process; hidden states where they are recorded."""
    target = tmp_path_factory.mktemp("triton") / "cases.safetensors"
    return interpreted(target, *([FIXTURE] if FIXTURE.is_dir() else []))


def off(got: torch.Tensor, want: torch.Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return ((got.double() - want.double()).abs().max() / want.abs().max().clamp(min=1e-12)).item()


@pytest.mark.parametrize("name", SCANS)
class TestScanAgainstAutograd:
    """The oracle steps through time in float64, and autograd differentiates it."""

    def test_result(self, computed, name):
        _, *given = SCANS[name].inputs()
        want = scan_by_steps(*(v.double() for v in given))
        rounding = torch.finfo(SCANS[name].dtype).eps
        assert off(computed[f"{name}/y"], want) < max(2e-6, rounding)
        assert computed[f"{name}/y"].dtype == SCANS[name].dtype

    def test_gradients(self, computed, name):
        grad, *given = SCANS[name].inputs()
        exact = [v.double().requires_grad_() for v in given]
        want = torch.autograd.grad(scan_by_steps(*exact), exact, grad.double())
        for key, right, owner in zip(GRADIENTS, want, given, strict=True):
            got = computed[f"{name}/{key}"]
            assert got.shape == right.shape
            assert got.dtype == owner.dtype
            assert off(got, right) < max(5e-6, torch.finfo(got.dtype).eps), key


def run_plainly(name: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    x, layers = LAYERS[name].inputs()
    kept: list[torch.Tensor] = []
    with torch.no_grad():
        out, residual = run_layers(x, layers, dtype, kept)
    return {"out": out, "residual": residual} | {f"kept{i}": h for i, h in enumerate(kept)}


FP32 = [name for name, case in LAYERS.items() if case.dtype == torch.float32]


@pytest.mark.parametrize("name", FP32)
def test_layers_are_those_of_the_plain_form(computed, name):
    for key, want in run_plainly(name, torch.float32).items():
        assert off(computed[f"{name}/{key}"], want) < 3e-6, key


@pytest.mark.parametrize("name", sorted(set(LAYERS) - set(FP32)))
def test_half_precision_products_round_no_more_than_in_the_plain_form(computed, name):
    # The interpreter, unlike a GPU (see below), cuts float32 down to bfloat16 instead of rounding:
    # errors of up to twice the size and all of one sign, which add up.
    more = 6 if LAYERS[name].dtype == torch.bfloat16 else 1.3
    exact = run_plainly(name, torch.float32)
    for key, plain in run_plainly(name, LAYERS[name].dtype).items():
        lost = (plain - exact[key]).square().mean().sqrt()
        assert lost > 0
        assert (computed[f"{name}/{key}"] - exact[key]).square().mean().sqrt() < more * lost, key


def test_hidden_states_are_the_original_s(computed):
    if not FIXTURE.is_dir():
        pytest.skip(f"needs {FIXTURE}, which is not here")
    recorded = np.load(FIXTURE / "io.npz")
    for i in range(5):
        want = recorded[f"hidden_{i}"][:1]
        np.testing.assert_allclose(computed[f"hidden_{i}"].numpy(), want, rtol=0, atol=2e-5)
    want = recorded["logits"][:1]
    assert off(computed["logits"], torch.from_numpy(want)) < 1e-5


class TestCompilesForGpusThatAreNotHere:
    """The interpreter checks numbers; the compiler checks types, operations and registers."""

    @pytest.fixture(autouse=True)
    def _needs_a_compiler_without_gpu(self):
        pytest.importorskip("triton.backends.compiler", reason="this Triton compiles only on a GPU")
        assert os.environ.get("TRITON_INTERPRET", "0") == "0"

    @pytest.mark.parametrize(("dtype", "capability"), [("fp32", 80), ("bf16", 90)])
    def test_fits_the_registers(self, capability, dtype):
        from benchmarks.perf.triton_compile import compile_for, kernels

        for kernel in kernels(dtype):
            made = compile_for(kernel, capability)
            assert made.spilled_bytes == 0, kernel.name
            assert made.registers <= 200, kernel.name

    def test_a_channel_stays_in_one_thread(self):
        """What ``state_stride`` is for: no value changes threads inside the loop of the scan."""
        from benchmarks.perf.triton_compile import compile_for, kernels

        scan = next(k for k in kernels("bf16") if k.name.startswith("scan_both_ways"))
        code = compile_for(scan, 80).code
        assert "sizePerThread = [1, 1], threadsPerWarp = [1, 32]" in code
        assert "sizePerThread = [4, 1]" not in code

    def test_rounds_to_the_nearest_bfloat16(self):
        from benchmarks.perf.triton_compile import compile_for, kernels

        for kernel in kernels("bf16"):
            assembly = compile_for(kernel, 90).assembly
            assert "cvt.rn.bf16" in assembly, kernel.name
            assert "cvt.rz" not in assembly, kernel.name
