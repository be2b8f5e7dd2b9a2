"""The interface of a masked model: windows of base codes in, probabilities of the masked base out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from featurestore.embedders.base import Embedder
from featurestore.errors import InputError

MASKED_TYPES: Final[Mapping[str, str]] = {
    "plantcaduceus": "featurestore.score.plantcaduceus:MaskedPlantCaduceus",
    "plantcaduceus-nano": "featurestore.score.plantcaduceus:MaskedPlantCaduceus",
}
"""Embedder type → the class that scores with its weights; made with the embedder."""


@runtime_checkable
class MaskedModel(Protocol):
    """A model that says which base it expects at one masked position of a window.

    Parameters
    ----------
    window : int
        Bases of one input.
    mask_index : int
        0-based position in the window that is masked: where the variant stands.
    dtype : str
        Compute dtype.
    batch : int
        Windows of one call on the device at hand; known after :meth:`load`.
    facts : mapping
        Plain types that identify the model: type, checkpoint, digest, licence.
    """

    window: int
    mask_index: int
    dtype: str
    batch: int
    facts: Mapping[str, Any]

    def load(self, device: str | None) -> None:
        """Make ready on ``device`` (``cpu``, ``cuda``, ``cuda:1``); None chooses."""

    def log_probabilities(self, codes: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Natural logarithms of the probabilities of A, C, G, T at the masked position.

        Parameters
        ----------
        codes : uint8 array, shape (n, window)
            IUPAC codes. What stands at ``mask_index`` is not looked at.

        Returns
        -------
        float64 array, shape (n, 4)
            Of the four bases alone: their probabilities add up to one.
        """
        ...


def masked_model(embedder: Embedder, *, dtype: str = "fp32") -> MaskedModel:
    """The masked model behind an embedder.

    An embedder of a plug-in gives its own: a method ``masked_model(dtype)``.

    Parameters
    ----------
    embedder : Embedder
        Made, not loaded.
    dtype : {"fp32", "bf16", "fp16"}
        Of the score, whatever the embedder computes its vectors in.

    Raises
    ------
    InputError
        If its type is no masked language model.
    """
    if hasattr(embedder, "masked_model"):
        own: MaskedModel = embedder.masked_model(dtype)
        return own
    kind = embedder.spec.type
    if kind not in MASKED_TYPES:
        raise InputError(
            f"an embedder of type {kind!r} gives no probabilities of bases, so it scores no variants; "
            f"types that do: {', '.join(MASKED_TYPES)}"
        )
    module, _, name = MASKED_TYPES[kind].partition(":")
    made: MaskedModel = getattr(import_module(module), name)(embedder, dtype)
    return made


def can_score(type_name: str) -> bool:
    """Whether embedders of a type have a masked model, as far as can be told without making one."""
    from featurestore.embedders.registry import embedder_class
    from featurestore.errors import MeristemError

    if type_name in MASKED_TYPES:
        return True
    try:
        return hasattr(embedder_class(type_name), "masked_model")
    except MeristemError:
        return False
