"""A costly model whose numbers are a digest of its input, and that notes every window it sees."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest

import featurestore.embedders.registry as registry
from featurestore.build.shards import tasks
from featurestore.embedders.base import EmbedderSpec


class Noting:
    """Four numbers from the sha256 of a window of ``window`` bp, under a given checkpoint."""

    seen: list[bytes] = []  # noqa: RUF012 - shared by all instances on purpose
    fails_after: int | None = None

    def __init__(self, window: int = 160, checkpoint: str = "a", context: str = "bin") -> None:
        self.key = f"{window} {checkpoint}".encode()
        self.spec = EmbedderSpec(
            type="noting", outputs={"embedding": 4, "score": 0}, input_bp=window, batch=8, context=context,
            digest=hashlib.sha256(checkpoint.encode()).hexdigest(), checkpoint=checkpoint,
        )  # fmt: skip

    def load(self, device: str | None) -> None:
        """Nothing to load."""

    def embed(self, codes):
        real = [row.tobytes() for row in codes if (row < 4).any()]
        kind = type(self)
        if kind.fails_after is not None and len(kind.seen) + len(real) > kind.fails_after:
            raise RuntimeError("the machine dies")
        kind.seen += real
        digests = [hashlib.sha256(self.key + row.tobytes()).digest()[:5] for row in codes]
        values = np.array([list(d) for d in digests], np.float32).reshape(len(codes), 5)
        return {"embedding": values[:, :4], "score": values[:, 4]}


@pytest.fixture
def noting(monkeypatch) -> Iterator[type[Noting]]:
    """The model, as embedder type ``noting``; every shard holds eight genes."""
    original = registry.embedder_class
    monkeypatch.setattr(
        registry, "embedder_class", lambda name: Noting if name == "noting" else original(name)
    )
    monkeypatch.setattr("featurestore.schema.SHARD_GENES", 8)
    tasks._embedder.cache_clear()
    Noting.seen, Noting.fails_after = [], None
    yield Noting
    tasks._embedder.cache_clear()
