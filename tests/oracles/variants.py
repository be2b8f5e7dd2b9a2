"""Slow truth about variants: whole contigs as Python strings, edited base by base, then cut."""

from __future__ import annotations

from dataclasses import dataclass

from tests.oracles.windows import window

BASES = {
    "A": "A", "C": "C", "G": "G", "T": "T", "N": "ACGT", "R": "AG", "Y": "CT", "S": "CG", "W": "AT",
    "K": "GT", "M": "AC", "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG",
}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """A line of a VCF: 1-based position, alleles, and the call of each line as text."""

    contig: str
    position: int
    ref: str
    alts: tuple[str, ...]
    calls: tuple[str, ...]

    def row(self) -> str:
        """As it stands in the file."""
        return "\t".join(
            [self.contig, str(self.position), ".", self.ref, ",".join(self.alts), ".", "PASS", ".",
             "DP:GT:GQ", *(f"9:{call}:{i}" for i, call in enumerate(self.calls))]
        )  # fmt: skip


def header(lines: list[str]) -> str:
    """Header of a VCF."""
    fixed = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *lines]
    return "##fileformat=VCFv4.2\n" + "\t".join(fixed) + "\n"


def letter_of_both(one: str, other: str) -> str:
    """The letter that stands for every base that either letter stands for."""
    union = {*BASES[one], *BASES[other]}
    return next(letter for letter, bases in BASES.items() if set(bases) == union)


def alleles_of(record: Record, line: int, mode: str) -> tuple[str, str]:
    """What stands in place of REF on either copy of a line."""
    texts = (record.ref, *record.alts)
    call = record.calls[line].replace("|", "/").split("/")
    one, two = (texts[int(a)] if a != "." else record.ref for a in (call[0], call[-1]))
    if mode == "iupac" and one != two and len(one) == len(two) == len(record.ref):
        one = two = "".join(letter_of_both(a, b) for a, b in zip(one, two, strict=True))
    return one, two


def edited_contig(
    contig: str, records: list[Record], line: int, copy: int, mode: str, anchors: list[int]
) -> tuple[str, list[int]]:
    """The contig of one copy of a line, and where boundaries of the reference lie on it.

    ``records`` must not overlap. A base keeps its neighbour across a boundary: the boundary
    moves by what is put in or taken out before it.
    """
    letters: list[str] = list(contig)
    moved = list(anchors)
    for record in sorted(records, key=lambda r: r.position):
        put = alleles_of(record, line, mode)[copy]
        first, size = record.position - 1, len(record.ref)
        assert contig[first : first + size] == record.ref
        # Base by base: each place holds its own new letters, what is longer goes to the last.
        for i in range(size):
            letters[first + i] = put[i] if i < len(put) else ""
        letters[first + size - 1] += put[size:]
        for i, anchor in enumerate(anchors):
            moved[i] += sum(len(letters[p]) - 1 for p in range(first, first + size) if p < anchor)
    return "".join(letters), moved


def line_window(
    contig: str, records: list[Record], line: int, copy: int, mode: str, first: int, last: int,
    strand: int, anchor: str, up: int, down: int,
) -> str:  # fmt: skip
    """Window of a transcript (first and last base on the reference) on one copy of a line."""
    text, (low, high) = edited_contig(contig, records, line, copy, mode, [first, last + 1])
    return window(text, low, high - 1, strand, anchor, up, down)
