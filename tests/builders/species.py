"""Makes :class:`SpeciesData` in memory: random genomes with genes on both strands."""

from __future__ import annotations

import numpy as np

from featurestore.inputs.model import Expression, Genome, Region, SpeciesData

REGIONS = (Region("promoter", "tss", 400, 100), Region("terminator", "tts", 100, 400))


def random_species(
    name: str = "test_plant",
    *,
    genes: int = 50,
    contigs: int = 3,
    contig_bp: int = 20_000,
    regions: tuple[Region, ...] = REGIONS,
    seed: int = 0,
    samples: int = 3,
    duplicate: bool = False,
) -> SpeciesData:
    """A species in genome mode; with ``duplicate`` the second contig repeats the first, base by base."""
    rng = np.random.default_rng(seed)
    code = rng.integers(0, 4, contigs * contig_bp).astype(np.uint8)
    code[rng.random(len(code)) < 0.01] = 4
    if duplicate:
        code[contig_bp : 2 * contig_bp] = code[:contig_bp]
    contig_of = np.sort(rng.integers(0, contigs, genes))
    start = rng.integers(0, contig_bp - 1500, genes)
    if duplicate:
        half = genes // 2
        contig_of[:half], contig_of[half : 2 * half] = 0, 1
        start[half : 2 * half] = start[:half]
    order = np.lexsort((start, contig_of))
    contig_of, start = contig_of[order], start[order]
    end = start + rng.integers(300, 1500, genes)
    strand = rng.choice(np.array([1, -1], np.int8), genes)
    if duplicate:
        end = start + 700
        strand[:] = 1
    value = rng.lognormal(2, 1, (genes, samples)).astype(np.float32)
    labelled = rng.random(genes) < 0.9
    value[~labelled] = np.nan
    names = [f"G{i:05d}" for i in range(genes)]
    return SpeciesData(
        name=name,
        kind="genome",
        gene=names,
        locus=names,
        contig=[f"chr{c + 1}" for c in contig_of],
        strand=strand,
        tss=np.where(strand > 0, start, end).astype(np.int64),
        tts=np.where(strand > 0, end, start).astype(np.int64),
        family=[f"F{i // 3:04d}" if i % 5 else "" for i in range(genes)],
        regions=regions,
        genome=Genome(
            [f"chr{c + 1}" for c in range(contigs)],
            np.arange(contigs, dtype=np.int64) * contig_bp,
            np.full(contigs, contig_bp, np.int64),
            code,
        ),
        expression=Expression(value, "TPM", [f"s{i}" for i in range(samples)], labelled),
        input_digest={"genome": "0" * 64},
    )
