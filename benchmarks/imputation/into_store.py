"""The completed table as group ``imputed`` of a store."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.imputation.complete import Completion
from featurestore.build.sealing.join import join_group
from featurestore.schema import IMPUTED, shard_genes, spec_of
from featurestore.store.manifest import Manifest
from featurestore.store.shard import write_block
from featurestore.store.templates import chunk_path, create_array, create_group, write_whole

GROUP = "imputed"


def write_into_store(store: Path, done: Completion, about: Mapping[str, Any]) -> Manifest:
    """Write ``<species>/imputed`` for every species, some genes at a time.

    Returns
    -------
    Manifest
        Of the store as it is now.
    """
    manifest: Manifest | None = None
    species = done.genes["species"].to_numpy(object)
    for name in dict.fromkeys(species.tolist()):
        rows = np.flatnonzero(species == name).astype(np.int64)
        base = f"{name}/{GROUP}"
        manifest = join_group(store, base, partial(_write, base, done, rows, about))
    assert manifest is not None  # noqa: S101 - a store has species
    return manifest


def _write(
    base: str, done: Completion, rows: NDArray[np.int64], about: Mapping[str, Any], root: Path
) -> None:
    several = len(done.genotypes) > 1
    attributes = {"unit": done.unit, "meristem": dict(about)}
    create_group(root, base, attributes)
    write_whole(root, f"{base}/tissue", spec_of("imputed/tissue"), list(done.tissues))
    if several:
        write_whole(root, f"{base}/genotype", spec_of("imputed/genotype"), list(done.genotypes))
    shape: tuple[int, ...] = (len(rows), len(done.tissues))
    shape = (*shape, len(done.genotypes)) if several else shape
    size = shard_genes(4 * int(np.prod(shape[1:])), len(rows))
    arrays = [spec for spec in IMPUTED if spec.dims[0] == "gene"]
    for spec in arrays:
        create_array(
            root, f"{base}/{spec.name}", spec, shape, chunk_rows=size, attributes=attributes
        )
    for number, start in enumerate(range(0, len(rows), size)):
        held: dict[str, list[Any]] = {spec.name: [] for spec in arrays}
        for filled in done.chunks(rows[start : start + size]):
            for name, parts in held.items():
                values = getattr(filled, name)
                parts.append(values if several else values[:, :, 0])
        for spec in arrays:
            block = np.concatenate(held[spec.name])
            place = (number, *(0,) * (block.ndim - 1))
            write_block(chunk_path(root, f"{base}/{spec.name}", place), block, size, spec.fill)
