"""Lays out the metadata of a store: groups, array templates, and the small arrays that are one chunk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.build.planning.group_plan import STORED_DTYPE, BuildPlan, GroupPlan, SpeciesPlan
from featurestore.build.planning.packages import package_versions, packages_behind
from featurestore.build.planning.plan import group_bins
from featurestore.build.sealing.variant_metadata import (
    Shaped,
    variant_arrays,
    with_positions,
    write_variant_set,
)
from featurestore.build.windows.window_source import WindowSource
from featurestore.build.work_area import WorkArea
from featurestore.embedders.base import is_gene_centred, vector_shapes
from featurestore.embedders.registry import make_embedder
from featurestore.inputs.model import SpeciesData
from featurestore.schema import CONVENTION, SCHEMA_VERSION, ArraySpec, spec_of
from featurestore.sequence.windows import bin_starts
from featurestore.store.templates import create_array, create_group, write_whole


def sharded_arrays(group: GroupPlan, source: WindowSource | None, samples: int) -> Iterator[Shaped]:
    """The arrays of a group that are written shard by shard, with their shapes."""
    n = group.rows
    if group.kind == "expression":
        yield "value", spec_of("expression/value"), (n, samples), None
        return
    if source is None:
        return
    if group.kind in {"variant_sequence", "variant_embedder"}:
        yield from variant_arrays(group, source.positions)
        return
    if group.kind == "embedder" and is_gene_centred(group.identity):
        yield from gene_arrays(group)
        return
    regions, bins = len(source.regions), source.bins
    if group.kind == "sequence":
        yield "code", spec_of("sequence/code"), (n, regions, source.positions), None
        yield "status", spec_of("sequence/status"), (n, regions), None
        yield "padded", spec_of("sequence/padded"), (n, regions), None
        if source.ragged:
            yield "region_length", spec_of("sequence/region_length"), (n, regions), None
    if group.kind == "embedder":
        bins = group_bins(group.identity["context"], source)
        for name, shape in vector_shapes(group.identity).items():
            spec = with_positions(spec_of("<embedder>/<output>"), shape)
            yield name, spec, (n, regions, bins, *shape), STORED_DTYPE
        yield "status", spec_of("<embedder>/status"), (n, regions), None
        yield "input_digest", spec_of("<embedder>/input_digest"), (n, regions, bins, 16), None
        if source.ragged:
            yield "bin_valid", spec_of("<embedder>/bin_valid"), (n, regions, bins), None


def gene_arrays(group: GroupPlan) -> Iterator[Shaped]:
    """The arrays of an embedder of one window a gene."""
    n, base = group.rows, "<gene-embedder>"
    for name, shape in vector_shapes(group.identity).items():
        stored = shape if group.identity["positions"] else (1, *shape)
        yield name, spec_of(f"{base}/<output>"), (n, *stored), STORED_DTYPE
    yield "status", spec_of(f"{base}/status"), (n,), None
    yield "padded", spec_of(f"{base}/padded"), (n,), None
    yield "input_digest", spec_of(f"{base}/input_digest"), (n, 16), None


def root_attributes(plan: BuildPlan, regions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Attributes of the store's root."""
    return {
        "zarr_conventions": [dict(CONVENTION)],
        "meristem": {
            "schema_version": SCHEMA_VERSION,
            "dataset_digest": plan.dataset_digest,
            "regions": [dict(r) for r in regions],
            "bin": plan.bin_bp,
            "species": [s.name for s in plan.species],
            "simulated": any(s.name.startswith("simulated") for s in plan.species),
            "packages": package_versions(),
        },
    }


def write_metadata(
    root: Path,
    work: WorkArea,
    plan: BuildPlan,
    data: Sequence[SpeciesData],
    funnels: Mapping[str, Any],
) -> None:
    """Write all metadata and one-chunk arrays of the store into an empty folder ``root``."""
    regions = {r.name: asdict(r) for d in data for r in d.regions}
    create_group(root, "", root_attributes(plan, list(regions.values())))
    for species, inputs in zip(plan.species, data, strict=True):
        _species_metadata(root, species, inputs, funnels[species.name])
        source = (
            WindowSource(work.inputs(species.name))
            if inputs.kind != "positions" and inputs.gene
            else None
        )
        for group in species.groups:
            attributes = _deciding(group, inputs, packages_behind(work, species.name, group))
            _group_metadata(root, species, group, inputs, source, attributes)


def _species_metadata(root: Path, plan: SpeciesPlan, data: SpeciesData, funnel: Any) -> None:
    columns: dict[str, Any] = {
        "gene": data.gene, "contig": data.contig, "strand": data.strand, "tss": data.tss, "tts": data.tts,
        "family": data.family,
    }  # fmt: skip
    if data.locus != data.gene:
        columns["locus"] = data.locus
    if data.fold is not None:
        columns["fold"] = data.fold
    facts = {
        "kind": data.kind,
        "input_digest": dict(sorted(data.input_digest.items())),
        "settings_digest": data.settings_digest,
        "regions": [asdict(r) for r in data.regions],
        "notes": list(data.notes),
        "funnel": funnel,
        "variants": sorted(data.variants),
    }
    further = " ".join(name for name in columns if name != "gene")
    create_group(root, plan.name, {"coordinates": further, "meristem": facts})
    for name, values in columns.items():
        write_whole(root, f"{plan.name}/{name}", spec_of(name), values)
    if data.skipped:
        create_group(
            root, f"{plan.name}/skipped", {"description": "genes that did not reach the store"}
        )
        for name, values in (
            ("id", [s.gene for s in data.skipped]), ("stage", [s.stage for s in data.skipped]),
            ("reason", [s.reason for s in data.skipped]),
        ):  # fmt: skip
            write_whole(root, f"{plan.name}/skipped/{name}", spec_of(f"skipped/{name}"), values)


def _group_metadata(
    root: Path,
    species: SpeciesPlan,
    group: GroupPlan,
    data: SpeciesData,
    source: WindowSource | None,
    attributes: dict[str, Any],
) -> None:
    base = f"{species.name}/{group.name}"
    if group.kind == "genome" and data.genome is not None:
        create_group(root, base, attributes)
        create_array(
            root,
            f"{base}/code",
            spec_of("genome/code"),
            (len(data.genome.code),),
            attributes=attributes,
        )
        for name, values in (
            ("contig_id", data.genome.contig_id), ("contig_start", data.genome.contig_start),
            ("contig_length", data.genome.contig_length),
        ):  # fmt: skip
            write_whole(root, f"{base}/{name}", spec_of(f"genome/{name}"), values)
        return
    if group.kind == "variants":
        write_variant_set(root, species.name, group, data, attributes)
        return
    coordinates = [] if group.name.startswith("variants/") else _coordinates(group, data, source)
    named = [name for name, spec, _ in coordinates if (name,) != spec.dims]
    create_group(
        root, base, {"coordinates": " ".join(named), **attributes} if named else attributes
    )
    for name, spec, values in coordinates:
        write_whole(root, f"{base}/{name}", spec, values)
    for name, spec, shape, dtype in sharded_arrays(group, source, species.samples):
        create_array(
            root, f"{base}/{name}", spec, shape, dtype=dtype, chunk_rows=group.shard_rows,
            attributes={**attributes, **({"units": "1"} if group.embeds and dtype else {})},
        )  # fmt: skip


def _deciding(group: GroupPlan, data: SpeciesData, packages: Mapping[str, str]) -> dict[str, Any]:
    """All that decides the values of a group's arrays."""
    facts: dict[str, Any] = {"input_digest": _digests_behind(group, data)}
    centred = group.kind == "embedder" and is_gene_centred(group.identity)
    if (group.kind in {"sequence", "embedder"} and not centred) or group.name.startswith(
        "variants/"
    ):
        facts["regions"] = [asdict(r) for r in data.regions]
    if group.embeds:
        facts["embedder"] = {"name": group.embedder_name, **dict(group.identity)}
        facts["packages"] = dict(packages)
    attributes: dict[str, Any] = {"meristem": facts}
    if group.kind == "expression" and data.expression is not None:
        attributes = {"unit": data.expression.unit, **attributes}
    return attributes


def _digests_behind(group: GroupPlan, data: SpeciesData) -> dict[str, str]:
    """Digests of the files that a group's values follow from, and of no other."""
    roles = {"expression": ("expression", "samples", "sequences")}.get(
        group.kind, ("genome", "annotation", "sequences", "positions")
    )
    if group.name.startswith("variants/") or group.kind == "variants":
        roles = (*roles, "variants")
    return {
        role: digest
        for role, digest in sorted(data.input_digest.items())
        if role.partition("/")[0] in roles
    }


def _coordinates(
    group: GroupPlan, data: SpeciesData, source: WindowSource | None
) -> list[tuple[str, ArraySpec, Any]]:
    if group.kind == "expression" and data.expression is not None:
        table = data.expression
        rows = [("labelled", table.labelled), ("sample", table.sample)]
        rows += [
            (n, getattr(table, n))
            for n in ("tissue", "genotype", "line", "control")
            if getattr(table, n) is not None
        ]
        return [(name, spec_of(f"expression/{name}"), values) for name, values in rows]
    if source is None:
        return []
    names = [r.name for r in source.regions]
    if group.kind == "sequence":
        return [("region", spec_of("sequence/region"), names)]
    embedder = make_embedder(group.name, group.embedder)
    found: dict[str, Any] = {}
    if is_gene_centred(group.identity):
        found["bin_start"], kind = embedder.spec.bin_start(), "<gene-embedder>"
    else:
        bins = group_bins(group.identity["context"], source)
        found["region"], kind = names, "<embedder>"
        found["bin_start"] = bin_starts(source.regions, source.bin_bp)[:, :bins]
    channels = getattr(embedder, "channels", None)
    if channels is not None and not isinstance(channels, int):
        found["channel"] = list(channels)
    for name, values in embedder.spec.constants.items():
        found.setdefault(name, values)
    return [
        (name, spec_of(f"{kind}/{name}"), values if name == "channel" else np.asarray(values))
        for name, values in found.items()
    ]


def consolidate(root: Path) -> None:
    """Put all metadata into the root's ``zarr.json`` as well: one read opens the whole tree.

    Readers need not know of it. Written here, in sorted order, because the library's own order
    depends on which file it read first.
    """
    path = root / "zarr.json"
    body = json.loads(path.read_text())
    children = sorted(p for p in root.rglob("zarr.json") if p != path)
    metadata = {p.parent.relative_to(root).as_posix(): json.loads(p.read_text()) for p in children}
    body["consolidated_metadata"] = {
        "kind": "inline",
        "must_understand": False,
        "metadata": metadata,
    }
    path.write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")
