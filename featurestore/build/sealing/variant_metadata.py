"""Metadata of the variant sets, and their haplotypes, lines and carriers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from featurestore.build.planning.group_plan import STORED_DTYPE, GroupPlan
from featurestore.embedders.base import is_gene_centred, vector_shapes
from featurestore.inputs.model import SpeciesData
from featurestore.schema import POSITION, ArraySpec, spec_of
from featurestore.store.templates import create_group, write_whole

Shaped = tuple[str, ArraySpec, tuple[int, ...], str | None]
"""Array name, its specification, shape, dtype where the specification leaves it open."""

RULES: Final = {
    "anchor": "the base on either side of a TSS or TTS stays; windows are cut from the edited contig around it",
    "reach": "variants that fall into a stored window, deletions having pulled bases in and insertions pushed out; "
    "bases beyond the windows, which model inputs may read as context, are edited by these and no others",
    "iupac": "heterozygous substitutions stand as the IUPAC code of both alleles on both copies",
    "haplotypes": "each copy of a line is a haplotype of its own",
}


def with_positions(spec: ArraySpec, vector: tuple[int, ...]) -> ArraySpec:
    """The entry of an output whose vectors keep positions apart: one dimension more."""
    if len(vector) < 2:
        return spec
    return replace(spec, dims=(*spec.dims[:-1], POSITION, spec.dims[-1]))


def variant_arrays(group: GroupPlan, positions: int) -> Iterator[Shaped]:
    """The arrays of a group of a variant set that are written shard by shard, with their shapes."""
    n = group.rows
    if group.kind == "variant_sequence":
        base = "variants/<set>/sequence"
        yield "code", spec_of(f"{base}/code"), (n, positions), None
    else:
        base = "variants/<set>/<embedder>"
        for name, shape in vector_shapes(group.identity).items():
            if is_gene_centred(group.identity):
                spec = spec_of("variants/<set>/<gene-embedder>/<output>")
                shape = shape if group.identity["positions"] else (1, *shape)
            else:
                spec = with_positions(spec_of(f"{base}/<output>"), shape)
            yield name, spec, (n, *shape), STORED_DTYPE
        yield "bin_index", spec_of(f"{base}/bin_index"), (n,), None
        yield "status", spec_of(f"{base}/status"), (n,), None
        yield "input_digest", spec_of(f"{base}/input_digest"), (n, 16), None
    for name in ("haplotype_index", "gene_index", "region_index"):
        yield name, spec_of(f"{base}/{name}"), (n,), None


def write_variant_set(
    root: Path, species: str, group: GroupPlan, data: SpeciesData, attributes: Mapping[str, Any]
) -> None:
    """Write the group of one set: haplotypes, lines, carriers, and what was told of the VCF."""
    found = data.haplotypes[group.variant_set]
    facts = {
        **attributes["meristem"], "heterozygous": found.heterozygous, "told": found.told,
        "rules": {k: v for k, v in RULES.items() if k in {"anchor", "reach", found.heterozygous}},
    }  # fmt: skip
    create_group(
        root,
        f"{species}/variants",
        {"description": "variant sets: lines, haplotypes, changed bins"},
    )
    base = f"{species}/{group.name}"
    create_group(
        root, base, {"meristem": facts, "coordinates": "haplotype_gene haplotype_variants"}
    )
    for name, values in (
        ("haplotype", found.haplotype), ("haplotype_gene", found.gene),
        ("haplotype_variants", found.variants), ("line", found.line),
        ("carrier_line", found.carrier_line), ("carrier_gene", found.carrier_gene),
        ("carrier_haplotype", found.carrier_haplotype), ("carrier_copy", found.carrier_copy),
        ("carrier_zygosity", found.carrier_zygosity),
    ):  # fmt: skip
        write_whole(root, f"{base}/{name}", spec_of(f"variants/<set>/{name}"), values)
