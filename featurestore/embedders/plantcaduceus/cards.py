"""What is known of published checkpoints, by hub id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class ModelCard:
    """Licence and pre-training species of a checkpoint."""

    licence: str
    pretraining_species: tuple[str, ...]


CARDS: Final[dict[str, ModelCard]] = {}


def card_of(name: str) -> ModelCard | None:
    """The card of a checkpoint by hub id, or by the last part of it."""
    last = name.rsplit("/", 1)[-1]
    return next((card for key, card in CARDS.items() if key.rsplit("/", 1)[-1] == last), None)
