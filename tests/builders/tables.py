"""Small simulated gene × tissue data sets: positions and expression, no sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np

TISSUES = ("root", "leaf", "stem", "flower", "seed", "pollen")


def simulated_table(genes=120, tissues=TISSUES, seed=0):
    """Names, places and log2(1 + TPM): tissue effects, gene levels, and neighbours alike."""
    rng = np.random.default_rng(seed)
    names = [f"g{i:04d}" for i in range(genes)]
    contig = [f"chr{1 + 3 * i // genes}" for i in range(genes)]
    tss = 1000 + 5000 * np.arange(genes)
    strand = np.where(rng.random(genes) < 0.5, "+", "-")
    level = rng.normal(4, 1.5, genes)
    near = np.convolve(rng.normal(0, 1, (genes + 4)), np.ones(5) / np.sqrt(5), "valid")
    factor = rng.normal(0, 1, (genes, 2)) @ rng.normal(0, 0.7, (2, len(tissues)))
    value = level[:, None] + near[:, None] + np.linspace(-1, 1, len(tissues)) + factor
    value += rng.normal(0, 0.3, value.shape)
    return names, contig, tss, strand, np.maximum(value, 0.0)


def write_positions(path: Path, names, contig, tss, strand):
    rows = ["gene\tchrom\ttss\tstrand"]
    rows += [f"{g}\t{c}\t{t}\t{s}" for g, c, t, s in zip(names, contig, tss, strand, strict=True)]
    path.write_text("\n".join(rows) + "\n")


def write_table(path: Path, names, columns, values):
    rows = ["gene\t" + "\t".join(columns)]
    rows += [
        f"{g}\t" + "\t".join("" if not np.isfinite(x) else f"{x:.4f}" for x in row)
        for g, row in zip(names, values, strict=True)
    ]
    path.write_text("\n".join(rows) + "\n")


def write_families(path: Path, names, size=2):
    rows = ["gene\tfamily"] + [f"{g}\tF{i // size:04d}" for i, g in enumerate(names)]
    path.write_text("\n".join(rows) + "\n")


def write_dataset(
    folder: Path, names, contig, tss, strand, tpm, columns=TISSUES, *, samples=None, families=2,
    unit="TPM", species="simulated_plant",
):  # fmt: skip
    """A dataset.toml with its files; gives its path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_positions(folder / "genes.tsv", names, contig, tss, strand)
    write_table(folder / "tpm.tsv", names, columns, tpm)
    lines = [
        f"[species.{species}]", 'positions = "genes.tsv"',
        f'expression = {{ file = "tpm.tsv", unit = "{unit}" }}',
    ]  # fmt: skip
    if families:
        write_families(folder / "families.tsv", names, families)
        lines.append('families = "families.tsv"')
    if samples is not None:
        (folder / "samples.tsv").write_text("\n".join("\t".join(r) for r in samples) + "\n")
        lines.append('samples = "samples.tsv"')
    (folder / "dataset.toml").write_text("\n".join(lines) + "\n")
    return folder / "dataset.toml"


def build_table(folder: Path, *args, **options):
    """A store of :func:`write_dataset`, opened."""
    import featurestore
    from featurestore.build.engine import build

    dataset = write_dataset(folder / "data", *args, **options)
    build(dataset, folder / "store.zarr")
    return featurestore.open(folder / "store.zarr")
