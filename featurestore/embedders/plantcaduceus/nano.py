"""Where the small pre-trained model that ships with the package lies."""

from __future__ import annotations

from pathlib import Path
from typing import Final

NANO: Final = "plantcaduceus-nano"
"""Checkpoint name of the shipped model."""


def nano_folder() -> Path:
    """Folder of the shipped model: config.json, model.safetensors, README.md (its card)."""
    return Path(__file__).with_name("nano")
