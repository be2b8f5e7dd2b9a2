"""Scores of substitutions given in a program: mutagenesis on paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

import numpy as np

from featurestore.inputs.model import Genome
from featurestore.score.alleles import base_code, examine
from featurestore.score.genome import Bases, bases_of
from featurestore.score.model import MaskedModel
from featurestore.score.outputs import entropy_bits, llr
from featurestore.score.scorer import Scorer, Strands

_CHUNK: Final = 4096


class Variant(NamedTuple):
    """A substitution.

    Parameters
    ----------
    contig : str
    position : int
        0-based; a VCF's POS less one.
    ref, alt : str
    """

    contig: str
    position: int
    ref: str
    alt: str


@dataclass(frozen=True)
class VariantScore:
    """Score of one substitution.

    Parameters
    ----------
    variant : Variant
    llr : float
        ln(P_alt / P_ref); NaN where there is no score.
    p_ref, p_alt : float
    probabilities : tuple of four floats
        Of A, C, G, T at the masked position, forward strand.
    entropy : float
        In bits, of the four.
    reason : str
        Why there is no score (a key of :data:`featurestore.score.alleles.REASONS`); empty if there
        is one.
    """

    variant: Variant
    llr: float
    p_ref: float
    p_alt: float
    probabilities: tuple[float, ...]
    entropy: float
    reason: str = ""


def score_variants(
    model: MaskedModel,
    genome: Genome | Mapping[str, str] | Bases,
    variants: Iterable[Variant | tuple[str, int, str, str]],
    *,
    strands: Strands = "window",
    batch: int | None = None,
    device: str | None = None,
) -> Iterator[VariantScore]:
    """Zero-shot scores, in the order of the variants, as a stream.

    Parameters
    ----------
    model : MaskedModel
        From :func:`featurestore.score.masked_model`.
    genome : Genome, mapping of contig to sequence, or Bases
    variants : iterable of (contig, 0-based position, ref, alt)
        Several at one position share one run of the model.
    strands : {"window", "both"}
        See ``docs/variant_scores.md``.
    batch : int, optional
        Windows of one call; default the model's.
    device : str, optional

    Yields
    ------
    VariantScore
        One for each variant; what cannot be scored carries its reason.
    """
    bases = bases_of(genome) if isinstance(genome, Genome | Mapping) else genome
    model.load(device)
    scorer = Scorer(model, bases, strands=strands, batch=batch)
    remaining = (Variant(*v) for v in variants)
    while chunk := list(islice(remaining, _CHUNK)):
        reasons = [examine(v.contig, v.position, v.ref, [v.alt], bases).reasons[0] for v in chunk]
        places = [(v.contig, v.position) for v, why in zip(chunk, reasons, strict=True) if not why]
        found = iter(scorer.log_probabilities(places))
        for variant, reason in zip(chunk, reasons, strict=True):
            yield _missing(variant, reason) if reason else _score(variant, next(found))


def _score(
    variant: Variant, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
) -> VariantScore:
    probability = np.exp(values).tolist()
    return VariantScore(
        variant, llr(values, variant.ref, variant.alt), probability[base_code(variant.ref)],
        probability[base_code(variant.alt)], tuple(probability), entropy_bits(values),
    )  # fmt: skip


def _missing(variant: Variant, reason: str) -> VariantScore:
    nan = float("nan")
    return VariantScore(variant, nan, nan, nan, (nan,) * 4, nan, reason)
