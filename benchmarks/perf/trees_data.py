"""Generated stores of wide float16 features, for measuring learners at the size of real tables. No model.

Features have a few hidden factors in common, as embeddings do. Expression follows from three channels
of one bin of the promoter, crookedly, so that there is something to learn and somewhere to find it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np

BIN: Final = 4
"""Bases of a bin; the sequence plays no part."""

SIGNAL_BIN: Final = 13
"""Bin of the promoter that expression follows from (the middle one where there are fewer bins)."""

_FACTORS: Final = 8
_ROWS: Final = 2048
_REGIONS: Final = ("promoter", "terminator")


def write_generated(
    folder: Path, genes: int, *, channels: int, bins: int, species: int = 1, seed: int = 0
) -> Path:
    """Build a store of 2 × ``bins`` × ``channels`` values a gene.

    Parameters
    ----------
    folder : path
        Takes the store, and meanwhile the vectors of one species in two ``.npy`` files.
    genes : int
        Of each species.
    channels, bins : int
        Of each bin; of each of two regions.
    species : int
        All have the same vectors, so that a large store needs little more room than itself; each has
        expression with noise of its own.

    Returns
    -------
    path
        Of the store.
    """
    from featurestore.build.engine import build

    folder.mkdir(parents=True, exist_ok=True)
    signal = _write_vectors(folder, genes, channels, bins, seed)
    names = [f"simulated_{number}" for number in range(species)]
    _write_index(folder, names, genes)
    (folder / "dataset.toml").write_text(_dataset(names, bins))
    for number, name in enumerate(names):
        _write_species(folder, name, signal, bins, np.random.default_rng([seed, number]))
    path = folder / "store.zarr"
    build(folder / "dataset.toml", path)
    for region in _REGIONS:
        (folder / f"{region}.npy").unlink()
    return path


def _write_vectors(folder: Path, genes: int, channels: int, bins: int, seed: int) -> np.ndarray:
    """Write (gene, channel, bin) of both regions; gives what expression follows from."""
    rng = np.random.default_rng(seed)
    axes = rng.standard_normal((_FACTORS, channels * bins), dtype=np.float32) * 0.3
    shape, signal = (genes, channels, bins), np.empty(genes)
    files = [
        np.lib.format.open_memmap(folder / f"{region}.npy", "w+", np.float16, shape)
        for region in _REGIONS
    ]
    place = signal_bin(bins)
    for start in range(0, genes, _ROWS):
        rows = min(_ROWS, genes - start)
        shared = rng.standard_normal((rows, _FACTORS), dtype=np.float32) @ axes
        for region, file in enumerate(files):
            own = rng.standard_normal((rows, channels * bins), dtype=np.float32)
            values = (own + shared).reshape(rows, channels, bins)
            file[start : start + rows] = values
            if not region:
                first, second, third = values[:, :3, place].T
                signal[start : start + rows] = np.tanh(first + second) + np.abs(third)
    return signal


def signal_bin(bins: int) -> int:
    """The bin of the promoter that expression follows from."""
    return SIGNAL_BIN if bins > SIGNAL_BIN else bins // 2


def _write_index(folder: Path, names: list[str], genes: int) -> None:
    with (folder / "rows.tsv").open("w") as out:
        for gene in range(genes):
            out.write(f"g{gene:07d}\t\t{gene}\n")
    index = {
        "source": "generated", "checkpoint": "generated, no model", "pretraining_species": [],
        "rows": dict.fromkeys(names, "rows.tsv"),
        "outputs": {"embedding": {region: f"{region}.npy" for region in _REGIONS}},
    }  # fmt: skip
    (folder / "index.json").write_text(json.dumps(index))


def _dataset(names: list[str], bins: int) -> str:
    long = bins * BIN
    text = f"""# Generated: random vectors and expression, for measuring learners.
embedders = ["wide"]
[regions]
promoter   = {{ anchor = "tss", upstream = {long}, downstream = 0 }}
terminator = {{ anchor = "tts", upstream = 0, downstream = {long} }}
bin = {BIN}
[embedders.wide]
type = "arrays"
checkpoint = "index.json"
"""
    for name in names:
        text += f'[species.{name}]\nsequences = "{name}.csv"\nexpression = "{name}.tpm.tsv"\n'
    return text


def _write_species(
    folder: Path, name: str, signal: np.ndarray, bins: int, rng: np.random.Generator
) -> None:
    window = "A" * (bins * BIN)
    tpm = 10.0 ** (1 + 0.5 * signal + rng.normal(0, 0.2, len(signal)))
    with (folder / f"{name}.csv").open("w") as out:
        out.write("gene,chrom,strand,promoter,terminator\n")
        out.writelines(f"g{i:07d},chr1,+,{window},{window}\n" for i in range(len(signal)))
    with (folder / f"{name}.tpm.tsv").open("w") as out:
        out.write("gene\tleaf\n")
        out.writelines(f"g{i:07d}\t{value:.4f}\n" for i, value in enumerate(tpm))
