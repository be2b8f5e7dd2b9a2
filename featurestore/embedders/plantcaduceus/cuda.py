"""What computes PlantCaduceus on a GPU: chosen by a test on that GPU, never by guess.

Two choices are made, each once per process and device, by running a tiny case and comparing it
with the reference on the CPU:

* the scan and its gradient (training): ``mamba_ssm``, whose gradient is parallel in time, where it
  is installed and gives the right numbers; else Triton; else torch.
* all layers without gradients (embedding, scoring): the Triton kernels, which join everything
  between two matrix products; else the plain form with the scan chosen above.

``MERISTEM_SCAN=triton``, ``mamba_ssm`` or ``torch`` forces one for both, and an error tells if that
one does not work.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from featurestore.embedders.batching import is_out_of_memory
from featurestore.embedders.plantcaduceus import layers as plain
from featurestore.embedders.plantcaduceus.layers import Direction, Layer
from featurestore.embedders.plantcaduceus.scan import scan_by_steps
from featurestore.embedders.plantcaduceus.scan_backends import ScanBackend, TorchScan
from featurestore.errors import InputError, unknown_name

log = logging.getLogger(__name__)

VARIABLE: Final = "MERISTEM_SCAN"
ORDER: Final = ("mamba_ssm", "triton", "torch")
TOLERANCE: Final = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest difference in a self-test, relative to the largest value."""

RunLayers = Callable[
    [Tensor, tuple[Layer, ...], torch.dtype, list[Tensor] | None], tuple[Tensor, Tensor]
]

_lock = threading.RLock()
_scans: dict[tuple[str, str], ScanBackend] = {}
_layers: dict[tuple[str, str, torch.dtype], RunLayers | None] = {}


def forced() -> str:
    """The value of ``MERISTEM_SCAN``; empty where nothing is forced."""
    name = os.environ.get(VARIABLE, "").strip()
    if name and name not in ORDER:
        raise unknown_name(f"scan in the variable {VARIABLE}", name, ORDER)
    return name


def _failures() -> tuple[type[BaseException], ...]:
    """What a foreign kernel may raise for being unable to run here."""
    kinds: list[type[BaseException]] = [
        ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError,
        OSError, RuntimeError, subprocess.SubprocessError, TypeError, ValueError,
    ]  # fmt: skip
    try:
        from triton.errors import TritonError
    except ImportError:
        return tuple(kinds)
    return (*kinds, TritonError)


def _scan_of(name: str) -> ScanBackend:
    if name == "mamba_ssm":
        from featurestore.embedders.plantcaduceus.mamba_ssm_scan import MambaSsmScan

        return MambaSsmScan()
    if name == "triton":
        from featurestore.embedders.plantcaduceus.triton_scan import TritonScan

        return TritonScan()
    return TorchScan()


def _require_close(got: Tensor, want: Tensor, what: str, tolerance: float) -> None:
    off = (got.detach().cpu().double() - want.detach().double()).abs().max().item()
    allowed = tolerance * want.detach().abs().max().item()
    if not off <= allowed:
        raise ArithmeticError(f"{what} is off by {off:.3g}, more than {allowed:.3g}")


@torch.inference_mode(mode=False)
def check_scan(backend: ScanBackend, device: torch.device) -> None:
    """Compare a backend on a device with the reference in float64; ArithmeticError if it is off."""
    draw = torch.Generator().manual_seed(20)
    sequences, length, channels, states = 2, 37, 40, 16

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw)

    grad, u = normal(sequences, length, channels), normal(sequences, length, channels)
    delta = torch.rand(u.shape, generator=draw) * 0.3
    a = -torch.rand((channels, states), generator=draw) * 8 - 0.1
    given = (u, delta, a, normal(sequences, length, states), normal(sequences, length, states), normal(channels))  # fmt: skip
    exact = [v.double().requires_grad_() for v in given]
    with torch.enable_grad():
        want = scan_by_steps(*exact)
        gradients = torch.autograd.grad(want, exact, grad.double())
    there = [v.to(device) for v in given]
    tolerance = TOLERANCE[torch.float32]
    _require_close(backend.forward(*there), want, "the scan", tolerance)
    found = backend.backward(grad.to(device), *there)
    for name, got, right in zip(("u", "delta", "a", "b", "c", "d"), found, gradients, strict=True):
        _require_close(got, right, f"the gradient by {name}", tolerance)


def _small_layer(draw: torch.Generator, width: int, rank: int, states: int) -> Layer:
    channels = 2 * width

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw).div(shape[-1] ** 0.5)

    def way() -> Direction:
        return Direction(
            normal(channels, 4), normal(channels), normal(rank + 2 * states, channels),
            normal(channels, rank), normal(channels) - 2,
            -torch.rand((channels, states), generator=draw) * 8 - 0.1, normal(channels),
        )  # fmt: skip

    norm = 1 + 0.1 * normal(width)
    return Layer(norm, normal(2 * channels, width), normal(width, channels), way(), way(), 1e-5)


def _moved(layer: Layer, device: torch.device) -> Layer:
    ways = [Direction(*(v.to(device) for v in vars(w).values())) for w in (layer.forward, layer.reverse)]  # fmt: skip
    norm, into, out = (v.to(device) for v in (layer.norm, layer.in_proj, layer.out_proj))
    return Layer(norm, into, out, ways[0], ways[1], layer.epsilon)


@torch.no_grad()
def check_layers(run: RunLayers, device: torch.device, dtype: torch.dtype) -> None:
    """Compare a way to run layers on a device with the plain form on the CPU in float32."""
    draw = torch.Generator().manual_seed(21)
    layers = tuple(_small_layer(draw, 24, 3, 16) for _ in range(2))
    x = torch.randn((2, 37, 24), generator=draw)
    want = plain.run_layers(x, layers, torch.float32)
    got = run(x.to(device), tuple(_moved(v, device) for v in layers), dtype, None)
    for name, right, found in zip(("output", "residual"), want, got, strict=True):
        _require_close(found, right, f"the {name} of the layers", TOLERANCE[dtype])


def scan_backend(device: torch.device) -> ScanBackend:
    """The scan for a device: the first that passes its test there.

    Raises
    ------
    InputError
        If the one that ``MERISTEM_SCAN`` names does not work.
    """
    wanted = forced()
    key = (_name(device), wanted)
    with _lock:
        if key not in _scans:
            _scans[key] = _first_scan(device, wanted)
        return _scans[key]


def _first_scan(device: torch.device, wanted: str) -> ScanBackend:
    for name in (wanted,) if wanted else ORDER:
        try:
            backend = _scan_of(name)
            if name != "torch":
                check_scan(backend, device)
        except _failures() as error:
            _told(error, name, wanted, device)
        else:
            return backend
    raise AssertionError("torch needs no test")


def _told(error: BaseException, name: str, wanted: str, device: torch.device) -> None:
    """Raise what must not be passed over; say the rest once."""
    if is_out_of_memory(error):
        raise error
    if wanted:
        raise InputError(
            f"{VARIABLE}={name}: does not work on {device}: {error}; unset it to use what does"
        ) from error
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == name:
        return  # not installed, which is no failure
    log.warning("PlantCaduceus on %s: %s is installed but not used: %s", device, name, error)


def _fused_layers(device: torch.device, dtype: torch.dtype) -> RunLayers | None:
    wanted = forced()
    if wanted not in ("", "triton"):
        return None
    key = (_name(device), wanted, dtype)
    with _lock:
        if key not in _layers:
            _layers[key] = _tested_layers(device, dtype, wanted)
        return _layers[key]


def _tested_layers(device: torch.device, dtype: torch.dtype, wanted: str) -> RunLayers | None:
    try:
        from featurestore.embedders.plantcaduceus.triton_inference import run_layers

        check_layers(run_layers, device, dtype)
    except _failures() as error:
        _told(error, "triton", wanted, device)
        return None
    return run_layers


def _name(device: torch.device) -> str:
    if device.type == "cuda" and device.index is None:
        return f"cuda:{torch.cuda.current_device()}"
    return str(device)


def run_layers(
    x: Tensor, layers: tuple[Layer, ...], dtype: torch.dtype, keep: list[Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """All layers without gradients; see :func:`.layers.run_layers`."""
    run = _fused_layers(x.device, dtype)
    if run is None:
        return plain.run_layers(x, layers, dtype, keep)
    from featurestore.embedders.plantcaduceus.triton_inference import supports

    return (run if supports(layers) else plain.run_layers)(x, layers, dtype, keep)


def cuda_path(device: str | torch.device, dtype: str = "fp32") -> str:
    """What runs on a GPU, in words; makes the choice (and compiles kernels) if it was not made."""
    at = torch.device(device)
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    scan = scan_backend(at).name
    if _fused_layers(at, dtypes[dtype]) is not None:
        return f"Triton kernels, {dtype}; training by the {scan} scan"
    return f"torch with the {scan} scan, {dtype}"
