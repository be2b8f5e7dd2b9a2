"""Deposits of the published shape, a few genes each: PhytoExpr's data.csv and EMPRES's arrays."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HEADER = [
    "", "gene", "species", "transcript", "promoter", "terminator", "median_TPM", "gene_family",
    "group_for_cross_validation",
]  # fmt: skip
BASES = np.array(list("ACGT"))


@dataclass
class Gene:
    gene: str
    species: str
    promoter: str
    terminator: str
    tpm: str
    family: str
    group: str

    @property
    def transcript(self) -> str:
        return f"{self.gene}.1"


def dna(rng: np.random.Generator, length: int = 10_000) -> str:
    return "".join(rng.choice(BASES, length))


def genes(
    count: int = 24, species: tuple[str, ...] = ("Ath", "Zma", "Bdi"), seed: int = 0
) -> list[Gene]:
    """Genes of several species in turn; families of three, one of each species; groups 1 … 5."""
    rng = np.random.default_rng(seed)
    return [
        Gene(
            f"{species[i % len(species)]}G{i:04d}", species[i % len(species)], dna(rng), dna(rng),
            f"{rng.gamma(2.0, 20.0):.3f}", f"OG{i // len(species):03d}",
            str(i // len(species) % 5 + 1),
        )
        for i in range(count)
    ]  # fmt: skip


def write_data_csv(path: Path, rows: list[Gene], **changes: dict[int, str]) -> None:
    """As R writes it: everything quoted but numbers and NA."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(HEADER)
        for i, row in enumerate(rows):
            cells: dict[str, Any] = {
                "promoter": row.promoter, "terminator": row.terminator, "median_TPM": row.tpm,
            }  # fmt: skip
            cells |= {name: values[i] for name, values in changes.items() if i in values}
            writer.writerow([
                str(i + 1), row.gene, row.species, row.transcript, cells["promoter"],
                cells["terminator"], cells["median_TPM"], row.family, row.group,
            ])  # fmt: skip


def one_hot(texts: list[str]) -> np.ndarray:
    """Channels first, A C G T; nothing for N: (n, 4, length) uint8."""
    letters = np.array([list(text) for text in texts])
    return np.stack([(letters == base) for base in BASES], axis=1).astype(np.uint8)


def write_arrays(
    folder: Path, rows: list[Gene], *, channels: tuple[int, int] = (384, 925), seed: int = 1
) -> dict[str, np.ndarray]:
    """The arrays of Zenodo 18236856, channels first."""
    rng = np.random.default_rng(seed)
    n = len(rows)
    arrays: dict[str, np.ndarray] = {
        "gene": np.array([r.gene for r in rows]),
        "family": np.array([r.family for r in rows]),
        "group_for_cross_validation": np.array([r.group for r in rows]),
        "TPM": np.array([float(r.tpm) for r in rows]),
        "tss_OHE": one_hot([r.promoter[1000:6000] for r in rows]),
        "tts_OHE": one_hot([r.terminator[4000:9000] for r in rows]),
    }
    for side in ("tss", "tts"):
        arrays[f"{side}_embeddings_PlantCad"] = rng.normal(size=(n, channels[0], 20)).astype("f4")
        arrays[f"{side}_embeddings_a2z"] = rng.normal(size=(n, channels[1], 20)).astype("f4")
        arrays[f"{side}_predictions_a2z"] = rng.random((n, 1, 20)).astype("f4")
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    return arrays
