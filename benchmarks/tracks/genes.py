"""Genes on binned genomes: the bins at their TSS, and what lies near their relatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs.tracks.signals import Signals

AROUND: Final = 1
"""Bins on either side of the one that holds the TSS which stand for a gene as well."""

BODY_MARGIN: Final = 1_000
TSS_MARGIN: Final = 2_000
"""Bases around a gene, or around the TSS of a gene whose end is not known, that tell of its family."""


@dataclass(frozen=True)
class TssBins:
    """Where genes begin, and what is measured there.

    Parameters
    ----------
    genes : DataFrame
        From :func:`benchmarks.inputs.genes.gene_frame`.
    bin : int64 array, shape (gene,)
        Bin of the contig that holds the first transcribed base; −1 where the gene has no place.
    mean : float64 array, shape (gene, track)
        Mean signal of that bin and its neighbours; NaN where it is not known, in tracks of other
        species, and in tracks of the other strand.
    reason : list of str, length gene
        Why a gene has no place; "" where it has.
    """

    genes: pd.DataFrame
    bin: NDArray[np.int64]
    mean: NDArray[np.float64]
    reason: list[str]

    @property
    def truth(self) -> NDArray[np.float64]:
        """log2(1 + mean signal), shape (gene, track)."""
        return np.log2(1 + self.mean)

    @property
    def placed(self) -> pd.DataFrame:
        """``species, contig, bin, row`` of the genes that have a place."""
        rows = np.flatnonzero(self.bin >= 0)
        found = self.genes.iloc[rows][["species", "contig"]].reset_index(drop=True)
        return found.assign(bin=self.bin[rows], row=rows)


def tss_bins(genes: pd.DataFrame, signals: Signals) -> TssBins:
    """Place genes on the bins of their genomes and read what is measured at their TSS."""
    count = len(genes)
    place = np.full(count, -1, np.int64)
    mean = np.full((count, len(signals.tracks)), np.nan)
    reason = [""] * count
    columns = [genes[name].to_numpy() for name in ("species", "contig", "strand", "tss")]
    for i, (species, contig, strand, tss) in enumerate(zip(*columns, strict=True)):
        here = signals.species.get(species)
        if here is None:
            reason[i] = f"{species} has no tracks"
        elif not contig or tss < 0:
            reason[i] = "no contig or TSS"
        elif contig not in here.length or tss > here.length[contig]:
            reason[i] = f"its TSS is not on the genome ({contig}:{tss})"
        else:
            # Left of the boundary on the reverse strand; a gene without strand reads forward.
            base = min(int(tss) - (strand < 0), here.length[contig] - 1)
            place[i] = max(base, 0) // signals.bin_bp
            mean[i] = _around(signals, species, contig, int(place[i]))
    strand_of, strand = signals.strand_of, genes["strand"].to_numpy(np.int64)
    other = (strand_of[None, :] != 0) & (strand_of[None, :] != np.sign(strand)[:, None])
    mean[other] = np.nan
    return TssBins(genes, place, mean, reason)


def _around(
    signals: Signals, species: str, contig: str, at: int
) -> NDArray[np.float64]:  # fmt: skip
    values = signals.read(species, contig, at - AROUND, 2 * AROUND + 1).astype(np.float64)
    known = values >= 0
    count = known.sum(axis=0)
    total = np.where(known, values, 0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def near_relatives(
    genes: pd.DataFrame, families: NDArray[np.bool_], signals: Signals
) -> dict[str, NDArray[np.bool_]]:
    """Bins that tell of some families.

    Parameters
    ----------
    genes : DataFrame
    families : bool array, shape (gene,)
        Genes of the families under test.

    Returns
    -------
    dict of species to bool array, one per bin
    """
    near = {name: np.zeros(len(one.values), np.bool_) for name, one in signals.species.items()}
    columns = [genes[name].to_numpy()[families] for name in ("species", "contig", "tss", "tts")]
    for species, contig, tss, tts in zip(*columns, strict=True):
        here = signals.species.get(species)
        if here is None or contig not in here.length or tss < 0:
            continue
        low, high = (min(tss, tts), max(tss, tts)) if tts >= 0 else (tss, tss)
        margin = BODY_MARGIN if tts >= 0 else TSS_MARGIN
        first = max(int(low) - margin, 0) // signals.bin_bp
        last = -(-min(int(high) + margin, here.length[contig]) // signals.bin_bp)
        near[species][here.first[contig] + first : here.first[contig] + last] = True
    return near
