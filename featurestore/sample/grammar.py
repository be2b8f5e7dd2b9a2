"""The regulatory grammar: window codes in, noise-free log10 expression per tissue out.

Expression is linear in features of the sequence::

    log10 expression[tissue] = intercept[tissue] + Σ_k weight[k, tissue] · feature[k]

    motif feature    1 − exp(−2 · Σ_sites occupancy · position weight · strand weight)
    pair feature     product of two motif features (synergy)
    GC feature       (GC fraction of a span − 0.36) / 0.05

The occupancy of a site is the product over its positions of the relative occupancies of
:meth:`featurestore.sample.motifs.Motif.matrix`; an IUPAC code counts as the mean of its
bases. The same object scores reference genes and mutant haplotypes, and serves tests as
the oracle of what a perfect learner would predict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from featurestore.sample.motifs import MOTIFS, Motif
from featurestore.sample.settings import PROMOTER, TERMINATOR, TISSUES
from featurestore.sequence.iupac import ONE_HOT, N

Codes = NDArray[np.uint8]
Floats = NDArray[np.float64]

SATURATION = 2.0
"""Factor of the summed occupancy in the motif feature: one perfect site gives 0.86."""

_GENES_AT_ONCE = 128  # keeps the intermediate arrays of one motif within the cache
_LETTERS = len(ONE_HOT)


@dataclass(frozen=True)
class Pair:
    """Two motifs that do more together: the feature is the product of theirs."""

    first: str
    second: str
    weight: tuple[float, float, float, float]

    @property
    def name(self) -> str:
        """Name of the feature."""
        return f"{self.first}*{self.second}"


@dataclass(frozen=True)
class GcTerm:
    """GC fraction of a span in bp from the region's anchor, half-open; N counts one half."""

    name: str
    region: str
    start: int
    end: int
    weight: tuple[float, float, float, float]
    centre: float = 0.36
    scale: float = 0.05


PAIRS = (
    Pair("sim_m02", "sim_m03", (0.42, 0.42, 0.42, 0.42)),
    Pair("sim_m05", "tata_like", (0.30, 0.30, 0.30, 0.30)),
)
GC_TERMS = (
    GcTerm("gc_promoter", "promoter", -500, 0, (-0.24, -0.24, -0.24, -0.24)),
    GcTerm("gc_terminator", "terminator", 0, 500, (-0.06, -0.06, -0.06, -0.06)),
)
INTERCEPT = (0.10, 0.05, 0.00, -0.05)


class Grammar:
    """Scores windows of base codes.

    Parameters
    ----------
    motifs, pairs, gc_terms : sequences
        Terms of the grammar.
    intercept : sequence of float, length tissue

    Attributes
    ----------
    promoter, terminator : (int, int)
        Bases before and after the anchor that :meth:`features` expects: (1000, 500) around
        the TSS and (500, 1000) around the TTS, transcript orientation, position 0 most
        upstream; what lies off a contig is N.
    tissue, feature : list of str
        Names of the columns of :meth:`score` and :meth:`features`.
    weight : float64 array, shape (feature, tissue)
    """

    def __init__(
        self,
        motifs: tuple[Motif, ...] = MOTIFS,
        pairs: tuple[Pair, ...] = PAIRS,
        gc_terms: tuple[GcTerm, ...] = GC_TERMS,
        intercept: tuple[float, ...] = INTERCEPT,
    ) -> None:
        self.motifs, self.pairs, self.gc_terms = motifs, pairs, gc_terms
        self.promoter, self.terminator = PROMOTER, TERMINATOR
        self.tissue = list(TISSUES)
        terms: list[Motif | Pair | GcTerm] = [*motifs, *pairs, *gc_terms]
        self.feature = [term.name for term in terms]
        self.weight = np.array([term.weight for term in terms], np.float64)
        self.intercept = np.array(intercept, np.float64)
        self._scans = [_Scan(motif, self._anchor(motif.region)) for motif in motifs]

    def _anchor(self, region: str) -> int:
        return (self.promoter if region == "promoter" else self.terminator)[0]

    def features(self, promoter: Codes, terminator: Codes) -> Floats:
        """Features of genes.

        Parameters
        ----------
        promoter : uint8 array, shape (n, 1500)
            IUPAC codes of TSS −1000 … +500.
        terminator : uint8 array, shape (n, 1500)
            IUPAC codes of TTS −500 … +1000.

        Returns
        -------
        float64 array, shape (n, feature)

        Raises
        ------
        InputError
            If a window has another length.
        """
        for name, codes in (("promoter", promoter), ("terminator", terminator)):
            length = sum(getattr(self, name))
            if codes.ndim != 2 or codes.shape[1] != length:
                raise InputError(f"{name} windows of shape {codes.shape}: expected (n, {length})")
        parts = [
            self._features(promoter[i : i + _GENES_AT_ONCE], terminator[i : i + _GENES_AT_ONCE])
            for i in range(0, len(promoter), _GENES_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(self.feature)))

    def _features(self, promoter: Codes, terminator: Codes) -> Floats:
        codes = {"promoter": promoter, "terminator": terminator}
        pairs = {name: _pair_codes(region) for name, region in codes.items()}
        column = {scan.motif.name: scan.feature(pairs[scan.motif.region]) for scan in self._scans}
        for pair in self.pairs:
            column[pair.name] = column[pair.first] * column[pair.second]
        for term in self.gc_terms:
            anchor = self._anchor(term.region)
            span = codes[term.region][:, anchor + term.start : anchor + term.end]
            gc = (ONE_HOT[:, 1] + ONE_HOT[:, 2]).astype(np.float64)[span].mean(axis=1)
            column[term.name] = (gc - term.centre) / term.scale
        return np.stack([column[name] for name in self.feature], axis=1)

    def score(self, promoter: Codes, terminator: Codes) -> Floats:
        """Noise-free log10 expression, shape (n, tissue); parameters as :meth:`features`."""
        return self.combine(self.features(promoter, terminator))

    def combine(self, features: Floats) -> Floats:
        """log10 expression, shape (n, tissue), of features of shape (n, feature)."""
        return self.intercept + features @ self.weight

    def sites(
        self, promoter: Codes, terminator: Codes, least: float = 0.5
    ) -> list[tuple[int, str, int, int, float]]:
        """Sites of relative occupancy ≥ ``least`` inside each motif's reach.

        Returns
        -------
        list of (gene index, motif, start, strand, occupancy)
            ``start`` is the most upstream base in bp from the motif's anchor (−1 is the last
            base before it); strand +1 reads along the transcript, −1 against it.
        """
        codes = {"promoter": promoter, "terminator": terminator}
        pairs = {name: _pair_codes(region) for name, region in codes.items()}
        return [
            (int(gene), scan.motif.name, int(start), strand, float(occupancy))
            for scan in self._scans
            for strand in (1, -1)
            for gene, start, occupancy in scan.sites(pairs[scan.motif.region], strand, least)
        ]

    def describe(self) -> dict[str, Any]:
        """All parameters as plain JSON types."""
        return {
            "formula": "log10 expression = intercept + sum over features of weight * feature",
            "promoter_window": self.promoter,
            "terminator_window": self.terminator,
            "tissues": self.tissue,
            "intercept": self.intercept.tolist(),
            "saturation": SATURATION,
            "motifs": [
                {**motif.__dict__, "matrix_acgt": motif.matrix().tolist()} for motif in self.motifs
            ],
            "pairs": [{"name": pair.name, **pair.__dict__} for pair in self.pairs],
            "gc_terms": [dict(term.__dict__) for term in self.gc_terms],
        }


def _pair_codes(codes: Codes) -> NDArray[np.intp]:
    """Code of each base and the one after it (15 a + b), shape (n, length); N after the end."""
    following = np.full_like(codes, N)
    following[:, :-1] = codes[:, 1:]
    return codes.astype(np.intp) * _LETTERS + following


class _Scan:
    """A motif made ready for scanning: two positions per table look-up."""

    def __init__(self, motif: Motif, anchor: int) -> None:
        self.motif, self.anchor = motif, anchor
        low, high = motif.reach()
        # Only whole sites inside the window count.
        window = sum(PROMOTER if motif.region == "promoter" else TERMINATOR)
        self.first = max(0, anchor + low - motif.length // 2)
        self.last = min(window - motif.length + 1, anchor + high)
        starts = np.arange(self.first, self.last)
        self.profile = motif.profile((starts - anchor + motif.length / 2).astype(np.float64))
        forward = motif.matrix()
        self.tables = {1: _tables(forward), -1: _tables(forward[::-1, ::-1])}

    def occupancy(self, pairs: NDArray[np.intp], strand: int) -> Floats:
        """Relative occupancy of each start, shape (n, starts)."""
        tables = self.tables[strand]
        product = tables[0][pairs[:, self.first : self.last]]
        for step, table in enumerate(tables[1:], 1):
            product *= table[pairs[:, self.first + 2 * step : self.last + 2 * step]]
        return product

    def feature(self, pairs: NDArray[np.intp]) -> Floats:
        """The motif's feature, shape (n,)."""
        total = np.zeros(len(pairs))
        for strand, weight in ((1, self.motif.forward), (-1, self.motif.reverse)):
            if weight:
                total += weight * (self.occupancy(pairs, strand) * self.profile).sum(axis=1)
        return np.asarray(1 - np.exp(-SATURATION * total))

    def sites(
        self, pairs: NDArray[np.intp], strand: int, least: float
    ) -> list[tuple[int, int, float]]:
        occupancy = self.occupancy(pairs, strand)
        gene, start = np.nonzero(occupancy >= least)
        offset = start + self.first - self.anchor
        return list(
            zip(gene.tolist(), offset.tolist(), occupancy[gene, start].tolist(), strict=True)
        )


def _tables(matrix: Floats) -> list[Floats]:
    """Products of two neighbouring positions for each pair of codes, each of shape (225,)."""
    single = ONE_HOT.astype(np.float64) @ matrix.T
    if single.shape[1] % 2:
        single = np.concatenate([single, np.ones((_LETTERS, 1))], axis=1)
    return [
        (single[:, None, j] * single[None, :, j + 1]).ravel() for j in range(0, single.shape[1], 2)
    ]
