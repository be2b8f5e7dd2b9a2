"""Scores of alleles by tracks, recomputed from strings, whole windows and the model's plain layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MIRROR = str.maketrans("ACGTN", "TGCAN")
CODES = {"A": 0, "C": 1, "G": 2, "T": 3, "N": 4}


def letters(sequence: str, start: int, length: int) -> str:
    """A stretch of a contig, N beyond its ends."""
    return "".join(
        sequence[i] if 0 <= i < len(sequence) else "N" for i in range(start, start + length)
    )


def tracks(model: Any, window: str) -> NDArray[np.float64]:
    """Bins × tracks of a window, by the layers that training uses (gradients are on)."""
    codes = np.array([[CODES[letter] for letter in window]], np.uint8)
    found = model.of(model.module.one_hot(codes))
    return found.detach().numpy()[0].astype(np.float64)


def windows(
    sequence: str, pos: int, ref: str, alt: str, length: int, *, tss: int | None = None,
    shift: int = 0, strand: int = 1,
) -> tuple[str, str]:  # fmt: skip
    """The window of the reference and of the allele.

    Around the variant the bases left of it stay; around a TSS those beyond the variant move away
    from the TSS, which stays in the middle.
    """
    changed = sequence[: pos - 1] + alt + sequence[pos - 1 + len(ref) :]
    if tss is None:
        one = other = pos - 1 - length // 2 + shift
    else:
        moved = tss + (len(alt) - len(ref) if pos - 1 < tss else 0)
        shift *= strand
        one, other = tss - length // 2 + shift, moved - length // 2 + shift
    pair = letters(sequence, one, length), letters(changed, other, length)
    return pair if strand > 0 else tuple(w[::-1].translate(MIRROR) for w in pair)  # type: ignore[return-value]


def averaged(model: Any, pairs: list[tuple[str, str]], *, rc: bool) -> list[NDArray[np.float64]]:
    """Mean tracks of the reference and of the allele over windows and, if asked, strands."""
    means = []
    for own in zip(*pairs, strict=True):
        found = [tracks(model, window) for window in own]
        if rc:
            found += [tracks(model, window[::-1].translate(MIRROR))[::-1] for window in own]
        means.append(np.mean(found, axis=0))
    return means


def formulas(ref: NDArray[np.float64], alt: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Every score summed and averaged, written as in the table of docs/variant_effects_tracks.md."""
    n = len(ref)
    log = np.log2(alt + 1) - np.log2(ref + 1)
    return {
        "sad_sum": alt.sum(0) - ref.sum(0),
        "sad_mean": alt.mean(0) - ref.mean(0),
        "sar_sum": np.log2(alt.sum(0) + 1) - np.log2(ref.sum(0) + 1),
        "sar_mean": np.log2(alt.mean(0) + 1) - np.log2(ref.mean(0) + 1),
        "geosad_sum": log.sum(0),
        "geosad_mean": log.sum(0) / n,
        "l2_sum": np.sqrt(((alt - ref) ** 2).sum(0)),
        "l2_mean": np.sqrt(((alt - ref) ** 2).mean(0)),
    }
