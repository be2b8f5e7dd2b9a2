"""Text formats of the sample: FASTA, GFF3, VCF and tab-separated tables.

Everything is written plain: what gzip makes of a text differs between zlib implementations,
and the sample is to be the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from featurestore.sample.assembly import PlacedGene, Species
from featurestore.sample.variants import Variant
from featurestore.sequence.iupac import LETTERS

SIMULATED = "SIMULATED by the meristem sample generator; this is not biology"

Segments = Sequence[tuple[int, int]]


def write_text(path: Path, lines: Iterable[str]) -> None:
    """Write lines, each ended by a line feed on every platform."""
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a tab-separated table; floats are formatted by the caller or to six decimals."""
    write_text(path, ["\t".join(header), *("\t".join(map(_cell, row)) for row in rows)])


def _cell(value: object) -> str:
    if isinstance(value, float):
        text = f"{value:.6f}"
        return text if text != "-0.000000" else "0.000000"
    return str(value)


def write_fasta(path: Path, species: Species, width: int = 80) -> None:
    """Write the contigs; soft-masked bases are in lower case."""
    letters = np.frombuffer(LETTERS.encode(), np.uint8)
    with path.open("wb") as out:
        for contig in species.contigs:
            text = letters[contig.code] + np.uint8(32) * contig.masked
            full = text.size // width * width
            lines = np.full((full // width, width + 1), ord("\n"), np.uint8)
            lines[:, :width] = text[:full].reshape(-1, width)
            out.write(f">{contig.name} {SIMULATED}\n".encode())
            out.write(lines.tobytes())
            if full < text.size:
                out.write(text[full:].tobytes() + b"\n")


def write_gff3(path: Path, species: Species) -> None:
    """Write gene models: 1-based, closed coordinates as the format demands."""
    head = ["##gff-version 3", f"# {SIMULATED}"]
    head += [f"##sequence-region {c.name} 1 {c.code.size}" for c in species.contigs]
    rows = (row for gene in species.genes for row in _gene_rows(species, gene))
    write_text(path, [*head, *rows])


def _gene_rows(species: Species, gene: PlacedGene) -> Iterator[str]:
    contig, strand = species.contigs[gene.contig].name, "+" if gene.strand == 1 else "-"

    def row(kind: str, segment: tuple[int, int], attributes: str, phase: str = ".") -> str:
        start, end = gene.span(segment)
        fields = [contig, "meristem_simulator", kind, start + 1, end, ".", strand, phase]
        return "\t".join([*map(str, fields), attributes])

    structure = gene.structure
    transcripts = [(structure.exons, structure.cds)]
    if structure.alternative is not None:
        # A longer one that codes for less comes first: readers have to compare, not to take
        # the first or the longest.
        longer = structure.alternative[0][0][0] < 0
        transcripts.insert(0 if longer else 1, structure.alternative)
    outer = (
        min(exons[0][0] for exons, _ in transcripts),
        max(exons[-1][1] for exons, _ in transcripts),
    )
    yield row("gene", outer, f"ID=gene:{gene.gene};biotype=protein_coding;Note=simulated")
    for number, (exons, cds) in enumerate(transcripts, 1):
        name = f"{gene.gene}.{number}"
        parent = f"Parent=transcript:{name}"
        yield row(
            "mRNA", (exons[0][0], exons[-1][1]), f"ID=transcript:{name};Parent=gene:{gene.gene}"
        )
        for kind, segment, phase in _parts(exons, cds):
            identity = f"ID=CDS:{name};" if kind == "CDS" else ""
            yield row(kind, segment, identity + parent, phase)


def _parts(exons: Segments, cds: Segments) -> Iterator[tuple[str, tuple[int, int], str]]:
    """Exons, UTRs and coding segments in transcript order, with the phase of the latter."""
    first, last = cds[0][0], cds[-1][1]
    coded = 0
    for start, end in exons:
        yield "exon", (start, end), "."
        if start < first:
            yield "five_prime_UTR", (start, min(end, first)), "."
        low, high = max(start, first), min(end, last)
        if low < high:
            yield "CDS", (low, high), str(-coded % 3)
            coded += high - low
        if end > last:
            yield "three_prime_UTR", (max(start, last), end), "."


def write_vcf(path: Path, species: Species, variants: list[Variant], lines: list[str]) -> None:
    """Write the variants of the mutant lines, phased; sample names are lines."""
    head = ["##fileformat=VCFv4.3", f"##source={SIMULATED}"]
    head += [f"##contig=<ID={c.name},length={c.code.size}>" for c in species.contigs]
    head += [
        '##FILTER=<ID=PASS,Description="All filters passed">',
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Phased genotype (simulated)">',
    ]
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *lines]
    write_text(path, [*head, "\t".join(columns), *(_vcf_row(species, v, lines) for v in variants)])


def _vcf_row(species: Species, variant: Variant, lines: list[str]) -> str:
    fields = [species.contigs[variant.contig].name, str(variant.position + 1), ".", variant.ref]
    calls = (variant.genotype.get(i, (0, 0)) for i in range(len(lines)))
    return "\t".join(
        [*fields, variant.alt, ".", "PASS", ".", "GT", *(f"{a}|{b}" for a, b in calls)]
    )
