"""Gene models of a GFF3 or GTF file: which genes, and the representative transcript of each.

Genes are the ``gene`` features whose biotype is protein-coding or not given; every other one
is listed as skipped, with its reason. A gene stands for its representative transcript: the one
the annotation marks as canonical, else the one with the longest CDS, then the longest
transcript (sum of exons), then the first id. A gene without transcripts stands for itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from featurestore.errors import did_you_mean
from featurestore.inputs.annotation_lines import RawAnnotation, RawFeature, read_lines
from featurestore.inputs.findings import Findings
from featurestore.inputs.ids import clean, strip_ncbi
from featurestore.inputs.model import SkippedGene
from featurestore.inputs.problems import Problems, examples, few, printable, shown

_CODING: Final = frozenset({"protein_coding", "protein-coding", "protein_coding_gene", "mRNA"})
# TAIR10 gives the biotype in Note, where other sources have free text.
_TAIR_NOTES: Final = _CODING | {
    "pseudogene", "transposable_element_gene", "miRNA", "tRNA", "rRNA", "snRNA", "snoRNA",
    "ncRNA", "other_RNA",
}  # fmt: skip
_ALIASES: Final[tuple[str, ...]] = ("Name", "gene_name", "locus_tag", "gene")
_CANONICAL_TAGS: Final = frozenset(
    {"Ensembl_canonical", "MANE Select", "MANE_Select", "RefSeq Select"}
)
# Names that a missing contig is compared with: an assembly may have a million.
_MOST_COMPARED: Final = 2000
_CANONICAL_KEYS: Final = ("canonical", "canonical_transcript", "is_canonical", "longest")


@dataclass(frozen=True)
class GeneModel:
    """One gene by its representative transcript.

    Parameters
    ----------
    gene, contig : str
    start, end : int
        Of the representative transcript, 0-based, half-open, on the forward strand.
    strand : int
        +1 or −1.
    transcript : str
        Empty where the gene has none and stands for itself.
    alias : mapping of attribute (``Name``, ``locus_tag`` …) to what else the gene is called
    cds : list of (start, end, phase)
        Of the representative transcript, in transcript order; only where asked for.
    """

    gene: str
    contig: str
    start: int
    end: int
    strand: int
    transcript: str
    line: int
    alias: dict[str, str]
    cds: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def tss(self) -> int:
        """Boundary just before the first transcribed base."""
        return self.start if self.strand > 0 else self.end

    @property
    def tts(self) -> int:
        """Boundary just after the last transcribed base."""
        return self.end if self.strand > 0 else self.start


@dataclass(frozen=True)
class Annotation:
    """The genes of a species in order of contig, start, id; and what became of the others."""

    genes: list[GeneModel]
    skipped: list[SkippedGene]
    notes: list[str]


def read_annotation(
    path: Path,
    problems: Problems,
    contigs: Mapping[str, int] | None = None,
    *,
    with_cds: bool = False,
) -> Annotation | None:
    """Read gene models.

    Parameters
    ----------
    path : Path
        GFF3 or GTF, plain, gzip or bgzip.
    problems : Problems
    contigs : mapping of contig id to length in bp, in the order of the FASTA, optional
        Genes on other contigs, or beyond the end of theirs, are problems. Without it genes
        stand in the order of the file's contigs.
    with_cds : bool
        Keep the coding segments of each representative transcript.

    Returns
    -------
    Annotation, or None where the file holds no gene; ``problems`` then says why.
    """
    raw = read_lines(path, problems, with_cds=with_cds)
    if raw is None:
        return None
    if not raw.genes and not raw.transcripts:
        seen = ", ".join(f"{n:,} {kind}" for kind, n in raw.kinds.most_common(6)) or "none"
        mend = "give an annotation with features of type gene and mRNA or transcript"
        problems.add(path, f"no gene in it; feature types: {seen}", mend)
        return None
    builder = _Builder(raw, Findings(path, problems))
    genes = builder.build()
    if contigs is not None:
        genes = _on_contigs(genes, contigs, raw, builder, problems)
    builder.findings.report()
    order = {name: i for i, name in enumerate(contigs or dict.fromkeys(g.contig for g in genes))}
    genes.sort(key=lambda g: (order.get(g.contig, -1), g.start, g.gene))
    return Annotation(genes, builder.skipped, builder.notes)


@dataclass
class _Builder:
    raw: RawAnnotation
    findings: Findings
    skipped: list[SkippedGene] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def build(self) -> list[GeneModel]:
        transcripts = self._transcripts_by_gene()
        for name, kind in self.raw.other_genes.items():
            self._skip(_gene_id(name, {}), f"is a {kind}")
        genes: list[GeneModel] = []
        lines: dict[str, int] = {}
        alone: list[str] = []
        for name, gene in self.raw.genes.items():
            model = self._model(name, gene, transcripts.get(name, []))
            if model is None:
                continue
            first = lines.setdefault(model.gene, gene.line)
            if first != gene.line:
                what = f"{model.gene} (also line {first})"
                mend = "give every gene its own id"
                self.findings.add("a gene id given twice", mend, gene.line, what)
                continue
            if not model.transcript:
                alone.append(model.gene)
            genes.append(model)
        if alone:
            self.notes.append(
                f"{len(alone):,} genes have no transcript and stand for themselves, "
                f"for example {few(alone)}."
            )
        return genes

    def _skip(self, gene: str, reason: str) -> None:
        self.skipped.append(SkippedGene(printable(gene), "annotated", printable(reason)))

    def _transcripts_by_gene(self) -> dict[str, list[str]]:
        """Ids of the transcripts of each gene; genes that have no line of their own are made."""
        raw = self.raw
        found: dict[str, list[str]] = {}
        derived: list[str] = []
        for name, transcript in raw.transcripts.items():
            parent = transcript.parent
            if parent in raw.transcripts or parent in raw.other_genes:
                continue  # a miRNA within its precursor; a transcript of a pseudogene
            if not parent:
                self._skip(clean(name), f"is a {transcript.kind} without a gene")
                continue
            if parent not in raw.genes:
                if not parent.isprintable():
                    mend = "take control characters and unusual blanks out of the id"
                    what = "a gene id that cannot be printed"
                    self.findings.add(what, mend, transcript.line, parent)
                    continue
                raw.genes[parent] = RawFeature(
                    transcript.contig, transcript.start, transcript.end, transcript.strand,
                    transcript.line, "gene", dict(transcript.attributes), from_parts=True,
                )  # fmt: skip
                derived.append(clean(parent))
            found.setdefault(parent, []).append(name)
        if derived:
            self.notes.append(
                f"{len(derived):,} genes have no line of their own and are made from their "
                f"transcripts, for example {few(derived)}."
            )
        return found

    def _model(self, name: str, gene: RawFeature, transcripts: list[str]) -> GeneModel | None:
        attributes = gene.attributes
        gene_id = _gene_id(name, {} if gene.from_parts else attributes)
        if name in self.raw.trans_spliced:
            self._skip(gene_id, "is trans-spliced from several places")
            return None
        if (biotype := _biotype(attributes)) and biotype not in _CODING:
            self._skip(gene_id, f"has the biotype {biotype}")
            return None
        chosen = self._representative(transcripts, attributes) if transcripts else ""
        span = self.raw.transcripts[chosen] if chosen else gene
        if self._places(gene, transcripts) > 1:
            self._skip(gene_id, "has parts on several contigs or on both strands")
            return None
        strand = {"+": 1, "-": -1}.get(span.strand, 0)
        if span.strand == ".":  # both formats allow it; StringTie writes it
            self._skip(gene_id, "has no strand")
            return None
        if strand == 0:
            mend = "write + or - in column 7"
            what = f"{gene_id} has strand {span.strand!r}"
            self.findings.add("a strand that is neither + nor -", mend, span.line, what)
            return None
        cds = sorted(self.raw.cds.get(chosen or name, []), reverse=strand < 0)
        alias: dict[str, str] = {k: attributes[k] for k in _ALIASES if k in attributes}
        for reference in attributes.get("Dbxref", attributes.get("db_xref", "")).split(","):
            if reference.startswith("GeneID:"):
                alias["GeneID"] = reference.removeprefix("GeneID:")
        return GeneModel(
            gene_id, span.contig, span.start, span.end, strand, clean(chosen), span.line, alias, cds
        )

    def _places(self, gene: RawFeature, transcripts: list[str]) -> int:
        """On how many contigs and strands a gene and its transcripts lie."""
        features = [gene, *(self.raw.transcripts[name] for name in transcripts)]
        strands = {f.strand for f in features} & {"+", "-"}
        return max(len(strands), len({f.contig for f in features}))

    def _representative(self, transcripts: list[str], gene: dict[str, str]) -> str:
        raw = self.raw

        def rank(name: str) -> tuple[bool, int, int, str]:
            transcript = raw.transcripts[name]
            marked = _is_canonical(transcript.attributes) or name == gene.get(
                "canonical_transcript"
            )
            length = raw.exon_length.get(name, transcript.end - transcript.start)
            return (not marked, -raw.cds_length.get(name, 0), -length, name)

        return min(transcripts, key=rank)


def _gene_id(name: str, attributes: Mapping[str, str]) -> str:
    # `gbkey` is NCBI's own attribute: only there does `gene-` belong to the format, not to the id.
    return strip_ncbi(name) if "gbkey" in attributes else clean(name)


def _biotype(attributes: Mapping[str, str]) -> str:
    for key in ("biotype", "gene_biotype", "gene_type", "locus_type"):
        if attributes.get(key):
            return attributes[key]
    note = attributes.get("Note", "")
    return note if note in _TAIR_NOTES else ""


def _is_canonical(attributes: Mapping[str, str]) -> bool:
    tags = {tag.strip() for tag in attributes.get("tag", "").split(",")}
    return bool(tags & _CANONICAL_TAGS) or any(
        attributes.get(key, "").lower() in ("1", "true", "yes") for key in _CANONICAL_KEYS
    )


def _bare_contig(name: str) -> str:
    return re.sub(r"^(?:chromosome|chrom|chr)[_. -]?0*(?=.)|^0+(?=.)", "", name.casefold())


def _contig_hint(lacking: str, known: list[str]) -> str:
    """Which contig of the genome was meant: Chr1 for 1 and the like, else a similar name."""
    bare = _bare_contig(lacking)
    meant = [name for name in known if _bare_contig(name) == bare]
    if meant:
        return f" Did you mean {meant[0]!r} by {shown(lacking)!r}?"
    return did_you_mean(shown(lacking), known[:_MOST_COMPARED])


def _on_contigs(
    genes: list[GeneModel],
    contigs: Mapping[str, int],
    raw: RawAnnotation,
    builder: _Builder,
    problems: Problems,
) -> list[GeneModel]:
    """The genes that lie wholly on a contig of the genome; the others are problems."""
    kept: list[GeneModel] = []
    lacking: Counter[str] = Counter()
    first_line: dict[str, int] = {}
    for gene in genes:
        length = contigs.get(gene.contig)
        if length is None:
            lacking[gene.contig] += 1
            first_line.setdefault(gene.contig, gene.line)
        elif gene.end <= length:
            kept.append(gene)
        elif gene.contig in raw.circular:
            builder.skipped.append(
                SkippedGene(gene.gene, "annotated", "crosses the origin of a circular contig")
            )
        else:
            what = f"{gene.gene} ends at {gene.end:,} on {gene.contig} of {length:,} bp"
            mend = "take annotation and genome from the same assembly"
            builder.findings.add("a gene beyond the end of its contig", mend, gene.line, what)
    if lacking:
        known = list(contigs)
        worst = next(iter(lacking))
        problems.add(
            builder.findings.file,
            f"{lacking.total():,} of {len(genes):,} genes lie on {len(lacking):,} "
            f"contig{'s' if len(lacking) > 1 else ''} that the FASTA lacks: {examples(lacking)};"
            f" it has {examples(known)}.{_contig_hint(worst, known)}",
            "use the same contig names in both (the first word of the FASTA header is the name), "
            "or take the lines of other contigs out",
            f"line {first_line[worst]}",
        )
    return kept
