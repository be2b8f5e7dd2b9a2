"""How fast windows of 196,608 bp are cut from a store's genome, once its blocks were read, and the first time."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.perf.export import DATASET, SPECIES
from featurestore.sequence.long_windows import LongWindows
from featurestore.store.reader import open_store

LENGTH = 196_608
WINDOWS = 200


def measure(data: Path, repeats: int) -> dict[str, float]:
    """Milliseconds a window around the TSS of real *Arabidopsis* genes, forward and reverse."""
    from featurestore.build.engine import build

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "dataset.toml"
        path.write_text(DATASET.format(data=(data / "ath_windows").resolve(), species=SPECIES))
        build(path, folder / "s.zarr", embedders=["onehot"])
        store = open_store(folder / "s.zarr")
        genes = store.genes(SPECIES)
        some = np.random.default_rng(0).permutation(len(genes.gene))[:WINDOWS]
        contigs, centres = genes.contig[some].tolist(), genes.tss[some]
        figures: dict[str, float] = {}
        for _ in range(repeats):
            windows = LongWindows(store)
            for label, strand in (
                ("blocks not read yet", 1), ("forward strand", 1), ("reverse strand", -1),
            ):  # fmt: skip
                out = np.empty((1, LENGTH), np.uint8)
                started = time.perf_counter()
                for contig, centre in zip(contigs, centres.tolist(), strict=True):
                    windows.batch([contig], centre, strand, LENGTH, out=out)
                each = (time.perf_counter() - started) / len(contigs) * 1e3
                key = f"ms a window of {LENGTH:,} bp, {label}"
                figures[key] = min(each, figures.get(key, each))
    return figures
