"""From variant calls to haplotypes: what each copy of the windows of a gene reads in each line.

A haplotype is the set of variants that fall into any stored window of one gene on one copy of a
line, deletions having pulled in what lies beyond and insertions pushed out what lay inside.
Lines with the same set share one haplotype.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurestore.inputs.haplotype_calls import Call, CallEdits, drop_overlapping
from featurestore.inputs.model import Genome, HaplotypeSet, Heterozygous, Region, SpeciesData
from featurestore.inputs.problems import Problems
from featurestore.inputs.tally import Tally
from featurestore.inputs.variant_calls import Spans, VariantCalls, read_calls
from featurestore.sequence.edits import Edit, reached, spans
from featurestore.sequence.windows import window_span

PULLED_IN: Final = 10_000
"""Deletions may pull bases this far beyond a window into it; variants further out do not count."""

_SPANS: Final = "spans a TSS or TTS, left out in the windows of that gene"
_DIGEST_BYTES: Final = 6
Copies = tuple[tuple[Edit, ...], tuple[Edit, ...]]


def read_haplotypes(
    path: Path, heterozygous: Heterozygous, data: SpeciesData, problems: Problems
) -> tuple[HaplotypeSet, list[str]] | None:
    """Read a VCF and form the haplotypes of its lines around the genes of a species.

    Returns
    -------
    the set and sentences to tell, or None where the file has mistakes; ``problems`` says which
    """
    if data.genome is None:
        return None
    tally = Tally()
    spans_of = near_genes(data, data.genome)
    calls = read_calls(path, data.genome, spans_of, problems, tally)
    if calls is None:
        return None
    edits = CallEdits(calls, data.genome.contig_id, heterozygous)
    calls = drop_overlapping(calls, edits, data.genome, tally)
    edits = CallEdits(calls, data.genome.contig_id, heterozygous)
    edits.tell_phase(tally)
    found = _Former(data, calls, edits, tally).run(heterozygous)
    carried = len(set(found.carrier_line.tolist()))
    summary = (
        f"{calls.records:,} records, {len(calls.lines):,} lines; {len(found.haplotype):,} haplotypes in the "
        f"windows of {len(set(found.gene.tolist())):,} genes, carried by {carried:,} lines; heterozygous "
        f"calls as {heterozygous}."
    )
    return found, [summary, *tally.sentences()]


def near_genes(data: SpeciesData, genome: Genome) -> Spans:
    """By contig: where a variant may bear on a window, as disjoint spans in order."""
    number = {name: i for i, name in enumerate(genome.contig_id)}
    by_contig: list[list[tuple[int, int]]] = [[] for _ in genome.contig_id]
    for gene in range(len(data.gene)):
        for _, low, high in gene_windows(data, gene):
            by_contig[number[data.contig[gene]]].append((low - PULLED_IN, high + PULLED_IN))
    result = []
    for found in by_contig:
        merged: list[list[int]] = []
        for low, high in sorted(found):
            if merged and low <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], high)
            else:
                merged.append([low, high])
        ends = np.array(merged, np.int64).reshape(-1, 2)
        result.append((ends[:, 0], ends[:, 1]))
    return result


def anchor_of(data: SpeciesData, gene: int, region: Region) -> int:
    """Boundary that a region of a gene is cut around."""
    return int((data.tss if region.anchor == "tss" else data.tts)[gene])


def gene_windows(data: SpeciesData, gene: int) -> list[tuple[int, int, int]]:
    """Anchor, start and end of each window of a gene on the forward strand."""
    strand = int(data.strand[gene])
    found = []
    for region in data.regions:
        anchor = anchor_of(data, gene, region)
        low, high = window_span(anchor, strand, region.upstream, region.downstream)
        found.append((anchor, low, high))
    return found


class _Former:
    """Forms the haplotypes gene by gene; lines with equal calls are treated as one."""

    def __init__(
        self, data: SpeciesData, calls: VariantCalls, edits: CallEdits, tally: Tally
    ) -> None:
        self.data, self.calls, self.edits, self.tally = data, calls, edits, tally
        contigs = len(data.genome.contig_id) if data.genome is not None else 0
        self.first_record = np.searchsorted(calls.contig, np.arange(contigs + 1))
        self.number = (
            {n: i for i, n in enumerate(data.genome.contig_id)} if data.genome is not None else {}
        )
        # Records are in order of low; the running maximum of high finds those that reach into a span.
        self.highest = calls.high.copy()
        for first, last in zip(self.first_record[:-1], self.first_record[1:], strict=True):
            self.highest[first:last] = np.maximum.accumulate(calls.high[first:last])
        self.collected = _Collected()

    def run(self, heterozygous: Heterozygous) -> HaplotypeSet:
        """All genes."""
        for gene in range(len(self.data.gene)):
            found = list(self._gene(gene))
            if found:
                self.collected.add(gene, self.data.gene[gene], found)
        return self.collected.as_set(heterozygous, self.calls.lines, self.tally)

    def _gene(self, gene: int) -> Iterator[tuple[Copies, int, list[int]]]:
        """Copies, zygosity and lines of each distinct way to read the windows of a gene."""
        windows = gene_windows(self.data, gene)
        contig = self.number[self.data.contig[gene]]
        for calls, lines in self._patterns(self._records(contig, windows, 0), None):
            if all(self.edits.keeps_length(call) for call in calls):
                read = self._copies(calls, windows, len(lines))
                if read is not None:
                    yield *read, lines
                continue
            # Where bases shift, variants beyond the windows may come in.
            wide = self._records(contig, windows, PULLED_IN)
            for further, some in self._patterns(wide, lines):
                read = self._copies(further, windows, len(some))
                if read is not None:
                    yield *read, some

    def _records(
        self, contig: int, windows: Sequence[tuple[int, int, int]], margin: int
    ) -> NDArray[np.int64]:
        """Records that reach into a window, in order."""
        first, last = self.first_record[contig], self.first_record[contig + 1]
        found = []
        for _, low, high in windows:
            begin = first + np.searchsorted(self.highest[first:last], low - margin, side="right")
            end = first + np.searchsorted(self.calls.low[first:last], high + margin, side="left")
            near = np.arange(begin, max(begin, end))
            found.append(near[self.calls.high[near] > low - margin])
        return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)

    def _patterns(
        self, records: NDArray[np.int64], among: list[int] | None
    ) -> Iterator[tuple[list[Call], list[int]]]:
        """Distinct sets of calls at some records, with the lines that have each; none without a call."""
        start, end = self.calls.carrier_start[records], self.calls.carrier_start[records + 1]
        column = np.repeat(np.arange(len(records)), end - start)
        offset = np.cumsum(end - start) - (end - start)
        carrier = np.repeat(start - offset, end - start) + np.arange(len(column))
        if among is not None:
            mine = np.isin(self.calls.line[carrier], among)
            column, carrier = column[mine], carrier[mine]
        if not len(carrier):
            return
        lines, row = np.unique(self.calls.line[carrier], return_inverse=True)
        table = np.zeros((len(lines), len(records)), np.int32)
        code = self.calls.first[carrier].astype(np.int32) << 9
        code |= self.calls.second[carrier].astype(np.int32) << 1
        table[row, column] = code | self.calls.phased[carrier]
        keys = table.view(np.dtype((np.void, table.shape[1] * 4))).ravel()
        _, sample, group = np.unique(keys, return_index=True, return_inverse=True)
        for number, at in enumerate(sample.tolist()):
            own = table[at]
            calls = [
                Call(int(records[i]), int(own[i]) >> 9, int(own[i]) >> 1 & 255, bool(own[i] & 1))
                for i in np.flatnonzero(own).tolist()
            ]
            yield calls, lines[group == number].tolist()

    def _copies(
        self, calls: Sequence[Call], windows: Sequence[tuple[int, int, int]], lines: int
    ) -> tuple[Copies, int] | None:
        """What both copies read and the zygosity, or None where both read the reference."""
        pair: tuple[list[Edit], list[Edit]] = ([], [])
        call_of: dict[tuple[int, Edit], Call] = {}
        for call in calls:
            edits = self.edits.of(call)
            if any(e is not None and spans(e, a) for e in edits for a, _, _ in windows):
                self.tally.add(_SPANS, self.edits.name(call.record), lines)
                continue
            for copy, edit in enumerate(edits):
                if edit is not None:
                    pair[copy].append(edit)
                    call_of[copy, edit] = call
        kept = []
        for own in pair:
            own.sort()
            inside: set[Edit] = set()
            for anchor, low, high in windows:
                inside |= reached(own, anchor, anchor - low, high - anchor)
            kept.append(tuple(e for e in own if e in inside))
        kinds = {call_of[c, e].heterozygous for c, own in enumerate(kept) for e in own}
        if not kinds:
            return None
        return (kept[0], kept[1]), 2 if len(kinds) == 2 else int(kinds.pop())


@dataclass
class _Collected:
    """Haplotypes and carriers of the genes so far, as arrays of numbers."""

    haplotype: list[str] = field(default_factory=list)
    variants: list[str] = field(default_factory=list)
    gene: array[int] = field(default_factory=lambda: array("i"))
    edits: array[int] = field(default_factory=lambda: array("q"))
    low: array[int] = field(default_factory=lambda: array("q"))
    high: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    alt: bytearray = field(default_factory=bytearray)
    carriers: array[int] = field(default_factory=lambda: array("i"))

    def add(self, gene: int, name: str, found: Sequence[tuple[Copies, int, Sequence[int]]]) -> None:
        """One gene: its distinct ways to be read, each with zygosity and lines."""
        own = sorted({edits for copies, _, _ in found for edits in copies if edits}, key=_sort_key)
        place = {edits: len(self.haplotype) + i for i, edits in enumerate(own)}
        for edits in own:
            text = ",".join(e.name for e in edits)
            self.haplotype.append(f"{name}:{_short_digest(text)}")
            self.variants.append(text)
            self.gene.append(gene)
            self.edits.append(len(edits))
            for edit in edits:
                self.low.append(edit.low)
                self.high.append(edit.high)
                self.sizes.append(len(edit.alt))
                self.alt += edit.alt
        rows = []
        for copies, zygosity, lines in found:
            same = copies[0] == copies[1]
            reads = [(0, copies[0])] if same else [(1, copies[0]), (2, copies[1])]
            rows += [
                (line, copy, place.get(edits, -1), zygosity)
                for line in lines
                for copy, edits in reads
            ]
        for row in sorted(rows):
            self.carriers.extend((gene, *row))

    def as_set(self, heterozygous: Heterozygous, lines: list[str], tally: Tally) -> HaplotypeSet:
        """The whole set."""
        carriers = np.array(self.carriers, np.int32).reshape(-1, 5)
        return HaplotypeSet(
            heterozygous=heterozygous,
            line=lines,
            haplotype=self.haplotype,
            gene=np.array(self.gene, np.int32),
            variants=self.variants,
            edit_start=_starts(self.edits),
            edit_low=np.array(self.low, np.int64),
            edit_high=np.array(self.high, np.int64),
            edit_alt_start=_starts(self.sizes),
            edit_alt=np.frombuffer(bytes(self.alt), np.uint8),
            carrier_line=carriers[:, 1].copy(),
            carrier_gene=carriers[:, 0].copy(),
            carrier_haplotype=carriers[:, 3].copy(),
            carrier_copy=carriers[:, 2].astype(np.int8),
            carrier_zygosity=carriers[:, 4].astype(np.int8),
            told=tally.facts(),
        )


def _starts(sizes: array[int]) -> NDArray[np.int64]:
    return np.append(0, np.cumsum(np.array(sizes, np.int64))).astype(np.int64)


def _sort_key(edits: tuple[Edit, ...]) -> tuple[tuple[int, int, bytes], ...]:
    return tuple((e.low, e.high, e.alt) for e in edits)


def _short_digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()
