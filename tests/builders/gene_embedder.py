"""Costly embedders of one window a gene, whose numbers plain Python gives as well."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import featurestore.embedders.registry as registry
from featurestore.build.shards import recompute, tasks
from featurestore.embedders.base import EmbedderSpec


class Composition:
    """Share of A, C, G and T in each of the bins of a window, and its share of G and C as one number a bin."""

    seen: list[bytes] = []  # noqa: RUF012 - shared by all instances on purpose
    largest: int = 0
    fails_after: int | None = None

    def __init__(
        self, window: int = 3200, bins: int = 5, anchor: str = "tss", key: str = "a", batch: int = 4,
        apart: bool = True,
    ) -> None:  # fmt: skip
        self.bins = bins
        self.spec = EmbedderSpec(
            type="composition", outputs={"embedding": 4, "gc": 0} if apart else {"embedding": 4},
            input_bp=window, positions=bins if apart else 0, context="gene", anchor=anchor, batch=batch,
            digest=hashlib.sha256(key.encode()).hexdigest(),
            parameters={"window": window, "bins": bins, "anchor": anchor, "key": key, "batch": batch, "apart": apart},
        )  # fmt: skip

    def load(self, device: str | None) -> None:
        """Nothing to load."""

    def embed(self, codes):
        kind = type(self)
        real = [row.tobytes() for row in codes if (row < 4).any()]
        kind.largest = max(kind.largest, len(codes))
        if kind.fails_after is not None and len(kind.seen) + len(real) > kind.fails_after:
            raise RuntimeError("the machine dies")
        kind.seen += real
        binned = codes.reshape(len(codes), self.bins, -1)
        share = np.stack([(binned == base).mean(axis=2) for base in range(4)], axis=-1)
        if not self.spec.positions:
            return {"embedding": share[:, 0].astype(np.float32)}
        return {"embedding": share.astype(np.float32), "gc": share[..., 1] + share[..., 2]}


@contextmanager
def registered_composition() -> Iterator[type[Composition]]:
    """``composition`` as an embedder type of this process; a shard holds eight genes."""
    original = registry.embedder_class
    with pytest.MonkeyPatch.context() as patch:
        for module in (registry, recompute):
            patch.setattr(
                module,
                "embedder_class",
                lambda name: Composition if name == "composition" else original(name),
            )
        patch.setattr("featurestore.schema.SHARD_GENES", 8)
        tasks._embedder.cache_clear()
        Composition.seen, Composition.fails_after, Composition.largest = [], None, 0
        yield Composition
        tasks._embedder.cache_clear()
