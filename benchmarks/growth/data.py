"""Simulated data sets of any number of genes and species: random sequence, random expression, no model.

What grows is the machinery (tables, shards, manifests, splits, statistics), so the windows are
short and the feature is a count of 1- and 2-mers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

WINDOW: Final = 60
"""Bases of each of the two regions."""
GENES_PER_FAMILY: Final = 3
ROWS_AT_ONCE: Final = 20_000

_HEADER: Final = """# Simulated: random sequence and expression, for measuring how time and memory grow.
embedders = ["kmer"]
[regions]
promoter   = { anchor = "tss", upstream = 60, downstream = 0 }
terminator = { anchor = "tts", upstream = 0, downstream = 60 }
bin = 30
[embedders.kmer]
type = "kmer"
k = [1, 2]
"""


def write_simulated(folder: Path, genes: int, species: int = 1, seed: int = 0) -> Path:
    """Write a data set of ``genes`` genes in all, evenly over ``species``; returns its dataset.toml."""
    folder.mkdir(parents=True, exist_ok=True)
    text = _HEADER
    for number in range(species):
        name = f"simulated_{number:02d}"
        own = genes // species + (number < genes % species)
        _write_species(folder, name, own, np.random.default_rng([seed, number]))
        text += f'[species.{name}]\nsequences = "{name}.csv"\nexpression = "{name}.tpm.tsv"\nfamilies = "{name}.families.tsv"\n'
    path = folder / "dataset.toml"
    path.write_text(text)
    return path


def _write_species(folder: Path, name: str, genes: int, rng: np.random.Generator) -> None:
    with (
        (folder / f"{name}.csv").open("w") as sequences,
        (folder / f"{name}.tpm.tsv").open("w") as expression,
        (folder / f"{name}.families.tsv").open("w") as families,
    ):
        sequences.write("gene,chrom,strand,promoter,terminator\n")
        expression.write("gene\tleaf\troot\n")
        families.write("gene\tfamily\n")
        for first in range(0, genes, ROWS_AT_ONCE):
            count = min(ROWS_AT_ONCE, genes - first)
            letters = np.frombuffer(b"ACGT", np.uint8)
            bases = letters[rng.integers(0, 4, (count, 2 * WINDOW), dtype=np.uint8)]
            tpm = rng.gamma(1.0, 10.0, (count, 2))
            family = rng.integers(0, max(genes // GENES_PER_FAMILY, 1), count)
            for i in range(count):
                gene, own = f"{name}_{first + i:07d}", bases[i].tobytes().decode()
                chrom, strand = (first + i) % 10, "+-"[i % 2]
                sequences.write(f"{gene},chr{chrom},{strand},{own[:WINDOW]},{own[WINDOW:]}\n")
                expression.write(f"{gene}\t{tpm[i, 0]:.3f}\t{tpm[i, 1]:.3f}\n")
                families.write(f"{gene}\tF{family[i]:06d}\n")
