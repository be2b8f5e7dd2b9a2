"""A training on disk, so that it can be taken up where it was killed.

One safetensors file per fit, whose header holds the rest as JSON: nothing that is executed when
it is read. It is replaced whole, so that a kill leaves the one before or the one after.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from learners.batch import FeatureBatch

_HEADER: Final = "training"
_SAMPLED: Final = 8
"""Genes of which the features themselves enter the identity of a fit."""


class Checkpoint:
    """The file of one fit in a folder that may hold those of others.

    Parameters
    ----------
    folder : Path
        Made when something is written.
    digest : str
        Of all that the fit depends on; see :func:`digest_of_fit`.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self.path = folder / f"{digest[:32]}.safetensors"
        self._digest = digest

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and facts of this very fit; None where there are none, or none that are whole."""
        try:
            with safe_open(self.path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})[_HEADER])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        return (tensors, facts) if facts.get("digest") == self._digest else None

    def write(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replace what is there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        header = {_HEADER: json.dumps({**facts, "digest": self._digest})}
        # Views of one memory are refused by safetensors; copies on the CPU never are.
        copies = {
            name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()
        }
        save_file(copies, partial, metadata=header)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(self.path)

    def remove(self) -> None:
        """Leave nothing of the fit."""
        self.path.unlink(missing_ok=True)


def digest_of_fit(train: FeatureBatch, valid: FeatureBatch, settings: Mapping[str, Any]) -> str:
    """Sha256 of what a fit depends on: settings, genes, targets, and features of a few genes.

    Parameters
    ----------
    train, valid : FeatureBatch
    settings : mapping
        Plain JSON: network, plan, seed, budget.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for batch in (train, valid):
        digest.update("\n".join(batch.gene.tolist()).encode())
        if batch.sample is not None:
            digest.update("\n".join(batch.sample.tolist()).encode())
        mask = batch.mask
        targets = batch.require_targets()
        digest.update(np.where(True if mask is None else mask, targets, 0.0).tobytes())
        digest.update(b"" if mask is None else mask.tobytes())
        some = np.unique(np.linspace(0, len(batch) - 1, min(len(batch), _SAMPLED)).astype(np.int64))
        for name, block in batch.blocks.items():
            digest.update(f"{name} {block.shape}".encode())
            digest.update(np.ascontiguousarray(block.read(some)).tobytes())
    return digest.hexdigest()
