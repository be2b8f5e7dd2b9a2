"""Plans the groups of the variant sets: which bins each haplotype changes, cut into shards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.build.planning.group_plan import (
    STORED_DTYPE,
    GroupKind,
    GroupPlan,
    digest_arrays,
    digest_json,
)
from featurestore.build.windows.haplotype_source import (
    REGIONS,
    ChangedInputs,
    HaplotypeSource,
    lay_down_haplotypes,
    rows_name,
)
from featurestore.build.windows.window_source import WindowSource, source_for
from featurestore.embedders.base import identity_digest, is_gene_centred, vector_shapes
from featurestore.inputs.model import SpeciesData
from featurestore.schema import SCHEMA_VERSION, SHARD_WINDOWS, packed_rows


def set_folder(inputs: Path, name: str) -> Path:
    """Where the haplotypes of a set lie below the inputs of its species."""
    return inputs / "variants" / name


def variant_groups(
    data: SpeciesData, inputs: Path, source: WindowSource, embedders: list[GroupPlan]
) -> list[GroupPlan]:
    """Plan all variant sets of one species; writes haplotypes and their rows below ``inputs``.

    Parameters
    ----------
    embedders : list of GroupPlan
        The embedders of the reference: each of them embeds every set.
    """
    groups: list[GroupPlan] = []
    for name, found in data.haplotypes.items():
        folder = set_folder(inputs, name)
        lay_down_haplotypes(folder, found)
        haplotypes = HaplotypeSource(source, folder)
        base = f"variants/{name}"
        groups.append(GroupPlan(base, "variants", len(found.haplotype), 1, ()))
        regions = haplotypes.changed_regions()
        regions.save(folder, REGIONS)
        groups.append(
            _group(f"{base}/sequence", "variant_sequence", regions, source.positions, "sequence")
        )
        changed: dict[str, ChangedInputs] = {}
        for embedder in embedders:
            rows = rows_name(embedder.identity)
            if rows not in changed:
                own = HaplotypeSource(source_for(source, embedder.identity), folder)
                changed[rows] = own.changed_inputs(embedder.identity["input_bp"])
                changed[rows].save(folder, rows)
            widest = max(math.prod(s) for s in vector_shapes(embedder.identity).values())
            groups.append(
                _group(
                    f"{base}/{embedder.name}", "variant_embedder", changed[rows],
                    widest * np.dtype(STORED_DTYPE).itemsize, identity_digest(embedder.identity),
                    embedder.embedder, embedder.identity,
                )
            )  # fmt: skip
    return groups


def _group(
    name: str, kind: GroupKind, rows: ChangedInputs, row_bytes: int, identity: str,
    embedder: Mapping[str, Any] | None = None, spec: Mapping[str, Any] | None = None,
) -> GroupPlan:  # fmt: skip
    count = len(rows.place)
    size = packed_rows(row_bytes, count)
    if spec and is_gene_centred(spec):
        size = min(size, SHARD_WINDOWS)
    keys = tuple(
        digest_json(
            {
                "schema": SCHEMA_VERSION, "group": kind, "identity": identity, "shard_rows": size,
                "rows": digest_arrays(rows.place[i : i + size], rows.digest[i : i + size]),
            }
        )
        for i in range(0, count, size)
    )  # fmt: skip
    return GroupPlan(name, kind, count, size, keys, embedder or {}, spec or {})
