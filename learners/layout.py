"""What a fitted learner remembers of its features, so that others are refused by name."""

from __future__ import annotations

from typing import Any

from featurestore.errors import InputError
from learners.batch import FeatureBatch


def layout_of(batch: FeatureBatch) -> dict[str, Any]:
    """Names, kinds and row shapes of the features, in order; plain JSON."""
    return {
        name: {"kind": block.kind, "shape": list(block.source.shape)}
        for name, block in batch.blocks.items()
    }


def check_layout(expected: dict[str, Any], batch: FeatureBatch) -> None:
    """Refuse a batch whose features are not those of the fit.

    Raises
    ------
    InputError
        Naming the features, kinds and shapes of both.
    """
    found = layout_of(batch)
    if list(found.items()) != list(expected.items()):
        raise InputError(
            f"the learner was fitted on {_words(expected)}, this batch has {_words(found)}; "
            "give it the same features in the same order"
        )


def require_features(batch: FeatureBatch, learner: str) -> None:
    """Refuse a batch without a single column.

    Raises
    ------
    InputError
        If the batch has no feature.
    """
    if batch.columns == 0:
        raise InputError(f"{learner} needs at least one feature; choose some with --features")


def _words(layout: dict[str, Any]) -> str:
    parts = [f"{name} {tuple(x['shape'])} ({x['kind']})" for name, x in layout.items()]
    return ", ".join(parts) or "no features"
