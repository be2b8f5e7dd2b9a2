"""The masked-token objective: which bases are predicted, and what the model sees in their place.

As in BERT (Devlin et al. 2019) and PlantCaduceus: 15 % of bases are selected; of those 80 % read
[MASK], 10 % a base drawn at random, 10 % stay. The loss counts selected bases alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurestore.sequence.iupac import N

SELECTED: Final = 0.15
MASKED: Final = 0.8
REPLACED: Final = 0.1
IGNORED: Final = -100
"""Label of a position that does not count."""


@dataclass(frozen=True)
class Masked:
    """A masked batch.

    Parameters
    ----------
    input_ids, labels : int64 arrays, shape (n, window)
        Tokens; labels are :data:`IGNORED` wherever a base was not selected.
    """

    input_ids: NDArray[np.int64]
    labels: NDArray[np.int64]


def mask(
    code: NDArray[np.uint8],
    rng: np.random.Generator,
    *,
    selected: float = SELECTED,
    masked: float = MASKED,
    replaced: float = REPLACED,
) -> Masked:
    """Select bases of windows and hide them.

    Only A, C, G and T are ever selected, at least one in a batch that has any.

    Parameters
    ----------
    code : uint8 array, shape (n, window)
        IUPAC codes.
    selected, masked, replaced : float
        Shares: of bases that count, and of those what reads [MASK] and what a random base.
    """
    from featurestore.embedders.plantcaduceus.tokenizer import BASE_IDS, ID_OF_CODE, MASK_ID

    tokens = ID_OF_CODE[code].astype(np.int64)
    known = code < N
    chosen = known & (rng.random(code.shape) < selected)
    how = rng.random(code.shape)
    other = np.asarray(BASE_IDS)[rng.integers(0, 4, code.shape)]
    if not chosen.any() and known.any():
        chosen.flat[rng.choice(np.flatnonzero(known))] = True
    labels = np.where(chosen, tokens, IGNORED)
    seen = np.where(chosen & (how < masked), MASK_ID, tokens)
    seen = np.where(chosen & (how >= masked) & (how < masked + replaced), other, seen)
    return Masked(seen, labels)
