"""Which alleles a model of tracks can score, and what each changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurestore.score.alleles import (
    GENOME_AMBIGUOUS,
    REASONS,
    Site,
    special_allele,
)
from featurestore.score.check import Rules
from featurestore.score.genome import Bases
from featurestore.sequence import iupac
from featurestore.sequence.edits import Edit

_SHARED: Final = (
    "contig_unknown", "off_contig", "ref_mismatch", "ref_ambiguous", "alt_ambiguous",
    "same_as_ref", "symbolic", "spanning_deletion", "breakend", "no_alt", "not_bases",
)  # fmt: skip

TRACK_REASONS: Final[Mapping[str, str]] = {
    **{name: REASONS[name] for name in _SHARED},
    "too_long": "REF or ALT is longer than half the model's window",
    "no_gene": "no TSS of a gene in its window, or of none that was asked for",
    "spans_tss": "deletes bases on both sides of the TSS",
}
"""Why a row has no score: the word that stands in files, and what it means."""


def rules_of(window: int) -> Rules:
    """Rules for :func:`featurestore.score.check.check_vcf`: substitutions, insertions, deletions.

    Parameters
    ----------
    window : int
        Bases of the model's window.
    """
    return Rules(partial(examine, window), TRACK_REASONS, "variants")


def examine(
    window: int, contig: str, position: int, ref: str, alts: Sequence[str], bases: Bases
) -> Site:
    """What of a record can be scored, its whole REF held against the genome.

    Parameters
    ----------
    position : int
        0-based, of the first base of REF.
    """
    reasons = [_reason(ref, alt, window // 2) for alt in alts]
    sound = any(not r or r == "too_long" for r in reasons)
    length = bases.lengths.get(contig)
    if length is None:
        return Site(contig, position, ref, tuple(alts), ("contig_unknown",) * len(alts), sound)
    if position < 0 or position + len(ref) > length:
        shifted = (False,) * 4 if sound else None
        return Site(
            contig, position, ref, tuple(alts), ("off_contig",) * len(alts), sound, "", shifted
        )
    if not sound:
        return Site(contig, position, ref, tuple(alts), tuple(reasons), False)
    shifted, ambiguous = _compared(bases.cut(contig, position - 1, position + len(ref) + 1), ref)
    if not shifted[0]:
        reasons = [r or "ref_mismatch" for r in reasons]
    remark = GENOME_AMBIGUOUS if ambiguous and shifted[0] else ""
    return Site(contig, position, ref, tuple(alts), tuple(reasons), True, remark, shifted)


def _reason(ref: str, alt: str, longest: int) -> str:
    if special := special_allele(alt):
        return special
    one, other = iupac.encode(ref), iupac.encode(alt)
    if not len(one) or (one == iupac.UNKNOWN).any() or (other == iupac.UNKNOWN).any():
        return "not_bases"
    if len(one) == len(other) and bool((one == other).all()):
        return "same_as_ref"
    if (one >= iupac.N).any():
        return "ref_ambiguous"
    if (other >= iupac.N).any():
        return "alt_ambiguous"
    return "too_long" if max(len(one), len(other)) > longest else ""


def _compared(around: NDArray[np.uint8], ref: str) -> tuple[tuple[bool, bool, bool, bool], bool]:
    """Whether REF fits there, one base to the right, to the left, its complement there; ambiguity."""
    code, size = iupac.encode(ref), len(ref)
    here = around[1 : 1 + size]

    def fits(genome: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> bool:
        return bool((iupac.ONE_HOT[genome, wanted] > 0).all())

    found = (
        fits(here, code),
        fits(around[2:], code),
        fits(around[:size], code),
        fits(here, 3 - code),
    )
    return found, bool((here >= iupac.N).any())


def edit_of(contig: str, position: int, ref: str, alt: str) -> Edit:
    """What an allele changes, without the bases that REF and ALT share at either end.

    Those at the start go first, so that an insertion or a deletion in a repeat stands where the
    VCF has it.
    """
    one, other = ref.upper(), alt.upper()
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    end = 0
    while end < min(len(one), len(other)) - start and one[-1 - end] == other[-1 - end]:
        end += 1
    put = iupac.encode(other[start : len(other) - end]).tobytes()
    name = f"{contig}:{position + 1}:{ref}>{alt}"
    return Edit(position + start, position + len(ref) - end, put, name)
