"""The planted motifs: invented consensus sequences, where they act, and how strongly.

None is meant to be a motif of a real factor; the core elements are *like* the real ones.
Tissue weights stand in the order of :data:`featurestore.sample.settings.TISSUES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from featurestore.sequence.iupac import ONE_HOT, encode

CORE_MISMATCH = 0.03
"""Relative occupancy left by a wrong base inside a motif."""

EDGE_MISMATCH = 0.25
"""Relative occupancy left by a wrong base at the first or last position."""


@dataclass(frozen=True)
class Motif:
    """One planted element.

    Parameters
    ----------
    name, consensus : str
        IUPAC consensus in transcript orientation.
    region : {"promoter", "terminator"}
    shape : {"window", "decay"}
        ``window``: exp(−½ ((x − centre) / width)²); ``decay``: exp(x / width) for x < 0, else 0;
        x is the motif's middle in bp from the anchor, transcript orientation.
    centre, width : float
        In bp.
    forward, reverse : float
        Weight of a site in, and against, the orientation of transcription.
    weight : tuple of float
        log10 expression per tissue of a saturated feature.
    frequency : float
        Fraction of ancestral families that get a site.
    copies : int
        Most sites planted in one family.
    """

    name: str
    consensus: str
    region: Literal["promoter", "terminator"]
    shape: Literal["window", "decay"]
    centre: float
    width: float
    forward: float
    reverse: float
    weight: tuple[float, float, float, float]
    frequency: float
    copies: int = 1

    @property
    def length(self) -> int:
        """Length in bp."""
        return len(self.consensus)

    def matrix(self) -> NDArray[np.float64]:
        """Relative occupancy per position and base A C G T, shape (length, 4); 1 is a match."""
        allowed = ONE_HOT[encode(self.consensus)] > 0
        mismatch = np.full((self.length, 1), CORE_MISMATCH)
        mismatch[[0, -1]] = EDGE_MISMATCH
        return np.where(allowed, 1.0, mismatch)

    def profile(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Position weight at ``x`` bp from the anchor, same shape as ``x``, in [0, 1]."""
        if self.shape == "decay":
            return np.where(x < 0, np.exp(np.minimum(x, 0) / self.width), 0.0)
        return np.asarray(np.exp(-0.5 * ((x - self.centre) / self.width) ** 2))

    def reach(self) -> tuple[int, int]:
        """Half-open span of the middle beyond which the position weight counts as zero."""
        if self.shape == "decay":
            return -int(4 * self.width), 0
        return int(self.centre - 3.5 * self.width), int(self.centre + 3.5 * self.width) + 1


Tissues = tuple[float, float, float, float]


def _at(
    name: str, consensus: str, centre: float, width: float, strands: tuple[float, float],
    weight: Tissues, frequency: float, copies: int = 1, region: str = "promoter",
) -> Motif:  # fmt: skip
    place = cast("Literal['promoter', 'terminator']", region)
    return Motif(
        name, consensus, place, "window", centre, width, *strands, weight, frequency, copies
    )


def _near(
    name: str, consensus: str, width: float, strands: tuple[float, float],
    weight: Tissues, frequency: float, copies: int,
) -> Motif:  # fmt: skip
    return Motif(
        name, consensus, "promoter", "decay", 0, width, *strands, weight, frequency, copies
    )


MOTIFS: tuple[Motif, ...] = (
    _at("tata_like", "TATAWAWA", -32, 6, (1, 0), (0.36, 0.32, 0.36, 0.34), 0.50),
    _at("inr_like", "TCAKTCTC", 2, 3, (1, 0), (0.24, 0.24, 0.24, 0.24), 0.45),
    _at("polya_like", "AATAAA", -22, 6, (1, 0), (0.26, 0.26, 0.26, 0.26), 0.60, 1, "terminator"),
    _near("sim_m01", "GCCGACAT", 200, (1, 0.3), (0.46, 0.10, 0.24, 0.18), 0.50, 3),
    _at("sim_m02", "TTGACCGC", -120, 45, (1, 1), (0.41, 0.41, 0.41, 0.41), 0.50, 3),
    _at("sim_m03", "CACGTGGA", -190, 60, (1, 0.6), (0.50, -0.14, 0.24, 0.06), 0.50, 3),
    _at("sim_m04", "GAGAGAGAGAGA", 75, 40, (1, 0), (0.53, 0.53, 0.53, 0.53), 0.50, 3),
    _at("sim_m05", "TCTTCTTCTTCT", -80, 40, (1, 0), (0.48, 0.41, 0.46, 0.48), 0.50, 3),
    _near("sim_m06", "CTAGGTCA", 250, (1, 1), (-0.43, -0.43, -0.36, -0.38), 0.50, 3),
    _at("sim_m07", "GGATACGG", -350, 100, (1, 0.2), (0.06, 0.62, 0.06, 0.06), 0.50, 3),
    _at("sim_m08", "TGCATGCAC", -260, 70, (0.8, 1), (0.0, 0.0, 0.06, 0.72), 0.50, 3),
    _at("sim_m09", "CCGTTTGG", -450, 120, (1, 0.5), (0.0, 0.0, 0.60, 0.06), 0.50, 3),
    _near("sim_m10", "AGTCGCAAC", 150, (1, 0), (0.06, -0.12, -0.30, -0.60), 0.50, 3),
    _at("sim_m11", "AAACCCTA", 90, 35, (1, 0), (0.34, 0.34, 0.34, 0.34), 0.50, 3),
    _at("sim_m12", "TGTAACGC", -90, 35, (1, 0), (0.41, 0.41, 0.41, 0.41), 0.50, 3, "terminator"),
)
"""Three core elements and twelve regulatory motifs."""
