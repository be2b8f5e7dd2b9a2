"""Random variants of all kinds on a random species, none overlapping another."""

from __future__ import annotations

import numpy as np

from featurestore.inputs.model import SpeciesData
from featurestore.sequence.iupac import decode
from tests.oracles.variants import Record

CALLS = ("0/0", "0/0", "0|0", "1/1", "1|1", "1", "0/1", "0|1", "1|0", "./.", "./1")


def contig_texts(one: SpeciesData) -> dict[str, str]:
    """Bases of each contig."""
    genome = one.genome
    assert genome is not None
    return {
        name: decode(genome.code[start : start + length])
        for name, start, length in zip(
            genome.contig_id,
            genome.contig_start.tolist(),
            genome.contig_length.tolist(),
            strict=True,
        )
    }


def random_records(one: SpeciesData, lines: int, seed: int = 0) -> list[Record]:
    """Substitutions, insertions, deletions, several alternatives; many at anchors and window edges."""
    rng = np.random.default_rng(seed)
    records = []
    for contig, text in contig_texts(one).items():
        genes = [i for i, c in enumerate(one.contig) if c == contig]
        anchors = {int(p) for i in genes for p in (one.tss[i], one.tts[i])}
        wanted = {
            p + d
            for p in anchors
            for d in (-401, -400, -101, -100, -2, -1, 0, 1, 99, 100, 399, 400)
        }
        places = sorted({int(p) for p in rng.choice(sorted(wanted), len(wanted) // 5)}
                        | {int(p) for p in rng.integers(1, len(text) - 60, 150)})  # fmt: skip
        free = 1
        for place in places:
            if not free <= place < len(text) - 60:
                continue
            record = _record(rng, contig, text, place, lines)
            end = place + len(record.ref)
            keeps_first = len(record.alts[0]) != len(
                record.ref
            )  # an indel changes nothing before its second base
            if set(record.ref) - set("ACGT") or any(place + keeps_first < a < end for a in anchors):
                continue
            records.append(record)
            free = end + 1 + int(rng.integers(0, 30))
    return records


def _record(rng: np.random.Generator, contig: str, text: str, place: int, lines: int) -> Record:
    kind = rng.choice(
        ["snv", "insertion", "deletion", "block", "several"], p=[0.5, 0.15, 0.2, 0.05, 0.1]
    )
    base = text[place]
    other = [b for b in "ACGT" if b != base]
    rng.shuffle(other)
    added = "".join(rng.choice(list("ACGT"), int(rng.integers(1, 40))))
    ref, alts = base, (other[0],)
    if kind == "insertion":
        alts = (base + added,)
    elif kind == "deletion":
        ref, alts = text[place : place + 1 + int(rng.integers(1, 40))], (base,)
    elif kind == "block":
        ref = text[place : place + 3]
        alts = ("".join("ACGTA"["ACGTN".index(b) + 1 - 4 * (b == "N")] for b in ref),)
    elif kind == "several":
        alts = (other[0], other[1], base + added)
    calls = [
        str(c)
        for c in rng.choice(
            CALLS, lines, p=[0.25, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.04, 0.03, 0.02, 0.01]
        )
    ]
    if kind == "several":
        calls[0], calls[1] = "1|2", "3/2"
    if contig == "chr3":
        calls[-1] = "0/0"  # the last line carries nothing there
    return Record(contig, place + 1, ref, alts, tuple(calls))
