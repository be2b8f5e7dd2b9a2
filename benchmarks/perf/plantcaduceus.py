"""PlantCaduceus on the CPU: compiled kernels against plain torch and against what others run.

Random weights with the shape of the released l20: speed does not depend on their values. The unit is
CPU-seconds of one thread per window of 512 bp, both strands and both directions. What others run is
measured on the mixers of one layer and multiplied by the number of layers, which leaves out their
norms and embeddings.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

LENGTH: Final = 512
WINDOWS: Final = 4
"""Windows at a time, of the compiled forms."""

MEMORY: Final = """
import torch
from benchmarks.perf.plantcaduceus import LENGTH, WINDOWS, l20, peak_memory
torch.set_num_threads(1)
model = l20()
with torch.no_grad():
    model.backbone(torch.randint(3, 7, (1, 8)))  # packs the weights
    before = peak_memory()
    model.backbone(torch.randint(3, 7, (WINDOWS, LENGTH)))
print(before, peak_memory())
"""


def l20(dtype: str = "fp32") -> Any:
    """A model of l20's shape with random weights."""
    from featurestore.embedders.plantcaduceus.configuration import PlantCaduceusConfig
    from featurestore.embedders.plantcaduceus.modeling import PlantCaduceusForMaskedLM

    model = PlantCaduceusForMaskedLM(PlantCaduceusConfig())
    model.set_compute_dtype(dtype)
    return model.eval()


def peak_memory() -> float:
    """Most resident memory this process has had, in MB."""
    import resource

    status = Path("/proc/self/status")
    if status.exists():  # getrusage also counts what the parent had
        line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(_data: Path, repeats: int) -> dict[str, float]:
    """Seconds per window, and ratios taken in turn within one run."""
    import torch

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with torch.no_grad():
            figures = _one_thread(repeats)
            figures |= _threads(repeats, 2)
    finally:
        torch.set_num_threads(threads)
    before, peak = _memory()
    figures["peak memory of 4 windows in fp32, MB"] = peak
    figures["of it, what windows take over packed weights, MB"] = peak - before
    return figures


def _one_thread(repeats: int) -> dict[str, float]:
    import torch

    from featurestore.embedders.plantcaduceus import paths

    print("fp32:", paths.active("cpu", "fp32"))
    print("bf16:", paths.active("cpu", "bf16"))
    fp32, bf16 = l20(), l20("bf16")
    ids = torch.randint(3, 7, (WINDOWS, LENGTH))
    layers = fp32.config.n_layer
    hidden = torch.randn(2, LENGTH, fp32.config.d_model)
    mixer, original = _mamba_mixer(fp32.config), _original_mixer(fp32.config)

    def plain() -> None:
        with _kernels("off"):
            fp32.backbone(ids[:1])

    forms: dict[str, tuple[Callable[[], Any], float]] = {
        "compiled, fp32": (lambda: fp32.backbone(ids), 1 / WINDOWS),
        "compiled, bf16": (lambda: bf16.backbone(ids), 1 / WINDOWS),
        "plain torch, fp32": (plain, 1.0),
        # two directions on two strands; one call has both strands
        "transformers' MambaMixer, fp32": (lambda: [mixer(hidden) for _ in range(2)], layers),
        "the original's reference scan, fp32": (
            lambda: [original(hidden) for _ in range(2)],
            layers,
        ),
    }
    spent: dict[str, list[float]] = {name: [] for name in forms}
    for name, (run, share) in forms.items():
        if "compiled" in name:
            run()  # packs the weights
        del share
    for _ in range(repeats):
        for name, (run, share) in forms.items():
            spent[name].append(_cpu_seconds(run) * share)
    figures = {f"{name}, CPU-s per window": min(taken) for name, taken in spent.items()}
    for ours in ("compiled, fp32", "compiled, bf16"):
        for other in list(forms)[2:]:
            each = zip(spent[other], spent[ours], strict=True)
            figures[f"{other} ÷ {ours}"] = statistics.median(a / b for a, b in each)
    return figures


def _threads(repeats: int, count: int) -> dict[str, float]:
    """One thread against ``count``, compiled: by the wall, and by the CPU time of the busiest.

    The second is what the first would be on idle cores: the machine's other work stays out of it.
    """
    import torch

    ids = torch.randint(3, 7, (WINDOWS, LENGTH))
    figures = {}
    for dtype in ("fp32", "bf16"):
        model, walls, busiest = l20(dtype), [], []
        model.backbone(ids)
        for _ in range(repeats):
            one, many = (_wall_and_busiest(model, ids, threads) for threads in (1, count))
            walls.append(one[0] / many[0])
            busiest.append(one[1] / many[1])
        of = f"of 1 thread ÷ of {count}, compiled, {dtype}"
        figures[f"wall {of}"] = statistics.median(walls)
        figures[f"CPU time {of}, the busier one"] = statistics.median(busiest)
    return figures


def _wall_and_busiest(model: Any, ids: Any, threads: int) -> tuple[float, float]:
    import torch

    torch.set_num_threads(threads)
    wall, own, all_of_them = time.perf_counter(), time.thread_time(), time.process_time()
    model.backbone(ids)
    wall, own = time.perf_counter() - wall, time.thread_time() - own
    others = time.process_time() - all_of_them - own
    return wall, max(own, others / max(threads - 1, 1))


def _memory() -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True
    )
    before, peak = done.stdout.split()
    return float(before), float(peak)


def _cpu_seconds(action: Callable[[], object]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


@contextmanager
def _kernels(value: str) -> Iterator[None]:
    before = os.environ.get("MERISTEM_KERNELS")
    os.environ["MERISTEM_KERNELS"] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ["MERISTEM_KERNELS"]
        else:
            os.environ["MERISTEM_KERNELS"] = before


def _mamba_mixer(config: Any) -> Callable[[Any], Any]:
    """One direction by ``transformers``, in the form it runs without CUDA packages."""
    import transformers
    from transformers.models.mamba.configuration_mamba import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    transformers.logging.set_verbosity_error()  # it tells of the CUDA packages it lacks
    sizes = MambaConfig(
        hidden_size=config.d_model, state_size=config.d_state, conv_kernel=config.d_conv,
        expand=2, time_step_rank=config.dt_rank, use_mambapy=False,
    )  # fmt: skip
    mixer: Callable[[Any], Any] = MambaMixer(sizes, layer_idx=0).eval()
    return mixer


def _original_mixer(config: Any) -> Callable[[Any], Any]:
    """One direction as the original computes it where its CUDA packages are missing.

    The scan is ``selective_scan_ref`` of Gu and Dao's published code, from its formulas: decays and
    inputs of all steps at once, shape (s, c, l, n), then a loop over the steps.
    """
    import torch
    from torch import nn
    from torch.nn import functional as F  # noqa: N812 # torch's own convention

    from featurestore.embedders.plantcaduceus.modeling import MambaDirection

    way = MambaDirection(config)
    rank, states = config.dt_rank, config.d_state

    def scan(u: Any, delta: Any, a: Any, b: Any, c: Any) -> Any:
        decay = torch.exp(torch.einsum("scl,cn->scln", delta, a))
        driven = torch.einsum("scl,snl,scl->scln", delta, b, u)
        state, rows = u.new_zeros(*u.shape[:2], states), []
        for t in range(u.shape[2]):
            state = decay[:, :, t] * state + driven[:, :, t]
            rows.append(torch.einsum("scn,sn->sc", state, c[:, :, t]))
        return torch.stack(rows, dim=2) + u * way.D[:, None]

    def mix(hidden: Any) -> Any:
        inner, gate = way.in_proj(hidden).transpose(1, 2).chunk(2, dim=1)
        u = F.silu(way.conv1d(nn.functional.pad(inner, (config.d_conv - 1, 0))))
        step, b, c = torch.split(way.x_proj(u.transpose(1, 2)), [rank, states, states], dim=-1)
        delta = F.softplus(way.dt_proj(step)).transpose(1, 2)
        y = scan(u, delta, -torch.exp(way.A_log), b.transpose(1, 2), c.transpose(1, 2))
        return way.out_proj((y * F.silu(gate)).transpose(1, 2))

    return mix
