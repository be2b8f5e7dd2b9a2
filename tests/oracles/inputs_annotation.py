"""The representative transcript and the boundaries of a gene, straight from their definition."""

from __future__ import annotations

from tests.builders.inputs_annotation import Gene


def boundaries(gene: Gene) -> tuple[str, int, int]:
    """Transcript, TSS and TTS (0-based boundaries) of a gene without a canonical mark."""

    def bases(spans: list[tuple[int, int]]) -> int:
        return sum(len(range(first, last + 1)) for first, last in spans)

    best = None
    for t in sorted(gene.transcripts, key=lambda t: t.name):
        score = (bases(t.cds), bases(t.exons))
        if best is None or score > best[0]:
            best = (score, t)
    assert best is not None
    first, last = best[1].span
    # Base number k (1-based) lies between boundaries k − 1 and k.
    return (
        (best[1].name, first - 1, last) if gene.strand == "+" else (best[1].name, last, first - 1)
    )
