"""The lines of a GFF3 or GTF file as raw features; nothing is chosen here.

GFF3 as of Sequence Ontology specification 1.26, GTF as of GTF2.2 and its Ensembl and NCBI
dialects. Features may stand in any order, so nothing is resolved before the last line.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote

from featurestore.inputs.files import read_text
from featurestore.inputs.findings import Findings
from featurestore.inputs.problems import Problems

Style = Literal["gff3", "gtf"]

GENE_TYPES: Final = frozenset({"gene", "protein_coding_gene"})
_CODING_OR_EXON: Final = frozenset({"CDS", "exon"})
_PARENT: Final = re.compile(r"(?:^|;)\s*Parent\s*=\s*([^;]*)")
_GFF3_ATTRIBUTE: Final = re.compile(r"^\s*[A-Za-z_][\w.-]*\s*=")
_GTF_COMMENT: Final = re.compile(r";\s*#.*$")
# The look-behind and the possessive + keep a huge word without a value to one pass.
_GTF_PAIR: Final = re.compile(r'(?<![\w.-])([\w.-]++)\s+(?:"([^"]*)"|([^;\s]+))')
_BARE: Final = re.compile(r"\s*+([^\s;=\"]++)\s*+;?\s*+")
_GTF_GENE: Final = re.compile(r'(?:^|;|\s)gene_id\s+"?([^";]+)"?')
_GTF_TRANSCRIPT: Final = re.compile(r'(?:^|;|\s)transcript_id\s+"?([^";]+)"?')


@dataclass
class RawFeature:
    """A gene or transcript line; coordinates 0-based, half-open."""

    contig: str
    start: int
    end: int
    strand: str
    line: int
    kind: str
    attributes: dict[str, str]
    parent: str = ""
    from_parts: bool = False


@dataclass
class RawAnnotation:
    """All features of a file by id, as written.

    Parameters
    ----------
    genes : mapping of id to gene line
    other_genes : mapping of id to type, for ``pseudogene``, ``ncRNA_gene`` and the like
    transcripts : mapping of id to transcript line (its ``parent`` is the gene's id)
    cds_length, exon_length : mapping of parent id to bp
    cds : mapping of parent id to (start, end, phase), only where asked for
    circular : contigs that are circles
    trans_spliced : ids of genes given at several places on purpose
    kinds : how often each feature type occurs
    """

    style: Style
    genes: dict[str, RawFeature] = field(default_factory=dict)
    other_genes: dict[str, str] = field(default_factory=dict)
    transcripts: dict[str, RawFeature] = field(default_factory=dict)
    cds_length: dict[str, int] = field(default_factory=dict)
    exon_length: dict[str, int] = field(default_factory=dict)
    cds: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)
    circular: set[str] = field(default_factory=set)
    trans_spliced: set[str] = field(default_factory=set)
    kinds: Counter[str] = field(default_factory=Counter)


def read_lines(path: Path, problems: Problems, *, with_cds: bool) -> RawAnnotation | None:
    """Read a GFF3 or GTF file, told apart by its ninth column.

    Returns
    -------
    RawAnnotation, or None where nothing could be read; ``problems`` then says why.
    """
    text = read_text(path, problems)
    if text is None:
        return None
    lines = text.split("\n")
    style = _style(lines)
    if style is None:
        mend = "give GFF3 (ID=…;Parent=…) or GTF (gene_id …; transcript_id …) in nine tab columns"
        problems.add(path, "no feature of a GFF3 or GTF file in it", mend)
        return None
    reader = _LineReader(RawAnnotation(style), Findings(path, problems), with_cds)
    reader.read(lines)
    reader.findings.report()
    return reader.raw


def is_transcript(kind: str) -> bool:
    """Whether a feature type is a transcript: mRNA, transcript, and every other RNA."""
    return kind.endswith(("RNA", "transcript", "gene_segment", "Transcript"))


def _style(lines: list[str]) -> Style | None:
    for line in lines:
        if not line or line[0] == "#":
            continue
        columns = line.split("\t")
        if len(columns) >= 9:
            if _GFF3_ATTRIBUTE.match(columns[8]):
                return "gff3"
            if "gene_id" in columns[8] or "transcript_id" in columns[8]:
                return "gtf"
    return None


def _without_comment(text: str) -> str:
    """Attributes without what follows a # after a blank or semicolon, if it holds no attribute."""
    if "#" not in text:
        return text
    after = max(text.rfind(";"), text.rfind("="))
    at = text.find("#", after + 1)
    while at > 0 and not (text[at - 1].isspace() or text[at - 1] == ";"):
        at = text.find("#", at + 1)
    return text[:at].rstrip(" \t;") if at > 0 else text


def _parents(text: str) -> list[str]:
    """Ids in Parent; a comma within an id is percent-encoded, one between ids is not."""
    found = _PARENT.search(text)
    if found is None:
        return []
    parents = _without_comment(found[1])
    return [unquote(p).strip() if "%" in p else p.strip() for p in parents.split(",")]


def _gff3_attributes(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in _without_comment(text).split(";"))
    values = {key.strip(): value.strip() for key, _, value in pairs if key.strip()}
    if "%" in text:
        values = {key: unquote(value) for key, value in values.items()}
    return values


def _is_trans_spliced(attributes: dict[str, str]) -> bool:
    return "part" in attributes or "trans-splicing" in attributes.get("exception", "")


def _gtf_attributes(text: str) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for key, quoted, bare in _GTF_PAIR.findall(_GTF_COMMENT.sub(";", text)):
        # `tag` may be given several times.
        values.setdefault(key, []).append(quoted or bare)
    return {key: ",".join(given) for key, given in values.items()}


@dataclass
class _LineReader:
    raw: RawAnnotation
    findings: Findings
    with_cds: bool

    def read(self, lines: list[str]) -> None:
        take = self._take_gff3 if self.raw.style == "gff3" else self._take_gtf
        kinds = self.raw.kinds
        for number, line in enumerate(lines, 1):
            if not line or line[0] == "#":
                if line.startswith("##FASTA"):
                    break
                continue
            if line[0] == ">":
                break
            columns = line.split("\t")
            if len(columns) != 9 and not self._nine(columns, number, line):
                continue
            place = self._place(columns, number)
            if place is not None:
                kinds[columns[2]] += 1
                take(columns, place[0], place[1], number)

    def _nine(self, columns: list[str], number: int, line: str) -> bool:
        if len(columns) > 9 and columns[9].lstrip().startswith("#"):
            return True
        if line.strip():
            what = f"{len(columns)} column{'s' if len(columns) > 1 else ''} ({line[:40]!r})"
            mend = "a feature has nine columns, separated by tabs"
            self.findings.add("wrong column count", mend, number, what)
        return False

    def _place(self, columns: list[str], number: int) -> tuple[int, int] | None:
        try:
            if "_" in columns[3] or "_" in columns[4]:  # int() reads 1_000
                raise ValueError
            start, end = int(columns[3]), int(columns[4])
        except ValueError:
            shown = f"{columns[2]} {columns[3]!r} … {columns[4]!r}"
            mend = "start and end must be whole numbers"
            self.findings.add("a position that is no whole number", mend, number, shown)
            return None
        if start > end:
            shown = f"{columns[2]} {start} > {end}"
            mend = "write the smaller one first, on both strands"
            self.findings.add("start > end", mend, number, shown)
            return None
        if start < 1:
            mend = "positions are 1-based; take out or correct the line"
            self.findings.add("a start below 1", mend, number, f"{columns[2]} {start}")
            return None
        return start - 1, end

    def _take_gff3(self, columns: list[str], start: int, end: int, number: int) -> None:
        kind, text = columns[2], columns[8]
        if kind in _CODING_OR_EXON:
            for parent in _parents(text):
                self._part(parent, kind, start, end, columns[7])
        elif kind in GENE_TYPES:
            self._gene(columns, start, end, number, _gff3_attributes(text))
        elif is_transcript(kind):
            attributes = _gff3_attributes(text)
            feature = RawFeature(columns[0], start, end, columns[6], number, kind, attributes)
            name = attributes.get("ID") or attributes.get("Name") or f"line {number}"
            # A transcript of several genes does not exist; `Parent=a,b` then names the first.
            feature.parent = next(iter(_parents(text)), "")
            known = self.raw.transcripts.setdefault(name, feature)
            if known is not feature:
                self._again(name, known, feature)
        elif kind.endswith("gene"):
            attributes = _gff3_attributes(text)
            name = attributes.get("ID") or attributes.get("Name") or f"line {number}"
            self.raw.other_genes[name] = kind
        elif "Is_circular=true" in text:  # a region of NCBI, a chromosome of Ensembl
            self.raw.circular.add(columns[0])

    def _again(self, name: str, known: RawFeature, feature: RawFeature) -> None:
        """A transcript id that comes a second time: the same line, trans-splicing, or a mistake."""
        same = ("contig", "start", "end", "strand", "parent")
        if all(getattr(known, what) == getattr(feature, what) for what in same):
            return
        if not _is_trans_spliced(feature.attributes):
            mend = "give every transcript its own id"
            what = f"{name} (also line {known.line})"
            self.findings.add("a transcript id given twice", mend, feature.line, what)

    def _take_gtf(self, columns: list[str], start: int, end: int, number: int) -> None:
        kind, text = columns[2], columns[8]
        if kind in GENE_TYPES:
            attributes = _gtf_attributes(text)
            # AUGUSTUS and BRAKER write the bare id as the ninth column of a gene.
            bare = _BARE.fullmatch(text)
            attributes["ID"] = attributes.get("gene_id", bare[1] if bare else "")
            self._gene(columns, start, end, number, attributes)
            return
        whole = is_transcript(kind)
        if not whole and kind not in _CODING_OR_EXON:
            return
        gene, transcript = _GTF_GENE.search(text), _GTF_TRANSCRIPT.search(text)
        if gene is None or transcript is None or not transcript[1].strip():
            if not whole or not _BARE.fullmatch(text):
                mend = 'write gene_id "…"; transcript_id "…"; on every transcript, exon and CDS'
                what = f"{kind} {text[:40]!r}"
                self.findings.add("no gene_id or transcript_id", mend, number, what)
            return
        name, parent = transcript[1].strip(), gene[1].strip()
        known = self.raw.transcripts.get(name)
        if known is None or (whole and known.from_parts):
            known = RawFeature(columns[0], start, end, columns[6], number, kind, {}, parent)
            known.attributes = _gtf_attributes(text)
            known.from_parts = not whole
            self.raw.transcripts[name] = known
        elif known.from_parts:
            if (known.contig, known.strand) == (columns[0], columns[6]):
                known.start, known.end = min(known.start, start), max(known.end, end)
            else:
                what = f"{name} (also line {known.line})"
                mend = "give each place its own transcript_id"
                self.findings.add("a transcript at two places", mend, number, what)
        if not whole:
            self._part(name, kind, start, end, columns[7])

    def _part(self, parent: str, kind: str, start: int, end: int, phase: str) -> None:
        if kind == "exon":
            lengths = self.raw.exon_length
        else:
            lengths = self.raw.cds_length
            if self.with_cds:
                frame = int(phase) if phase in ("0", "1", "2") else 0
                self.raw.cds.setdefault(parent, []).append((start, end, frame))
        lengths[parent] = lengths.get(parent, 0) + end - start

    def _gene(
        self, columns: list[str], start: int, end: int, number: int, attributes: dict[str, str]
    ) -> None:
        name = attributes.get("ID") or attributes.get("Name") or attributes.get("locus_tag", "")
        if not name:
            mend = "write ID=… (GFF3) or gene_id … (GTF) on every gene"
            self.findings.add("a gene without ID", mend, number, f"{columns[8][:40]!r}")
            return
        if not name.isprintable():
            mend = "take control characters and unusual blanks out of the id"
            self.findings.add("a gene id that cannot be printed", mend, number, name)
            return
        if _is_trans_spliced(attributes):
            self.raw.trans_spliced.add(name)
        known = self.raw.genes.get(name)
        if known is None:
            self.raw.genes[name] = RawFeature(
                columns[0], start, end, columns[6], number, columns[2], attributes
            )
        elif name not in self.raw.trans_spliced:
            mend = "give every gene its own id"
            what = f"{name} (also line {known.line})"
            self.findings.add("a gene id given twice", mend, number, what)
