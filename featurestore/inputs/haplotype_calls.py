"""What one call puts on either copy of a contig, and which calls of a line exclude each other."""

from __future__ import annotations

from bisect import bisect_right, insort
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.inputs.model import Genome, Heterozygous
from featurestore.inputs.tally import Tally
from featurestore.inputs.variant_calls import VariantCalls, trimmed
from featurestore.sequence import iupac
from featurestore.sequence.edits import Edit

_OVERLAP: Final = "overlaps an earlier variant of the same line, left out in that line"


class Call(NamedTuple):
    """Alleles of one line at one record: 0 the reference, 1 … the alternatives."""

    record: int
    first: int
    second: int
    phased: bool

    @property
    def heterozygous(self) -> bool:
        """Whether the copies differ."""
        return self.first != self.second


def _union_letters() -> dict[frozenset[str], str]:
    rows = iupac.ONE_HOT > 0
    return {
        frozenset(b for b, has in zip("ACGT", row, strict=True) if has): letter
        for letter, row in zip(iupac.LETTERS, rows.tolist(), strict=True)
    }


_LETTER_OF: Final = _union_letters()
_BASES_OF: Final = {letter: bases for bases, letter in _LETTER_OF.items()} | {"U": frozenset("T")}


def both_letters(one: str, other: str) -> str:
    """IUPAC codes of two alleles of equal length, base by base."""
    return "".join(_LETTER_OF[_BASES_OF[a] | _BASES_OF[b]] for a, b in zip(one, other, strict=True))


class CallEdits:
    """Edits of calls, by the rule for heterozygous ones.

    ``iupac``: a heterozygous call whose alleles all have the length of REF stands on both copies
    as the IUPAC codes of its two alleles. Any other heterozygous call puts each allele on its own
    copy: the first of ``a|b`` or ``a/b`` on copy 1, the second on copy 2.
    """

    def __init__(self, calls: VariantCalls, contigs: list[str], heterozygous: Heterozygous) -> None:
        self.calls, self.contigs, self.iupac = calls, contigs, heterozygous == "iupac"
        self.of = lru_cache(maxsize=65_536)(self._of)

    def name(self, record: int) -> str:
        """``contig:pos:REF>ALT`` of a record."""
        return self._name(record, ",".join(self.calls.alt[record]))

    def _name(self, record: int, alt: str) -> str:
        contig = self.contigs[int(self.calls.contig[record])]
        return f"{contig}:{int(self.calls.position[record]) + 1}:{self.calls.ref[record]}>{alt}"

    def _edit(self, record: int, alt: str) -> Edit | None:
        low, high, put = trimmed(int(self.calls.position[record]), self.calls.ref[record], alt)
        if low == high and not put:
            return None  # ALT repeats REF
        return Edit(low, high, iupac.encode(put).tobytes(), self._name(record, alt))

    def _allele(self, record: int, allele: int) -> str:
        return self.calls.alt[record][allele - 1] if allele else self.calls.ref[record]

    def as_codes(self, call: Call) -> bool:
        """Whether a heterozygous call can be, and is to be, written as IUPAC codes."""
        size = len(self.calls.ref[call.record])
        return self.iupac and all(
            len(self._allele(call.record, a)) == size for a in (call.first, call.second)
        )

    def _of(self, call: Call) -> tuple[Edit | None, Edit | None]:
        """What the call puts on copy 1 and on copy 2."""
        one, two = (self._allele(call.record, a) for a in (call.first, call.second))
        if call.heterozygous and self.as_codes(call):
            one = two = both_letters(one, two)
        return self._edit(call.record, one), self._edit(call.record, two)

    def keeps_length(self, call: Call) -> bool:
        """Whether no base is shifted on either copy."""
        return all(e is None or e.gain == 0 for e in self.of(call))

    def tell_phase(self, tally: Tally) -> None:
        """Tell the heterozygous calls that stand on copies, and those whose phase is not known."""
        calls, record = self.calls, self.calls.record
        differ = np.flatnonzero(calls.first != calls.second)
        split = [c for c in differ.tolist() if not self._is_coded(calls, int(record[c]), c)]
        names = [
            f"{self.name(int(record[c]))} in {calls.lines[int(calls.line[c])]}" for c in split[:3]
        ]
        if split and self.iupac:
            reason = "heterozygous insertion or deletion, which no IUPAC code holds: the line's two copies stand as two haplotypes"
            tally.add(reason, count=len(split))
            tally.examples[reason] = names
        if unphased := [c for c in split if not calls.phased[c]]:
            reason = "heterozygous and not phased: first allele taken for copy 1, second for copy 2"
            tally.add(reason, count=len(unphased))
            tally.examples[reason] = [
                f"{self.name(int(record[c]))} in {calls.lines[int(calls.line[c])]}"
                for c in unphased[:3]
            ]

    def _is_coded(self, calls: VariantCalls, record: int, carrier: int) -> bool:
        return self.as_codes(
            Call(record, int(calls.first[carrier]), int(calls.second[carrier]), False)
        )


def drop_overlapping(
    calls: VariantCalls, edits: CallEdits, genome: Genome, tally: Tally
) -> VariantCalls:
    """Leave out calls that change bases which an earlier call of the same line and copy has changed.

    The first in order of position stays.
    """
    record = calls.record
    offset = genome.contig_start[calls.contig[record]]
    whole = int(genome.contig_length.sum()) + 1
    start = calls.low[record] + offset + calls.line.astype(np.int64) * whole
    end = calls.high[record] + offset + calls.line.astype(np.int64) * whole
    order = np.lexsort((end, start))
    start, end = start[order], end[order]
    wanted = np.ones(len(record), bool)
    for first, last in _clusters(start, end):
        members = order[first:last].tolist()
        for carrier in _losers(calls, edits, record, members):
            wanted[carrier] = False
            who = calls.lines[int(calls.line[carrier])]
            tally.add(_OVERLAP, f"{edits.name(int(record[carrier]))} in {who}")
    return calls if wanted.all() else calls.keep(wanted)


def _clusters(start: NDArray[np.int64], end: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Runs of touching spans of which at least two may exclude each other."""
    if not len(start):
        return []
    furthest = np.maximum.accumulate(end)
    apart = np.append(True, start[1:] > furthest[:-1])
    first = np.flatnonzero(apart)
    last = np.append(first[1:], len(start))
    clash = np.append(False, (start[1:] < furthest[:-1]) | (start[1:] == start[:-1]))
    found = np.add.reduceat(clash.astype(np.int64), first) > 0
    return list(zip(first[found].tolist(), last[found].tolist(), strict=True))


def _losers(
    calls: VariantCalls, edits: CallEdits, record: NDArray[np.int64], members: list[int]
) -> list[int]:
    """Carriers of one line that clash with one before them."""
    found = []
    for carrier in members:
        call = Call(int(record[carrier]), int(calls.first[carrier]), int(calls.second[carrier]),
                    bool(calls.phased[carrier]))  # fmt: skip
        pair = edits.of(call)
        low = min((e.low for e in pair if e is not None), default=-1)
        found.append((low, call.record, carrier, pair))
    kept: list[list[Edit]] = [[], []]  # each in order of place
    lost = []
    for _, _, carrier, pair in sorted(found, key=lambda f: (f[0], f[1])):
        if any(e is not None and _clashes(kept[c], e) for c, e in enumerate(pair)):
            lost.append(carrier)
            continue
        for copy, edit in enumerate(pair):
            if edit is not None:
                insort(kept[copy], edit, key=_place)
    return lost


def _place(edit: Edit) -> tuple[int, int]:
    return edit.low, edit.high


def _clashes(kept: list[Edit], edit: Edit) -> bool:
    """Whether an edit changes a base that one of ``kept`` changed, or inserts where it inserted.

    None of ``kept`` clashes with another, so only the neighbours of its place can: at most an
    insertion and a change that begin at one base stand before it.
    """
    at = bisect_right(kept, _place(edit), key=_place)
    near = kept[max(at - 3, 0) : at + 1]
    return any(
        (e.low < edit.high and edit.low < e.high) or (e.low == e.high == edit.low == edit.high)
        for e in near
    )
