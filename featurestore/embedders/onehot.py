"""``onehot``: the bases themselves. Stored once as codes (group ``sequence``), expanded when read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.embedders.base import EmbedderSpec
from featurestore.sequence.iupac import one_hot


class OneHot:
    """Fractional one-hot of the region's bases, in the order A C G T.

    One-hot floats would take sixteen times the disk of the codes that they follow from, so the
    store keeps ``sequence/code`` and readers expand it: the feature ``onehot`` is that array.
    """

    def __init__(self) -> None:
        self.spec = EmbedderSpec(
            type="onehot",
            outputs={},
            input_bp=None,
            context="region",
            iupac_rule="fractional: R = 1/2 A + 1/2 G … N = 1/4 each",
            pooling="none",
            costly=False,
        )

    def load(self, device: str | None) -> None:
        """Nothing to load."""

    def embed(self, codes: NDArray[np.uint8]) -> dict[str, NDArray[np.floating[Any]]]:
        """One-hot of codes, shape (n, length) → (n, length, 4) under the name ``onehot``."""
        return {"onehot": one_hot(codes)}
