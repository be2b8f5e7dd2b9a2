"""Decides what a store consists of, shard by shard, before anything is computed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featurestore.build.planning.group_plan import (
    GENOME_CHUNKS_PER_TASK,
    BuildPlan,
    GroupPlan,
    SpeciesPlan,
    Task,
    digest_json,
    vector_bytes,
)
from featurestore.build.planning.shard_content import row_content, window_content
from featurestore.build.planning.variant_plan import variant_groups
from featurestore.build.windows.window_source import WindowSource, source_for
from featurestore.embedders.base import Embedder, EmbedderSpec, is_gene_centred
from featurestore.embedders.registry import make_embedder
from featurestore.errors import InputError
from featurestore.inputs.model import SpeciesData
from featurestore.schema import (
    BASES_CHUNK,
    RESERVED_NAMES,
    SCHEMA_VERSION,
    SHARD_WINDOWS,
    shard_genes,
)

__all__ = ["BuildPlan", "GroupPlan", "SpeciesPlan", "Task", "plan_species"]


def _keys(identity: Mapping[str, Any], content: Sequence[str], shard_rows: int) -> tuple[str, ...]:
    """Keys of the shards of a group.

    Parameters
    ----------
    identity : mapping
        What the values of all shards follow from.
    content : sequence of str
        Digest of what each shard itself follows from.
    """
    frame = {"schema": SCHEMA_VERSION, "rows": shard_rows, **identity}
    return tuple(digest_json({**frame, "content": own}) for own in content)


def _fixed_groups(data: SpeciesData, source: WindowSource | None) -> list[GroupPlan]:
    n, groups = len(data.gene), []
    if data.genome is not None:
        chunks = -(-len(data.genome.code) // BASES_CHUNK)
        content = row_content(data.genome.code, GENOME_CHUNKS_PER_TASK * BASES_CHUNK)
        groups.append(
            GroupPlan("genome", "genome", chunks, GENOME_CHUNKS_PER_TASK,
                      _keys({"group": "genome"}, content, GENOME_CHUNKS_PER_TASK))
        )  # fmt: skip
    if source is not None:
        size = shard_genes(len(source.regions) * source.positions, n)
        content = window_content(source, size, None)
        groups.append(
            GroupPlan("sequence", "sequence", n, size, _keys({"group": "sequence"}, content, size))
        )
    if data.expression is not None:
        size = shard_genes(max(len(data.expression.sample), 1) * 4, n)
        content = row_content(data.expression.value, size)
        groups.append(
            GroupPlan(
                "expression", "expression", n, size, _keys({"group": "expression"}, content, size)
            )
        )
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
    if spec.context == "gene":
        _check_gene_centred(name, spec)
        return
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


def _check_gene_centred(name: str, spec: EmbedderSpec) -> None:
    """Refuse an embedder that does not say which window of a gene it reads, or what its bins are."""
    try:
        if spec.anchor not in {"tss", "tts"} or not spec.input_bp:
            raise ValueError(
                f"anchor {spec.anchor!r}, input_bp {spec.input_bp!r}: say tss or tts, and a length"
            )
        spec.bin_start()
    except ValueError as error:
        raise InputError(
            f"[embedders.{name}]: type {spec.type!r} has context 'gene', and its specification cannot be laid "
            f"out: {error}"
        ) from error


def _check_source(data: SpeciesData, name: str, spec: EmbedderSpec) -> None:
    """Refuse an embedder of long windows where there is no genome, or no haplotype around its anchor."""
    if spec.context != "gene":
        return
    if data.genome is None:
        raise InputError(
            f"[embedders.{name}]: type {spec.type!r} reads {spec.input_bp:,} bp around the "
            f"{str(spec.anchor).upper()} of each gene from the genome, and {data.name} has none: its sequences are "
            f"ready-made. Give genome and annotation in [species.{data.name}], or leave {name} out: name the others "
            "with --embedder"
        )
    if data.haplotypes and all(r.anchor != spec.anchor for r in data.regions):
        raise InputError(
            f"[embedders.{name}]: haplotypes of {data.name} ({', '.join(data.haplotypes)}) are those of the windows of "
            f"[regions], none of which lies around the {str(spec.anchor).upper()}; add such a region, or leave out "
            f"variants or {name}"
        )


def group_bins(context: str, source: WindowSource) -> int:
    """Bins of an embedder's arrays: one a region where a vector stands for a whole one."""
    return 1 if context == "region" else source.bins


def embedder_group(
    name: str, config: Mapping[str, Any], embedder: Embedder, source: WindowSource, bin_bp: int,
    *, keyed: bool = True,
) -> GroupPlan:  # fmt: skip
    """Plan one embedder for one species; without keys only its shards are counted."""
    check_spec(name, embedder.spec, bin_bp)
    source = source_for(source, embedder.spec.identity())
    bins = group_bins(embedder.spec.context, source)
    row = len(source.regions) * bins * max(map(vector_bytes, embedder.spec.shapes().values()))
    size = shard_genes(row, source.genes)
    if is_gene_centred(embedder.spec.identity()):
        size = min(size, SHARD_WINDOWS)
    content: Sequence[str] = [""] * -(-source.genes // size)
    if keyed:
        content = window_content(source, size, embedder.spec.input_bp)
    keys = _keys({"embedder": embedder.spec.identity_digest()}, content, size)
    return GroupPlan(
        name, "embedder", source.genes, size, keys, dict(config), embedder.spec.identity()
    )


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
    groups = _fixed_groups(data, source)
    if source is not None:
        for name, config in embedders.items():
            embedder = make_embedder(name, config)
            if embedder.spec.type != "onehot":
                _check_source(data, name, embedder.spec)
                groups.append(embedder_group(name, config, embedder, source, bin_bp))
        embedded = [g for g in groups if g.kind == "embedder"]
        if data.haplotypes:
            _check_contexts(data, embedded)
        groups += variant_groups(data, inputs, source, embedded)
    samples = len(data.expression.sample) if data.expression is not None else 0
    return SpeciesPlan(data.name, len(data.gene), samples, tuple(groups))
