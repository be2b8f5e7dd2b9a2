"""The hybrid with one of its parts switched off: run beside it they are its table of ablations.

They take no parameters; ``hybrid`` itself takes all of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from learners.base import LearnerInfo
from learners.imputation.hybrid import Hybrid


def _info(part: str, summary: str) -> LearnerInfo:
    """The info of the hybrid under the name of a variant."""
    return replace(
        Hybrid.info, name=f"hybrid_no_{part}", summary=f"The hybrid without {summary}", defaults={}
    )


class NoCNN(Hybrid):
    """Without sequence."""

    info: ClassVar[LearnerInfo] = _info("cnn", "sequence")

    def __init__(self) -> None:
        super().__init__(cnn=False)


class NoTransformer(Hybrid):
    """Without the encoder over neighbours and tissues."""

    info: ClassVar[LearnerInfo] = _info("transformer", "its transformer over neighbours, tissues")

    def __init__(self) -> None:
        super().__init__(transformer=False)


class NoXGBoost(Hybrid):
    """Without trees: the first estimate of the networks."""

    info: ClassVar[LearnerInfo] = _info("xgboost", "trees: the first estimate of its networks")

    def __init__(self) -> None:
        super().__init__(xgboost=False)


class NoTissues(Hybrid):
    """Without correlations of tissues: each is learned alone."""

    info: ClassVar[LearnerInfo] = _info("tissues", "tissue correlations")

    def __init__(self) -> None:
        super().__init__(tissues=False)


class NoDistance(Hybrid):
    """Without distances to neighbours; their order stays."""

    info: ClassVar[LearnerInfo] = _info("distance", "distances to neighbours")

    def __init__(self) -> None:
        super().__init__(distance=False)


class NoOrientation(Hybrid):
    """Without strands and sides of neighbours."""

    info: ClassVar[LearnerInfo] = _info("orientation", "strands and sides of neighbours")

    def __init__(self) -> None:
        super().__init__(orientation=False)


class NoNeighbours(Hybrid):
    """Without neighbouring genes."""

    info: ClassVar[LearnerInfo] = _info("neighbours", "neighbouring genes")

    def __init__(self) -> None:
        super().__init__(neighbours=0)
