"""Slow plain-Python readers of the simulated sample, and its grammar re-evaluated from JSON.

Nothing here uses the code under test: strings, dictionaries and loops only.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")
CODON_STOPS = {"TAA", "TAG", "TGA"}


@dataclass
class Transcript:
    """A transcript as the GFF3 has it; 0-based half-open coordinates."""

    name: str
    start: int
    end: int
    exons: list[tuple[int, int]] = field(default_factory=list)
    cds: list[tuple[int, int, int]] = field(default_factory=list)  # start, end, phase

    def coding_length(self) -> int:
        return sum(end - start for start, end, _ in self.cds)


@dataclass
class Gene:
    """A gene with all its transcripts."""

    name: str
    contig: str
    strand: str
    transcripts: list[Transcript] = field(default_factory=list)

    def representative(self) -> Transcript:
        return max(self.transcripts, key=lambda t: (t.coding_length(), t.end - t.start))

    def boundaries(self) -> tuple[int, int]:
        """TSS and TTS as boundaries on the forward strand."""
        transcript = self.representative()
        ends = (transcript.start, transcript.end)
        return ends if self.strand == "+" else ends[::-1]


def reverse_complement(sequence: str) -> str:
    return sequence.translate(COMPLEMENT)[::-1]


def read_fasta(path: Path) -> dict[str, str]:
    contigs: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line.startswith(">"):
            parts = contigs.setdefault(line[1:].split()[0], [])
        else:
            parts.append(line)
    return {name: "".join(parts) for name, parts in contigs.items()}


def read_genes(path: Path) -> dict[str, Gene]:
    genes: dict[str, Gene] = {}
    transcripts: dict[str, Transcript] = {}
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            continue
        contig, _, kind, start, end, _, strand, phase, attributes = line.split("\t")
        tags = dict(item.split("=") for item in attributes.split(";"))
        low, high = int(start) - 1, int(end)
        if kind == "gene":
            genes[tags["ID"]] = Gene(tags["ID"].removeprefix("gene:"), contig, strand)
        elif kind == "mRNA":
            transcripts[tags["ID"]] = Transcript(tags["ID"], low, high)
            genes[tags["Parent"]].transcripts.append(transcripts[tags["ID"]])
        elif kind == "exon":
            transcripts[tags["Parent"]].exons.append((low, high))
        elif kind == "CDS":
            transcripts[tags["Parent"]].cds.append((low, high, int(phase)))
    return {gene.name: gene for gene in genes.values()}


def spliced(sequence: str, strand: str, segments: list[tuple[int, int]]) -> str:
    joined = "".join(sequence[start:end] for start, end in sorted(segments)).upper()
    return joined if strand == "+" else reverse_complement(joined)


def window(sequence: str, boundary: int, strand: str, before: int, after: int) -> str:
    """Cut base by base: position i is i − before bases after the boundary, in transcript sense."""
    out = []
    for offset in range(-before, after):
        at = boundary + offset if strand == "+" else boundary - 1 - offset
        base = sequence[at].upper() if 0 <= at < len(sequence) else "N"
        out.append(base if strand == "+" else base.translate(COMPLEMENT))
    return "".join(out)


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def read_vcf(path: Path) -> tuple[list[str], list[tuple[str, int, str, str, list[str]]]]:
    """Lines, and (contig, 0-based position, ref, alt, genotypes) per record."""
    lines: list[str] = []
    records = []
    for text in path.read_text().splitlines():
        if text.startswith("##"):
            continue
        fields = text.split("\t")
        if text.startswith("#CHROM"):
            lines = fields[9:]
        else:
            records.append((fields[0], int(fields[1]) - 1, fields[3], fields[4], fields[9:]))
    return lines, records


def apply_variants(
    sequence: str, changes: list[tuple[int, str, str]], boundaries: list[int]
) -> tuple[str, list[int]]:
    """The whole contig with (position, ref, alt) replaced, and where the boundaries come to lie."""
    parts, at, moved = [], 0, list(boundaries)
    for position, ref, alt in changes:
        assert sequence[position : position + len(ref)].upper() == ref
        parts += [sequence[at:position], alt]
        at = position + len(ref)
        for i, boundary in enumerate(boundaries):
            assert not position < boundary < at, "a variant spans a TSS or TTS"
            if boundary >= at:
                moved[i] += len(alt) - len(ref)
    return "".join([*parts, sequence[at:]]), moved


def grammar_score(grammar: dict, promoter: str, terminator: str) -> list[float]:
    """log10 expression per tissue from ``truth/grammar.json``, position by position."""
    windows = {"promoter": promoter, "terminator": terminator}
    anchors = {name: grammar[f"{name}_window"][0] for name in windows}
    feature = {
        motif["name"]: _motif_feature(
            grammar, motif, windows[motif["region"]], anchors[motif["region"]]
        )
        for motif in grammar["motifs"]
    }
    for pair in grammar["pairs"]:
        feature[pair["name"]] = feature[pair["first"]] * feature[pair["second"]]
    for term in grammar["gc_terms"]:
        anchor = anchors[term["region"]]
        span = windows[term["region"]][anchor + term["start"] : anchor + term["end"]]
        gc = sum({"G": 1.0, "C": 1.0, "N": 0.5}.get(base, 0.0) for base in span) / len(span)
        feature[term["name"]] = (gc - term["centre"]) / term["scale"]
    terms = [*grammar["motifs"], *grammar["pairs"], *grammar["gc_terms"]]
    return [
        intercept + sum(term["weight"][t] * feature[term["name"]] for term in terms)
        for t, intercept in enumerate(grammar["intercept"])
    ]


def _motif_feature(grammar: dict, motif: dict, window: str, anchor: int) -> float:
    length, total = len(motif["consensus"]), 0.0
    for start in range(len(window) - length + 1):
        x = start - anchor + length / 2
        if motif["shape"] == "decay":
            place = math.exp(x / motif["width"]) if x < 0 else 0.0
        else:
            place = math.exp(-0.5 * ((x - motif["centre"]) / motif["width"]) ** 2)
        if place < 1e-4:
            continue
        site = window[start : start + length]
        for weight, read in (
            (motif["forward"], site),
            (motif["reverse"], reverse_complement(site)),
        ):
            occupancy = 1.0
            for base, row in zip(read, motif["matrix_acgt"], strict=True):
                occupancy *= sum(row) / 4 if base == "N" else row["ACGT".index(base)]
            total += weight * place * occupancy
    return 1 - math.exp(-grammar["saturation"] * total)
