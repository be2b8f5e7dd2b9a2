"""``python -m benchmarks.perf.plantcaduceus_cuda``: windows per second on a GPU, beside the originals.

Random weights of the released sizes: speed does not depend on their values. The rates beside are
those that PlantCAD's authors published for their code with ``mamba_ssm``, at batch 64, on a GPU
they do not name; a ratio with another GPU compares GPUs as well. To measure ``mamba_ssm``'s scan on
this one, where it is installed: ``MERISTEM_SCAN=mamba_ssm``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SIZES = {"l20": (384, 20), "l24": (512, 24), "l28": (768, 28), "l32": (1024, 32)}
"""Channels and layers."""

PUBLISHED = {"l20": 663.0, "l24": 407.0, "l28": 220.0, "l32": 135.0}
"""Windows of 512 bp per second, batch 64 (PlantCAD's authors; GPU not named)."""


@dataclass(frozen=True)
class Rate:
    """One measurement."""

    size: str
    dtype: str
    batch: int
    windows_per_second: float
    ratio_to_published: float
    peak_gib: float
    path: str


def measure(size: str, dtype: str, batch: int, length: int, repeats: int) -> Rate:
    """Median rate of the whole model, from token ids on the GPU to the last hidden state."""
    import torch

    from featurestore.embedders.plantcaduceus.configuration import PlantCaduceusConfig
    from featurestore.embedders.plantcaduceus.cuda import cuda_path
    from featurestore.embedders.plantcaduceus.modeling import PlantCaduceusForMaskedLM

    width, layers = SIZES[size]
    model: Any = PlantCaduceusForMaskedLM(PlantCaduceusConfig(d_model=width, n_layer=layers))
    model.set_compute_dtype(dtype)
    model.eval().to("cuda")
    ids = torch.randint(3, 7, (batch, length), device="cuda")
    seconds = []
    with torch.no_grad():
        for _ in range(3):  # compiles the kernels, warms the allocator
            model.backbone(ids)
        torch.cuda.reset_peak_memory_stats()
        for _ in range(repeats):
            torch.cuda.synchronize()
            start = time.perf_counter()
            model.backbone(ids)
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    rate = batch / statistics.median(seconds)
    return Rate(
        size, dtype, batch, rate, rate / PUBLISHED[size],
        torch.cuda.max_memory_allocated() / 2**30, cuda_path("cuda", dtype),
    )  # fmt: skip


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.perf.plantcaduceus_cuda", description=__doc__
    )
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--dtypes", nargs="+", choices=["fp32", "bf16", "fp16"], default=["bf16", "fp32"])  # fmt: skip
    parser.add_argument("--batch", type=int, default=64, help="windows at a time")
    parser.add_argument("--length", type=int, default=512, help="base pairs of a window")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device: nothing was measured")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    print(f"{'size':<5} {'dtype':<5} {'windows/s':>10} {'published':>10} {'ratio':>7} {'peak GiB':>9}  path")  # fmt: skip
    rates = []
    for size in options.sizes:
        for dtype in options.dtypes:
            r = measure(size, dtype, options.batch, options.length, options.repeats)
            rates.append(asdict(r) | {"gpu": torch.cuda.get_device_name()})
            print(f"{size:<5} {dtype:<5} {r.windows_per_second:>10.1f} {PUBLISHED[size]:>10.0f} {r.ratio_to_published:>7.2f} {r.peak_gib:>9.2f}  {r.path}")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(rates, indent=1))


if __name__ == "__main__":
    main()
