"""Decides what a store consists of, shard by shard, before anything is computed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.build.group_plan import (
    GENOME_CHUNKS_PER_TASK,
    STORED_DTYPE,
    BuildPlan,
    GroupPlan,
    SpeciesPlan,
    Task,
    digest_arrays,
    digest_json,
)
from featurestore.build.variant_plan import variant_groups
from featurestore.build.window_source import WindowSource
from featurestore.embedders.base import Embedder, EmbedderSpec
from featurestore.embedders.registry import make_embedder
from featurestore.errors import InputError
from featurestore.inputs.model import SpeciesData
from featurestore.schema import BASES_CHUNK, RESERVED_NAMES, SCHEMA_VERSION, shard_genes

__all__ = ["BuildPlan", "GroupPlan", "SpeciesPlan", "Task", "plan_species"]


def windows_digest(data: SpeciesData, bin_bp: int) -> str:
    """Digest of everything that decides the windows of a species, gene by gene in order."""
    source = data.genome.code if data.genome is not None else data.region_code
    return digest_json(
        {
            "bin": bin_bp,
            "regions": [asdict(r) for r in data.regions],
            "genes": digest_json([data.gene, data.contig]),
            "place": digest_arrays(data.strand, data.tss, data.tts),
            "bases": digest_arrays(source) if source is not None else "",
            "lengths": "" if data.region_length is None else digest_arrays(data.region_length),
        }
    )


def _keys(rows: int, shard_rows: int, identity: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        digest_json(
            {
                "schema": SCHEMA_VERSION,
                **identity,
                "rows": [first, min(first + shard_rows, rows), shard_rows],
            }
        )
        for first in range(0, rows, shard_rows)
    )


def _fixed_groups(data: SpeciesData, windows: str, source: WindowSource | None) -> list[GroupPlan]:
    n, groups = len(data.gene), []
    if data.genome is not None:
        chunks = -(-len(data.genome.code) // BASES_CHUNK)
        identity = {"group": "genome", "bases": digest_arrays(data.genome.code)}
        groups.append(
            GroupPlan("genome", "genome", chunks, GENOME_CHUNKS_PER_TASK,
                      _keys(chunks, GENOME_CHUNKS_PER_TASK, identity))
        )  # fmt: skip
    if source is not None:
        size = shard_genes(len(source.regions) * source.positions, n)
        groups.append(
            GroupPlan("sequence", "sequence", n, size, _keys(n, size, {"sequence": windows}))
        )
    if data.expression is not None:
        size = shard_genes(max(len(data.expression.sample), 1) * 4, n)
        identity = {"group": "expression", "value": digest_arrays(data.expression.value)}
        groups.append(GroupPlan("expression", "expression", n, size, _keys(n, size, identity)))
    return groups


def check_spec(name: str, spec: EmbedderSpec, bin_bp: int) -> None:
    """Refuse an embedder that cannot be stored under its name or with these bins."""
    if name in RESERVED_NAMES:
        raise InputError(
            f"[embedders.{name}]: the name is reserved ({', '.join(sorted(RESERVED_NAMES))}); choose another"
        )
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError(
            f"[embedders.{name}]: a feature is named group.array:reduction, so a group's name has only "
            "letters, digits, _ and -; choose another"
        )
    if spec.type == "onehot":
        return  # stored as the group sequence, under whatever name
    if spec.context not in {"bin", "region"}:
        raise InputError(
            f"[embedders.{name}]: type {spec.type!r} has context {spec.context!r}, which this build does not lay out"
        )
    if spec.span_bp is not None and spec.span_bp != bin_bp:
        raise InputError(
            f"[embedders.{name}]: a vector stands for {spec.span_bp} bp, a bin of the data set is {bin_bp} bp; set "
            f'recipe = {{ base = "empres", span = {bin_bp} }} in [embedders.{name}], or [regions] bin = {spec.span_bp}'
        )
    if spec.input_bp is not None and spec.input_bp < bin_bp:
        raise InputError(
            f"[embedders.{name}]: its input window of {spec.input_bp} bp is shorter than a bin of {bin_bp} bp; "
            f"set [regions] bin = {spec.input_bp} or less"
        )


def group_bins(context: str, source: WindowSource) -> int:
    """Bins of an embedder's arrays: one a region where a vector stands for a whole one."""
    return 1 if context == "region" else source.bins


def embedder_group(
    name: str,
    config: Mapping[str, Any],
    embedder: Embedder,
    source: WindowSource,
    windows: str,
    bin_bp: int,
) -> GroupPlan:
    """Plan one embedder for one species."""
    check_spec(name, embedder.spec, bin_bp)
    widest = max(math.prod(shape) for shape in embedder.spec.shapes().values())
    bins = group_bins(embedder.spec.context, source)
    row = len(source.regions) * bins * widest * np.dtype(STORED_DTYPE).itemsize
    size = shard_genes(row, source.genes)
    identity = {"embedder": embedder.spec.identity_digest(), "windows": windows}
    return GroupPlan(
        name, "embedder", source.genes, size, _keys(source.genes, size, identity), dict(config), embedder.spec.identity()
    )  # fmt: skip


def _check_contexts(data: SpeciesData, embedded: list[GroupPlan]) -> None:
    for group in embedded:
        if group.identity["context"] == "region":
            raise InputError(
                f"[embedders.{group.name}]: one vector a region, but {data.name} has variant sets "
                f"({', '.join(data.haplotypes)}), which are stored as the bins they change; use a recipe of bins and "
                f"read {group.name}:pooled"
            )


def plan_species(
    data: SpeciesData, inputs: Path, embedders: Mapping[str, Mapping[str, Any]], bin_bp: int
) -> SpeciesPlan:
    """Plan all groups of one species whose windows :func:`lay_down` has written to ``inputs``."""
    has_sequence = data.kind != "positions"
    source = WindowSource(inputs) if has_sequence and data.gene else None
    windows = windows_digest(data, bin_bp)
    groups = _fixed_groups(data, windows, source)
    if source is not None:
        for name, config in embedders.items():
            embedder = make_embedder(name, config)
            if embedder.spec.type != "onehot":
                groups.append(embedder_group(name, config, embedder, source, windows, bin_bp))
        embedded = [g for g in groups if g.kind == "embedder"]
        if data.haplotypes:
            _check_contexts(data, embedded)
        groups += variant_groups(data, inputs, source, embedded)
    samples = len(data.expression.sample) if data.expression is not None else 0
    return SpeciesPlan(data.name, len(data.gene), samples, tuple(groups))
