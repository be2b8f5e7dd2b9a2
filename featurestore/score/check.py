"""The first pass over a VCF: counts, reasons, and whether it belongs to the genome at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from featurestore.inputs.findings import Findings
from featurestore.inputs.problems import Problems, examples, shown
from featurestore.inputs.tally import Tally
from featurestore.score.alleles import GENOME_AMBIGUOUS, REASONS, Site, examine
from featurestore.score.genome import Bases
from featurestore.score.records import Record, open_vcf

MOST_MISMATCHES: Final = 0.5
"""Share of SNVs whose REF may differ from the genome; another assembly gives about 0.75."""
_NEARLY_ALL: Final = 0.9

_SHIFTS: Final = (
    "REF fits the base to the right: POS seems to count from 0, where a VCF counts from 1",
    "REF fits the base to the left: POS is one too large",
    "REF fits the other strand: alleles stand on the reverse strand",
)


@dataclass(frozen=True)
class Rules:
    """What a kind of score takes of a VCF.

    Parameters
    ----------
    examine : callable
        As :func:`featurestore.score.alleles.examine`.
    reasons : mapping of the word for why an allele has no score to what it means
    noun : str
        What is held against the genome, in the plural.
    """

    examine: Callable[[str, int, str, Sequence[str], Bases], Site] = examine
    reasons: Mapping[str, str] = field(default_factory=lambda: REASONS)
    noun: str = "SNVs"


@dataclass
class Checked:
    """What the first pass saw.

    Parameters
    ----------
    records, alleles : int
    sites : int
        Records with an allele that can be scored.
    scored : int
        Alleles that can.
    tally : Tally
        Alleles without a score by reason, with examples; counts add up with ``scored`` to ``alleles``.
    remarks : Tally
        On alleles that are scored.
    advice : str
        On names of contigs that the genome lacks; empty if it has all.
    """

    records: int = 0
    alleles: int = 0
    sites: int = 0
    scored: int = 0
    tally: Tally = field(default_factory=Tally)
    remarks: Tally = field(default_factory=Tally)
    advice: str = ""


def site_of(record: Record, bases: Bases) -> Site:
    """A record held against the genome."""
    return examine(record.contig, record.position, record.ref, record.alts, bases)


def contigs_of(path: Path) -> dict[str, int]:
    """Contigs of the records of a VCF, each with the line where it first stands."""
    found: dict[bytes, tuple[str, int]] = {}
    with open_vcf(path) as vcf:
        for record in vcf.records:
            if record.columns[0] not in found:
                found[record.columns[0]] = (record.contig, record.number)
    return dict(found.values())


def check_vcf(path: Path, bases: Bases, rules: Rules | None = None) -> Checked:
    """Read a VCF through once, before any work starts; the rules are those of masked models.

    Raises
    ------
    DataSetError
        With every mistake: lines that are no records, no contig that the genome has, REF that the
        genome contradicts in more than half of the SNVs.
    """
    problems = Problems()
    check = _Check(path, bases, Findings(path, problems), rules or Rules())
    with open_vcf(path) as vcf:
        for record in vcf.records:
            check.record(record)
    check.findings.report()
    check.tell_contigs(problems)
    check.tell_assembly(problems)
    problems.raise_if_any()
    return check.seen


@dataclass
class _Check:
    path: Path
    bases: Bases
    findings: Findings
    rules: Rules
    seen: Checked = field(default_factory=Checked)
    unknown: dict[str, int] = field(default_factory=dict)
    known: int = 0
    compared: int = 0
    fits: np.ndarray[tuple[int, ...], np.dtype[np.int64]] = field(
        default_factory=lambda: np.zeros(4, np.int64)
    )
    contradictions: list[str] = field(default_factory=list)

    def record(self, record: Record) -> None:
        if not record.is_sound:
            mend = "a record has CHROM, POS, ID, REF, ALT, QUAL, FILTER, INFO, separated by tabs"
            start = b"\t".join(record.columns)[:30].decode("latin-1")
            self.findings.add("not a VCF record", mend, record.number, repr(start))
            return
        seen = self.seen
        site = self.rules.examine(
            record.contig, record.position, record.ref, record.alts, self.bases
        )
        seen.records += 1
        seen.alleles += len(site.alts)
        seen.sites += site.scored
        if site.contig in self.bases.lengths:
            self.known += 1
        else:
            self.unknown.setdefault(site.contig, record.number)
        self._reasons(record, site)
        if site.shifted is not None:
            self.compared += 1
            self.fits += site.shifted
            if not site.shifted[0] and len(self.contradictions) < 3:
                self.contradictions.append(self._contradiction(record, site))

    def _reasons(self, record: Record, site: Site) -> None:
        for alt, reason in zip(site.alts, site.reasons, strict=True):
            if reason or site.remark:
                told = f"{self.path.name}:{record.number} {shown(f'{site.contig}:{site.position + 1} {site.ref[:20]}>{alt[:20]}')}"
                if reason == "ref_mismatch":
                    told += f" (genome {self._genome(site)})"
                words = (
                    self.rules.reasons[reason]
                    if reason
                    else "REF fits an ambiguous base of the genome"
                )
                tally = self.seen.tally if reason else self.seen.remarks
                tally.add(f"{reason or GENOME_AMBIGUOUS}: {words}", told)
            self.seen.scored += not reason

    def _genome(self, site: Site) -> str:
        from featurestore.sequence.iupac import decode

        # Of a long REF the first bases show enough.
        end = site.position + min(len(site.ref), 20)
        return decode(self.bases.cut(site.contig, site.position, end))

    def _contradiction(self, record: Record, site: Site) -> str:
        where = f"{self.path.name}:{record.number} {shown(site.contig)}:{site.position + 1}"
        length = self.bases.lengths[site.contig]
        if not 0 <= site.position < length:
            return f"{where} on a contig of {length:,} bp"
        return f"{where} REF {shown(site.ref[:20])}, genome {self._genome(site)}"

    def tell_contigs(self, problems: Problems) -> None:
        if not self.unknown:
            return
        self.seen.advice = (
            f"contigs that the genome lacks: {examples(self.unknown)}; it has "
            f"{examples(self.bases.lengths)}.{renaming(self.unknown, self.bases.lengths)}"
        )
        if not self.known:
            what = f"no record lies on a contig of the genome: {self.seen.advice}"
            line = next(iter(self.unknown.values()))
            mend = "use the contig names of the genome; it must be the same assembly"
            problems.add(self.path, what, mend, f"line {line}")

    def tell_assembly(self, problems: Problems) -> None:
        wrong = self.compared - int(self.fits[0])
        if not wrong or wrong <= MOST_MISMATCHES * self.compared:
            return
        share = f"{wrong:,} of {self.compared:,} {self.rules.noun} have a REF that the genome contradicts"
        hints = [
            text
            for text, fits in zip(_SHIFTS, self.fits[1:].tolist(), strict=True)
            if self.compared >= 10 and fits >= _NEARLY_ALL * self.compared
        ]
        mend = hints[0] if hints else "take variants and genome from the same assembly"
        problems.add(
            self.path,
            f"{share}: VCF and genome probably differ (another assembly, or positions that do not "
            f"count from 1): {'; '.join(self.contradictions)}",
            mend,
        )


def renaming(theirs: Iterable[str], ours: Iterable[str]) -> str:
    """Advice where names of contigs differ only in case or a prefix; empty otherwise."""
    by_core = {_core(name): name for name in ours}
    pairs = [(name, by_core[_core(name)]) for name in theirs if _core(name) in by_core]
    if not pairs:
        return ""
    told = ", ".join(f"{shown(a)} = {shown(b)}" for a, b in pairs[:3])
    return (
        f" The names seem to differ in their prefix ({told}): write such pairs into a file and run "
        "`bcftools annotate --rename-chrs FILE`"
    )


def _core(name: str) -> str:
    """What is left of a contig's name without case, prefix and leading zeros."""
    return re.sub(r"^(chromosome|chrom|chr)?[_.-]?0*(?=.)", "", name.casefold())
