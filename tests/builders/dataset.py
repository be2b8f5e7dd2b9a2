"""Writes a :class:`SpeciesData` of :mod:`tests.builders.species` as the files a user would have."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featurestore.inputs.model import SpeciesData
from featurestore.sequence.iupac import decode


def write_dataset(
    folder: Path, *species: SpeciesData, embedders: str = '["onehot", "kmer"]', extra: str = ""
) -> Path:
    """FASTA, GFF3, TPM, families and dataset.toml; returns the path of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    regions = "\n".join(
        f'{r.name} = {{ anchor = "{r.anchor}", upstream = {r.upstream}, downstream = {r.downstream} }}'
        for r in species[0].regions
    )
    text = [f"embedders = {embedders}", "[regions]", regions, "bin = 100", extra]
    for one in species:
        _write_species(folder, one)
        text.append(
            f'[species.{one.name}]\ngenome = "{one.name}.fa"\nannotation = "{one.name}.gff3"\n'
            f'expression = "{one.name}.tsv"\nfamilies = "{one.name}.families.tsv"'
        )
    path = folder / "dataset.toml"
    path.write_text("\n".join(text) + "\n")
    return path


def _write_species(folder: Path, one: SpeciesData) -> None:
    genome, table = one.genome, one.expression
    assert genome is not None
    assert table is not None
    with (folder / f"{one.name}.fa").open("w") as fasta:
        for name, start, length in zip(
            genome.contig_id, genome.contig_start, genome.contig_length, strict=True
        ):
            fasta.write(f">{name}\n{decode(genome.code[start : start + length])}\n")
    with (folder / f"{one.name}.gff3").open("w") as gff:
        gff.write("##gff-version 3\n")
        for i, gene in enumerate(one.gene):
            low, high = sorted((int(one.tss[i]), int(one.tts[i])))
            place = f"{low + 1}\t{high}\t.\t{'+' if one.strand[i] > 0 else '-'}\t."
            for kind, attributes in (
                ("gene", f"ID={gene}"), ("mRNA", f"ID={gene}.1;Parent={gene}"), ("exon", f"Parent={gene}.1"),
            ):  # fmt: skip
                gff.write(f"{one.contig[i]}\ttest\t{kind}\t{place}\t{attributes}\n")
    with (folder / f"{one.name}.tsv").open("w") as out:
        out.write("\t".join(["gene", *table.sample]) + "\n")
        for i, gene in enumerate(one.gene):
            if np.isfinite(table.value[i]).all():
                out.write("\t".join([gene, *(f"{v:.6g}" for v in table.value[i])]) + "\n")
    with (folder / f"{one.name}.families.tsv").open("w") as out:
        out.write("gene\tfamily\n")
        out.writelines(f"{g}\t{f}\n" for g, f in zip(one.gene, one.family, strict=True) if f)
