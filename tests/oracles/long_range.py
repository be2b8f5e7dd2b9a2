"""The rule of the long-range world written again from its description, on strings, with loops.

Nothing here uses the code under test; constants come from ``truth/grammar.json``.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

from tests.oracles.sample import reverse_complement


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def wrong(word: str, motif: str) -> int:
    return sum(a != b for a, b in zip(word, motif, strict=True))


def sites(sequence: str, motif: str) -> tuple[float, float]:
    """Summed occupancy of forward and of reverse sites: 1, ¼, ¹⁄₁₆ for 0, 1, 2 wrong bases."""
    sums = []
    for word in (motif, reverse_complement(motif)):
        total = 0.0
        for start in range(len(sequence) - len(word) + 1):
            errors = wrong(sequence[start : start + len(word)], word)
            total += {0: 1.0, 1: 0.25, 2: 0.0625}.get(errors, 0.0)
        sums.append(total)
    return sums[0], sums[1]


def promoter(contig: str, tss: int, strand: str, rule: dict) -> float:
    """Strength of a promoter; ``strand`` is + or −."""
    upstream, after = contig[tss - 300 : tss], contig[tss : tss + 300]
    if strand == "-":
        upstream = reverse_complement(after)
    # upstream ends at the TSS: base −1 is its last.
    at = 300 + rule["core_start"]
    errors = wrong(upstream[at : at + 12], rule["motifs"]["core"])
    log2 = rule["base"] + rule["core"] * {0: 1.0, 1: 0.25, 2: 0.0625}.get(errors, 0.0)
    low, high = rule["promoter_span"]
    log2 += rule["per_site"] * sum(
        sites(upstream[300 + low : 300 + high], rule["motifs"]["activator"])
    )
    return float(2**log2)


def contribution(contig: str, tss: int, start: int, end: int, rule: dict) -> float:
    """What the element [start, end) adds to the gene with this TSS."""
    distance = abs(tss - (start + end) / 2)
    if not 5_000 <= distance <= 80_000:
        return 0.0
    sequence = contig[start:end]
    strength = sum(sites(sequence, rule["motifs"]["activator"])) ** 2
    right, left = sites(sequence, rule["motifs"]["direction"])
    points = max(-1.0, min(1.0, right - left))
    if tss < (start + end) / 2:
        points = -points
    weight = 0.25 + 0.75 * (0.5 + 0.5 * points)
    return strength * math.exp(-distance / 25_000) * weight
