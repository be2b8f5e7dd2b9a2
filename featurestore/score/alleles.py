"""Which alternative alleles can be scored, and why others cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from featurestore.score.genome import Bases
from featurestore.sequence import iupac

REASONS: Final = {
    "contig_unknown": "on a contig that the genome lacks",
    "off_contig": "beyond the ends of its contig",
    "ref_mismatch": "REF is not what the genome has",
    "ref_ambiguous": "REF is not one of A, C, G, T",
    "alt_ambiguous": "ALT is not one of A, C, G, T",
    "same_as_ref": "ALT is REF",
    "padded_snv": "one base changed but written with its neighbours (`bcftools norm -m -any -f GENOME.fa` writes it as a SNV)",
    "mnv": "several bases replaced by as many",
    "indel": "insertion or deletion",
    "symbolic": "symbolic allele, such as <DEL>",
    "spanning_deletion": "allele *, deleted by another record",
    "breakend": "breakend",
    "no_alt": "no alternative allele (ALT is .)",
    "not_bases": "REF or ALT has letters that are no bases",
}
"""Why an allele has no score: the word that stands in files, and what it means."""

GENOME_AMBIGUOUS: Final = "genome_ambiguous"
"""Remark on a scored allele: the genome has an IUPAC code there that REF fits."""

_SNV: Final = frozenset({"", "ref_ambiguous", "alt_ambiguous"})


@dataclass(frozen=True)
class Site:
    """One record as far as scores go.

    Parameters
    ----------
    contig : str
    position : int
        0-based, of the first base of REF.
    ref : str
    alts : tuple of str
    reasons : tuple of str, one for each ALT
        Key of :data:`REASONS`; empty where the allele is scored.
    is_snv : bool
        Whether any ALT is written as a substitution of one base.
    remark : str
        Empty, or :data:`GENOME_AMBIGUOUS`.
    shifted : tuple of bool, or None
        For a SNV held against the genome: whether REF fits there, one base to the right, one to
        the left, and the complement there. None where nothing was compared.
    """

    contig: str
    position: int
    ref: str
    alts: tuple[str, ...]
    reasons: tuple[str, ...]
    is_snv: bool
    remark: str = ""
    shifted: tuple[bool, bool, bool, bool] | None = None

    @property
    def scored(self) -> bool:
        """Whether any ALT is scored."""
        return "" in self.reasons


def base_code(letter: str) -> int:
    """Column of a base among A, C, G, T; 4 and more for every other letter."""
    return int(iupac.ENCODE[ord(letter)]) if len(letter) == 1 and letter.isascii() else 255


def allele_reason(ref: str, alt: str) -> str:
    """Why a pair of alleles is no SNV of A, C, G, T; empty if it is one."""
    special = special_allele(alt)
    if special:
        return special
    one, other = iupac.encode(ref), iupac.encode(alt)
    if not len(one) or (one == iupac.UNKNOWN).any() or (other == iupac.UNKNOWN).any():
        return "not_bases"
    if len(one) != len(other):
        return "indel"
    differing = int((one != other).sum())
    if not differing:
        return "same_as_ref"
    if len(one) > 1:
        return "padded_snv" if differing == 1 else "mnv"
    if one[0] >= iupac.N:
        return "ref_ambiguous"
    return "alt_ambiguous" if other[0] >= iupac.N else ""


def special_allele(alt: str) -> str:
    """Why an ALT is no sequence of bases; empty if it may be one."""
    if alt in {"", "."}:
        return "no_alt"
    if alt == "*":
        return "spanning_deletion"
    if alt.startswith("<"):
        return "symbolic"
    return "breakend" if any(mark in alt for mark in "[].") else ""


def examine(contig: str, position: int, ref: str, alts: Sequence[str], bases: Bases) -> Site:
    """What of a record can be scored, held against the genome.

    Parameters
    ----------
    position : int
        0-based, of the first base of REF.
    """
    reasons = ["" if (ref, alt) in _PLAIN else allele_reason(ref, alt) for alt in alts]
    is_snv = any(r in _SNV for r in reasons)
    length = bases.lengths.get(contig)
    if length is None:
        return Site(contig, position, ref, tuple(alts), ("contig_unknown",) * len(alts), is_snv)
    if not 0 <= position < length:
        return Site(
            contig, position, ref, tuple(alts), ("off_contig",) * len(alts), is_snv, "",
            (False,) * 4 if is_snv else None,
        )  # fmt: skip
    if "" not in reasons:
        return Site(contig, position, ref, tuple(alts), tuple(reasons), is_snv)
    shifted, ambiguous = _compared(bases.cut(contig, position - 1, position + 2), base_code(ref))
    if not shifted[0]:
        reasons = [r or "ref_mismatch" for r in reasons]
    remark = GENOME_AMBIGUOUS if ambiguous and shifted[0] else ""
    return Site(contig, position, ref, tuple(alts), tuple(reasons), True, remark, shifted)


def _compared(
    around: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], ref: int
) -> tuple[tuple[bool, bool, bool, bool], bool]:
    """Whether REF fits the middle of three bases, the right one, the left one, the middle's complement."""
    left, here, right = around.tolist()
    fits = _FITS[ref]
    return (fits[here], fits[right], fits[left], _FITS[3 - ref][here]), here >= iupac.N


_FITS: Final = [[bool(share) for share in column] for column in iupac.ONE_HOT.T.tolist()]
"""Whether a base (row, A C G T) is one of those that a code stands for (column)."""

_PLAIN: Final = frozenset((a, b) for a in "ACGT" for b in "ACGT" if a != b)
"""The pairs that nearly every record holds, known without looking closer."""
