"""Shuffled batches of 64 genes from a store, against batches from an array in memory."""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import zarr

from featurestore.loader import Batch, StoreLoader, prefetched
from featurestore.loader.prefetch import in_turn

GENES: Final = 6144
SIZE: Final = 64
PASSES: Final = 3

_DATASET: Final = """embedders = ["wide"]
[regions]
promoter   = { anchor = "tss", upstream = 400, downstream = 0 }
terminator = { anchor = "tts", upstream = 0, downstream = 400 }
bin = 20
[embedders.wide]
type = "kmer"
k = [1, 2, 3, 4]
[species.simulated]
sequences = "windows.csv"
"""


def measure(_data: Path, repeats: int) -> dict[str, float]:
    """Genes a second of shuffled loaders in float16, no cast, files in the page cache.

    6,144 simulated genes × 40 bins × 340 channels (167 MB). Every loader runs the same loop: it takes
    each batch and lets it go. A ratio is the median over turns of a loader's speed to that of the
    array right before and after it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = write_store(Path(folder), GENES)
        return _figures(path, repeats) | _memory(path)


def write_store(folder: Path, genes: int) -> Path:
    """Build a store of k-mer frequencies of random windows."""
    from featurestore.build.engine import build

    letters = np.frombuffer(b"ACGT", np.uint8)
    bases = letters[np.random.default_rng(0).integers(0, 4, (genes, 2, 400))]
    with (folder / "windows.csv").open("w") as out:
        out.write("gene,chrom,strand,promoter,terminator\n")
        for number, (first, second) in enumerate(bases):
            words = first.tobytes().decode(), second.tobytes().decode()
            out.write(f"gene_{number:06d},chr1,+,{words[0]},{words[1]}\n")
    (folder / "dataset.toml").write_text(_DATASET)
    path = folder / "store.zarr"
    build(folder / "dataset.toml", path)
    return path


def _figures(path: Path, repeats: int) -> dict[str, float]:
    array = zarr.open_array(path, path="simulated/wide/embedding", mode="r")
    values = np.asarray(array[...])
    flat = path.with_name("flat.bin")
    values.tofile(flat)
    mapped = np.memmap(flat, values.dtype, "r", shape=values.shape)

    def loader(**options: Any) -> StoreLoader:
        return StoreLoader(path, ["wide"], batch_size=SIZE, cache_bytes=0, **options)

    made = {
        "loader": loader(),
        "loader, one thread reads ahead": loader(threads=1),
        "loader, no thread": loader(prefetch=0),
        "loader, shuffled by blocks": loader(shuffle="blocks"),
        "loader, arrays": loader(tensors=False),
    }
    turns: dict[str, Callable[[], Iterable[Any]]] = {
        **{name: partial(iter, one) for name, one in made.items()},
        "in memory, prefetch thread": lambda: prefetched(in_turn(from_array(values)), 2),
        "memory map": lambda: from_array(mapped),
        "torch DataLoader, 2 workers": loader().workers(2, persistent_workers=True).__iter__,
        "zarr-python oindex": lambda: by_zarr(array, 6),
    }
    ratios: dict[str, list[float]] = {name: [] for name in turns}
    rates: list[float] = []
    for turn in range(-1, repeats * PASSES):
        for name, make in turns.items():
            if "torch" in name or "zarr" in name:
                if turn >= 3:
                    continue
                passes = 1
            else:
                passes = PASSES
            before = _rate(lambda: from_array(values), PASSES)
            own = _rate(make, passes)
            after = _rate(lambda: from_array(values), PASSES)
            if turn >= 0:  # the first turn computes checksums and starts workers
                ratios[name].append(2 * own / (before + after))
                rates.append(before)
    figures = {"in memory, genes a second": statistics.median(rates)}
    figures |= {f"{name}, of in memory": statistics.median(r) for name, r in ratios.items()}
    figures["loader, of zarr-python oindex"] = (
        figures["loader, of in memory"] / figures["zarr-python oindex, of in memory"]
    )
    return figures


def _rate(make: Callable[[], Iterable[Any]], passes: int) -> float:
    """Genes a second of some passes."""
    gc.collect()
    started, genes = time.perf_counter(), 0
    for _ in range(passes):
        for batch in make():
            genes += len(batch.row) if isinstance(batch, Batch) else len(batch)
    return genes / (time.perf_counter() - started)


def from_array(values: np.ndarray) -> Iterator[torch.Tensor]:
    """The reference: the same batches out of an array."""
    order = np.random.default_rng(0).permutation(len(values))
    for start in range(0, len(order), SIZE):
        yield torch.from_numpy(values[order[start : start + SIZE]])


def by_zarr(array: Any, batches: int) -> Iterator[torch.Tensor]:
    """Some batches as zarr-python reads them."""
    order = np.random.default_rng(0).permutation(array.shape[0])
    for start in range(0, batches * SIZE, SIZE):
        yield torch.from_numpy(np.asarray(array.oindex[order[start : start + SIZE]]))


_GROWTH = """
import gc, json, resource, sys
from featurestore.loader import StoreLoader
loader = StoreLoader(sys.argv[1], ["wide"], batch_size=64, cache_bytes=0)
def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
for _ in loader: pass
first = anonymous()
for epoch in range(20):
    for _ in loader: pass
gc.collect()
print(json.dumps([first, anonymous()]))
"""


def _memory(path: Path) -> dict[str, float]:
    """Memory of a process after one epoch and after twenty more; mapped files do not count."""
    if not Path("/proc/self/status").exists():
        return {}
    done = subprocess.run(
        [sys.executable, "-c", _GROWTH, str(path)], check=True, capture_output=True, text=True
    )
    first, last = json.loads(done.stdout)
    return {"memory after 1 epoch, MB": first, "memory after 21 epochs, MB": last}
