"""Lays out the shard of vectors that are read, not computed: an embedder that has rows of genes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from featurestore.build.shards.compute import STORED, EmbeddedRange
from featurestore.build.windows.window_kernels import DIGEST_BYTES
from featurestore.build.windows.window_source import WindowSource
from featurestore.schema import Status
from featurestore.sequence.windows import bin_validity


@runtime_checkable
class GivenRows(Protocol):
    """An embedder whose vectors belong to genes: they are looked up by id."""

    def rows(
        self, species: str, genes: Sequence[str], regions: Sequence[str], bins: int
    ) -> dict[str, NDArray[Any]]:
        """By output, shape (gene, region, bin[, channel])."""
        ...


def given_range(
    embedder: GivenRows, source: WindowSource, inputs: Path, species: str, first: int, last: int
) -> EmbeddedRange:
    """Vectors of genes ``first`` … ``last`` − 1 as they are given, float16.

    The digest of the model input is zeros: what the model read is not known. A region with a value
    that float16 cannot hold, or with NaN, is ``failed``.

    Parameters
    ----------
    inputs : Path
        Where the species was laid down; its ``genes.json`` names the genes.
    """
    genes = json.loads((inputs / "genes.json").read_text())[first:last]
    lengths = np.asarray(source.region_length[first:last])
    found = embedder.rows(species, genes, [r.name for r in source.regions], source.bins)
    status = np.where(lengths == 0, np.uint8(Status.ABSENT), np.uint8(Status.OK))
    outputs: dict[str, NDArray[Any]] = {}
    failures: list[str] = []
    for name, values in found.items():
        with np.errstate(over="ignore"):  # reported as a failure
            stored = values.astype(STORED)
        finite = np.isfinite(stored).reshape(*lengths.shape, -1).all(axis=-1)
        for g, r in np.argwhere(~finite & (lengths > 0)).tolist():
            failures.append(f"gene {genes[g]}, region {r}: {name} is not finite in float16")
        status = np.where(~finite & (lengths > 0), np.uint8(Status.FAILED), status)
        outputs[name] = stored
    for stored in outputs.values():
        stored[status != Status.OK] = np.nan
    valid = bin_validity(lengths, source.regions, source.bin_bp)
    digest = np.zeros((*valid.shape, DIGEST_BYTES), np.uint8)
    return EmbeddedRange(outputs, status, digest, valid, failures=failures)
