"""An embedder that takes its time, and dies of a window if told to.

Its numbers are exact integers, the same on every machine. How long it takes and what it dies of
stand in the environment, so that they are no part of what the store depends on:

``SLOW_SECONDS``   per window
``SLOW_JITTER``    per batch, up to so much more at random: shards end in another order each time
``SLOW_POISON``    digest of the window it dies of (:func:`digest_of`)
``SLOW_DEATH``     how: exit, segv, memory, raise
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time

import numpy as np

from featurestore.embedders.base import EmbedderSpec

PIECE = 1 << 24


def digest_of(window) -> str:
    """What names a window."""
    return hashlib.sha256(np.asarray(window, np.uint8).tobytes()).hexdigest()[:16]


class Slow:
    """Weighted sums of base codes, slowly."""

    def __init__(self, channels: int = 256, batch: int = 16) -> None:
        self.spec = EmbedderSpec(
            type="slow", outputs={"embedding": channels}, input_bp=None, batch=batch, costly=True,
            iupac_rule="by code", parameters={"channels": channels, "batch": batch},
        )  # fmt: skip

    def load(self, device):
        rng = np.random.default_rng(11)
        self._weights = rng.integers(0, 997, (100, self.spec.outputs["embedding"]))

    def embed(self, codes):
        windows = codes[(codes < 4).any(axis=1)]
        if poison := os.environ.get("SLOW_POISON"):
            fuse = os.environ.get("SLOW_FUSE")
            if any(digest_of(w) == poison for w in windows) and not (
                fuse and not os.path.exists(fuse)
            ):
                die(os.environ["SLOW_DEATH"])
        time.sleep(float(os.environ.get("SLOW_SECONDS", "0")) * len(windows))
        time.sleep(random.random() * float(os.environ.get("SLOW_JITTER", "0")))
        sums = codes.astype(np.int64) @ self._weights[: codes.shape[1]]
        return {"embedding": ((sums % 1009) / 1024).astype(np.float32)}


class SlowGenes(Slow):
    """The same of eight bins of one long window a gene."""

    def __init__(self, channels: int = 64, batch: int = 4) -> None:
        self.spec = EmbedderSpec(
            type="slow_genes", outputs={"embedding": channels}, input_bp=800, positions=8, batch=batch,
            context="gene", anchor="tss", parameters={"channels": channels, "batch": batch},
        )  # fmt: skip

    def embed(self, codes):
        found = super().embed(codes.reshape(-1, 100))["embedding"]
        return {"embedding": found.reshape(len(codes), 8, -1)}


def die(how: str) -> None:
    """Die as told."""
    if how == "exit":
        os._exit(7)
    if how == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(60)
    if how == "raise":
        raise ValueError("this window is poison")
    hoard = []
    while len(hoard) < 256:  # 4 GiB at most, in steps that a watch can see
        hoard.append(np.ones(PIECE, np.uint8))
        time.sleep(0.02)
    time.sleep(60)
