"""Slow truth about windows: plain Python strings, one base at a time, nothing of the code under test."""

from __future__ import annotations

PAIR = {
    "A": "T", "C": "G", "G": "C", "T": "A", "N": "N", "R": "Y", "Y": "R", "S": "S",
    "W": "W", "K": "M", "M": "K", "B": "V", "V": "B", "D": "H", "H": "D",
}  # fmt: skip


def reverse_complement(text: str) -> str:
    """Letter by letter, from the table that the IUPAC nomenclature prints."""
    return "".join(PAIR[x] for x in reversed(text))


def window(contig: str, first: int, last: int, strand: int, anchor: str, up: int, down: int) -> str:
    """The window of a transcript whose first and last bases on the forward strand are ``first`` … ``last``.

    Positions are those of bases (0-based, inclusive), not of boundaries: base ``k`` of the
    window (k = −up … down − 1, the base just after the anchor's boundary being 0) is looked up
    on its own.
    """
    letters = []
    for k in range(-up, down):
        if strand > 0:
            place = first + k if anchor == "tss" else last + 1 + k
        else:
            place = last - k if anchor == "tss" else first - 1 - k
        base = contig[place].upper() if 0 <= place < len(contig) else "N"
        letters.append(base if strand > 0 else PAIR[base])
    return "".join(letters)
