"""What is asked of a run: scores, aggregations, windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from featurestore.errors import InputError, unknown_name

TRACK_TYPES: Final = ("enformer",)
"""Types of embedder whose checkpoints predict tracks."""

SCORES: Final = ("sad", "sar", "geosad", "l2")
AGGREGATIONS: Final = ("sum", "mean", "tss")
WINDOWS: Final = ("variant", "gene")
ORIENTATIONS: Final = ("forward", "transcript")

MOST_ALLELES: Final = 8
"""Alleles whose tracks are in memory at once: 19 MB each for the published model's 5,313 tracks."""


@dataclass(frozen=True)
class Asked:
    """What is to be computed.

    Parameters
    ----------
    scores : sequence of {"sad", "sar", "geosad", "l2"}
    aggregations : sequence of {"sum", "mean", "tss"}
        ``tss``: the three bins at the TSS of a gene. Default ``sum``, with windows of genes ``tss``.
    window : {"variant", "gene"}
        Centred on the variant, or on the TSS of each gene whose window holds it.
    orientation : {"forward", "transcript"}
        Of windows of genes.
    shifts : sequence of int
        In bp; tracks of windows so moved are averaged.
    rc : bool
        Average with the reverse complement, its bins turned round.
    share : int
        Variants of one stretch of so many bp have one window, centred on the stretch; 0: each its own.
    genes : sequence of str
        Those of interest; all.
    batch : int
        Alleles in memory at once.

    Raises
    ------
    InputError
        For a choice that there is not, or a combination that means nothing.
    """

    scores: tuple[str, ...] = ("sad",)
    aggregations: tuple[str, ...] = ()
    window: str = "variant"
    orientation: str = "forward"
    shifts: tuple[int, ...] = (0,)
    rc: bool = False
    share: int = 0
    genes: tuple[str, ...] = ()
    batch: int = MOST_ALLELES

    def __post_init__(self) -> None:
        chosen = self.aggregations or (("tss",) if self.window == "gene" else ("sum",))
        object.__setattr__(self, "aggregations", _in_order(chosen, AGGREGATIONS, "aggregation"))
        object.__setattr__(self, "scores", _in_order(self.scores, SCORES, "score of tracks"))
        object.__setattr__(self, "shifts", tuple(sorted(self.shifts)))
        for what, value, known in (
            ("window", self.window, WINDOWS), ("orientation", self.orientation, ORIENTATIONS),
        ):  # fmt: skip
            if value not in known:
                raise unknown_name(what, value, known)
        if not self.shifts or len(set(self.shifts)) < len(self.shifts):
            raise InputError(f"shifts {self.shifts}: give different whole numbers, such as -3,0,3")
        if self.share < 0 or self.batch < 1:
            raise InputError(
                f"share {self.share}, batch {self.batch}: give 0 or more, and 1 or more"
            )
        if self.window == "gene" and self.share:
            raise InputError(
                "--share goes with --window variant: windows of genes are shared anyway"
            )
        if self.window == "variant" and self.orientation == "transcript":
            raise InputError("--orientation transcript goes with --window gene")
        if self.genes and not self.by_gene:
            raise InputError("--gene goes with --window gene or --agg tss")

    @property
    def by_gene(self) -> bool:
        """Whether a row is an allele with a gene, not an allele alone."""
        return self.window == "gene" or "tss" in self.aggregations

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of what is computed, such as ``sad_sum``: each score by each aggregation."""
        return tuple(f"{s}_{a}" for s in self.scores for a in self.aggregations)

    def check(self, model_bin: int) -> None:
        """Refuse shifts that would put other bases into the bins.

        Raises
        ------
        InputError
        """
        if 2 * max(map(abs, self.shifts)) > model_bin:
            raise InputError(
                f"shifts {','.join(map(str, self.shifts))}: at most half a bin of {model_bin} bp, so that "
                "what is averaged is the same bin"
            )

    def facts(self) -> Mapping[str, Any]:
        """As plain JSON types."""
        return {
            "scores": list(self.arrays), "window": self.window, "orientation": self.orientation,
            "shifts": list(self.shifts), "rc": self.rc, "share": self.share,
            "genes": list(self.genes), "batch": self.batch,
        }  # fmt: skip


def _in_order(chosen: Sequence[str], known: Sequence[str], what: str) -> tuple[str, ...]:
    for name in chosen:
        if name not in known:
            raise unknown_name(what, name, known)
    if not chosen:
        raise InputError(f"no {what}: choose of {', '.join(known)}")
    return tuple(name for name in known if name in chosen)
