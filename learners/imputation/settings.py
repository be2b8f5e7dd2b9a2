"""Settings of the hybrid: what is switched on, and how large its parts are."""

from __future__ import annotations

from dataclasses import dataclass

from learners.imputation.boosters import Growth
from learners.imputation.neighbour_features import Told


@dataclass(frozen=True)
class HybridSettings:
    """All parameters of :class:`learners.imputation.hybrid.Hybrid`, as it documents them."""

    cnn: bool = True
    transformer: bool = True
    xgboost: bool = True
    tissues: bool = True
    distance: bool = True
    orientation: bool = True
    neighbours: int = 24
    patterns: int = 8
    width: int = 32
    layers: int = 2
    heads: int = 4
    dropout: float = 0.2
    epochs: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    batch_size: int = 256
    folds: int = 2
    rows: int = 60_000
    tissue_tokens: bool = False

    @property
    def told(self) -> Told:
        """What is told of neighbours."""
        return Told(self.neighbours, self.distance, self.orientation)

    @property
    def tokens_of_tissues(self) -> bool:
        """Whether a network is trained for genes seen in part; without trees it is all there is."""
        return self.transformer and (self.tissue_tokens or not self.xgboost)


UNSEEN = Growth(members=3)
"""Trees of genes that show nothing: a faint signal, many columns that say much the same."""

PARTLY = Growth(
    learning_rate=0.05, max_depth=5, min_child_weight=30.0, colsample_bytree=0.5, reg_lambda=5.0,
    members=1, rounds=800, patience=30,
)  # fmt: skip
"""Trees of tissues given others: a strong signal, few columns."""

TOKENS = 12
"""Neighbours that the transformer is shown."""

SIMILAR = (5, 20, 60)
"""Numbers of genes with similar profiles that are averaged for genes seen in part."""

TOKENS_PARTLY = 4
"""The same where tissues are tokens too."""
