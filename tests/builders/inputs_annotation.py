"""Writes gene models as GFF3 or GTF from plain facts, in any order of lines."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Transcript:
    """A transcript by its exons and CDS: lists of (first, last), 1-based, both included."""

    name: str
    exons: list[tuple[int, int]]
    cds: list[tuple[int, int]] = field(default_factory=list)
    attributes: str = ""

    @property
    def span(self) -> tuple[int, int]:
        return min(e[0] for e in self.exons), max(e[1] for e in self.exons)


@dataclass(frozen=True)
class Gene:
    name: str
    contig: str
    strand: str
    transcripts: list[Transcript]
    attributes: str = ""

    @property
    def span(self) -> tuple[int, int]:
        spans = [t.span for t in self.transcripts]
        return min(s[0] for s in spans), max(s[1] for s in spans)


def gff3(genes: list[Gene], gene_prefix: str = "", transcript_prefix: str = "") -> list[str]:
    """Lines of GFF3, parents before children."""
    lines = []
    for g in genes:
        gene_id = gene_prefix + g.name

        def line(kind: str, span: tuple[int, int], text: str, g: Gene = g) -> str:
            phase = "0" if kind == "CDS" else "."
            return f"{g.contig}\tx\t{kind}\t{span[0]}\t{span[1]}\t.\t{g.strand}\t{phase}\t{text}"

        lines.append(line("gene", g.span, f"ID={gene_id}{g.attributes}"))
        for t in g.transcripts:
            name = transcript_prefix + t.name
            lines.append(line("mRNA", t.span, f"ID={name};Parent={gene_id}{t.attributes}"))
            lines += [line("exon", exon, f"Parent={name}") for exon in t.exons]
            lines += [line("CDS", cds, f"ID={name}.cds;Parent={name}") for cds in t.cds]
    return lines


def gtf(genes: list[Gene], gene_lines: bool = True, transcript_lines: bool = True) -> list[str]:
    """Lines of GTF; gene and transcript lines may be left out, as older writers do."""
    lines = []
    for g in genes:

        def line(kind: str, span: tuple[int, int], transcript: str, g: Gene = g) -> str:
            text = f'gene_id "{g.name}";' + (
                f' transcript_id "{transcript}";' if transcript else ""
            )
            return f"{g.contig}\tx\t{kind}\t{span[0]}\t{span[1]}\t.\t{g.strand}\t.\t{text}"

        if gene_lines:
            lines.append(line("gene", g.span, ""))
        for t in g.transcripts:
            if transcript_lines:
                lines.append(line("transcript", t.span, t.name))
            lines += [line("exon", exon, t.name) for exon in t.exons]
            lines += [line("CDS", cds, t.name) for cds in t.cds]
    return lines
