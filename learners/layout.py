"""What a fitted learner remembers of its features, so that others are refused by name."""

from __future__ import annotations

from typing import Any

from featurestore.errors import InputError
from learners.base import LearnerInfo
from learners.batch import Block, FeatureBatch


def accepts(info: LearnerInfo, kind: str) -> bool:
    """Whether a learner takes a kind of feature; tabular learners are given bins flattened."""
    return kind in info.inputs or (kind == "bins" and "tabular" in info.inputs)


def layout_of(batch: FeatureBatch) -> dict[str, Any]:
    """Names, kinds and row shapes of the features, in order; plain JSON.

    Base codes of a store also have ``windows``: anchor, upstream and downstream of each region.
    """
    return {
        name: {"kind": block.kind, "shape": list(block.source.shape), **_windows(block)}
        for name, block in batch.blocks.items()
    }


def _windows(block: Block) -> dict[str, Any]:
    """Where the regions of codes lie, if their source says so."""
    coords = block.source.coords
    if block.kind != "codes" or not {"anchor", "upstream", "downstream"} <= set(coords):
        return {}
    columns = (coords[name].tolist() for name in ("anchor", "upstream", "downstream"))
    return {
        "windows": [
            {"anchor": str(anchor), "upstream": int(up), "downstream": int(down)}
            for anchor, up, down in zip(*columns, strict=True)
        ]
    }


def check_layout(expected: dict[str, Any], batch: FeatureBatch) -> None:
    """Refuse a batch whose features are not those of the fit.

    Raises
    ------
    InputError
        Naming the features, kinds and shapes of both.
    """
    found = layout_of(batch)
    same = list(found) == list(expected)
    if not same or not all(_agree(expected[name], found[name]) for name in found):
        raise InputError(
            f"the learner was fitted on {_words(expected)}, this batch has {_words(found)}; "
            "give it the same features in the same order"
        )


def _agree(expected: dict[str, Any], found: dict[str, Any]) -> bool:
    """Equal; where one of them does not say where its regions lie, but for that."""
    known = expected.keys() & found.keys()
    return {"kind", "shape"} <= known and all(expected[key] == found[key] for key in known)


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
    parts = [f"{name} {tuple(x['shape'])} ({x['kind']}{_spans(x)})" for name, x in layout.items()]
    return ", ".join(parts) or "no features"


def _spans(feature: dict[str, Any]) -> str:
    spans = [
        f"−{w['upstream']} … +{w['downstream']} at the {w['anchor'].upper()}"
        for w in feature.get("windows", [])
    ]
    return f"; {', '.join(spans)}" if spans else ""
