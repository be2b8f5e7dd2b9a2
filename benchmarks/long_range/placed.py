"""Elements of an assay put into the window of a gene, and what their variants do at its TSS.

The end of an element that is nearer to the TSS stays where it is: a longer variant pushes bases out at
the far end of the window, a shorter one lets N in there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.long_range.genes import Gene, GeneWindows
from benchmarks.long_range.models import WindowModel, for_species
from benchmarks.long_range.responses import of_windows
from benchmarks.long_range.session import Session
from benchmarks.mutagenesis.elements import all_variants, places_of
from benchmarks.mutagenesis.results import with_scores
from featurestore.errors import InputError
from featurestore.sequence.iupac import N, encode

Codes = NDArray[np.uint8]
Tell = Callable[[int, int], None]

AT_ONCE = 48


def placed(window: Codes, sequence: Codes, length: int, end: int) -> Codes:
    """A window with a sequence in the place of an element.

    Parameters
    ----------
    window : uint8 array, shape (L,)
        In transcript orientation, the TSS at L // 2.
    sequence : uint8 array
        What stands there.
    length : int
        Bases of the window that it takes the place of.
    end : int
        Where they end, bp from the TSS (negative upstream).

    Raises
    ------
    InputError
        If they do not lie in the window, on one side of the TSS.
    """
    last = len(window) // 2 + end
    first = last - length
    if first < 0 or last > len(window) or (end - length < 0 < end):
        raise InputError(
            f"an element of {length:,} bp that ends {end:+,} bp from the TSS does not lie on one side of "
            f"it in a window of {len(window):,} bp: say where it is to stand with --at"
        )
    left, right = window[:first], window[last:]
    if end <= 0:
        whole = np.concatenate([left, sequence, right])
        more = len(whole) - len(window)
        return whole[more:] if more >= 0 else np.pad(whole, (-more, 0), constant_values=N)
    whole = np.concatenate([left, sequence, right])[: len(window)]
    return np.pad(whole, (0, len(window) - len(whole)), constant_values=N)


def score_placed(
    session: Session, references: Mapping[str, str], measured: pd.DataFrame | None, at: int,
    tracks: Sequence[str], heads: Sequence[str], *, empty: bool, tell: Tell | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Every single-base change of elements, and what was measured besides, in the session's genes.

    Parameters
    ----------
    references : mapping of element to its bases
        On the strand of the transcript.
    measured : DataFrame, optional
        ``element, position, ref, alt, sequence``.
    at : int
        Where elements end, bp from the TSS.
    empty : bool
        N around them in place of the gene's bases.

    Returns
    -------
    DataFrame
        As of ``bench mutagenesis``; ``delta`` is the mean over genes, ``sd`` its spread.
    """
    variants = all_variants(references, measured)
    found = np.zeros((len(session.genes), len(variants), 1))
    done, total = 0, len(session.genes) * len(variants)
    for number, gene in enumerate(session.genes):
        model = for_species(session.model, gene.species, tracks, heads)
        background = _background(session.windows, gene, model, empty=empty)
        for name, rows in variants.groupby("element", sort=False).indices.items():
            wild = encode(references[str(name)])
            reference = placed(background, wild, len(wild), at)
            for first in range(0, len(rows), AT_ONCE):
                part = rows[first : first + AT_ONCE]
                edited = np.stack([
                    placed(background, encode(text), len(wild), at)
                    for text in variants["sequence"].iloc[part]
                ])  # fmt: skip
                values = of_windows(model, np.concatenate([reference[None], edited]))
                found[number, part, 0] = values[1:].sum(1) - values[0].sum()
                done += len(part)
                if tell:
                    tell(done, total)
    return with_scores(
        places_of(variants, "tss"), found, learner="enformer", unit=session.opened.unit,
        folds=() if session.opened.run is None else (session.opened.fold,),
        note="an element put into genes: " + " ".join(g.name for g in session.genes),
    )  # fmt: skip


def _background(windows: GeneWindows, gene: Gene, model: WindowModel, *, empty: bool) -> Codes:
    if empty:
        return np.full(model.input_bp, N, np.uint8)
    return windows.window(gene, model.input_bp)


def agreement_of(table: pd.DataFrame, measured: Any, bootstrap: int, seed: int) -> Any:
    """Measured variants beside their scores, and how far they agree."""
    from benchmarks.mutagenesis.agreement import agreement, join_measured

    held = join_measured(table, measured.table)
    return held, agreement(held, measured.conditions, bootstrap=bootstrap, seed=seed)
