"""Computes vectors again from the bases in the store, and compares: the check that no checksum makes."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from featurestore.build.shards.compute import embed_range
from featurestore.build.shards.compute_genes import embed_genes
from featurestore.build.shards.given import GivenRows
from featurestore.build.windows.window_source import WindowSource, lay_down, source_for
from featurestore.embedders.base import is_gene_centred
from featurestore.embedders.registry import embedder_class, make_embedder
from featurestore.errors import InputError
from featurestore.inputs.model import Genome, Region, SpeciesData
from featurestore.store.findings import Finding
from featurestore.store.reader import Store, open_store
from featurestore.store.verify import Verification, verify

FLOOR: Final = np.float16(1e-5)
"""Differences up to this are rounding: paths of one model differ by some 1e-6 of its largest values."""


def stored_inputs(store: Store, species: str) -> SpeciesData:
    """Genes, bases and windows of a species as the store holds them: no file beside it is needed."""
    facts = store.meta(species, "")["attributes"]["meristem"]
    genes = store.genes(species)
    genome = None
    if store.has(species, "genome/code"):
        genome = Genome(
            store.text(species, "genome/contig_id").tolist(),
            store.array(species, "genome/contig_start"),
            store.array(species, "genome/contig_length"),
            store.array(species, "genome/code"),
        )
    sequences = genome is None and store.has(species, "sequence/code")
    code = store.array(species, "sequence/code") if sequences else None
    length = None
    if code is not None:
        ragged = store.has(species, "sequence/region_length")
        length = (
            store.array(species, "sequence/region_length")
            if ragged
            else np.full(code.shape[:2], code.shape[2], np.int32)
        )
    return SpeciesData(
        name=species, kind=facts["kind"], gene=genes.gene.tolist(), locus=genes.locus.tolist(),
        contig=genes.contig.tolist(), strand=genes.strand, tss=genes.tss, tts=genes.tts,
        family=genes.family.tolist(), regions=tuple(Region(**r) for r in facts["regions"]),
        genome=genome, region_code=code, region_length=length,
    )  # fmt: skip


def verify_values(store: Path, fraction: float, seed: int = 0) -> Verification:
    """Verify a store, and where its bytes are intact compute a fraction of its genes again.

    Parameters
    ----------
    fraction : float
        Of the genes of each species, 0 to 1; with 0 only the bytes are verified.
    seed : int
        Which genes these are.

    Raises
    ------
    StoreNotFoundError
        If there is nothing at the path.
    """
    result = verify(store)
    if not fraction or not result.intact:
        return result
    done, drift = recompute_sample(store, fraction, seed)
    return replace(result, findings=drift, recomputed=done, notes=_given(open_store(store)))


def _is_given(store: Store, species: str, name: str) -> bool:
    """Whether an embedder's vectors were read from files, so that bases alone do not give them."""
    return issubclass(embedder_class(store.embedder_attrs(species, name)["type"]), GivenRows)


def _given(store: Store) -> list[str]:
    names = {n: s for s in store.species for n in store.embedders(s)
             if n != "onehot" and _is_given(store, s, n)}  # fmt: skip
    return [
        f"{name}: imported, not computed here, so there is nothing to compute anew; its bytes were checked"
        for name in names
    ]


def recompute_sample(path: Path, fraction: float, seed: int) -> tuple[int, list[Finding]]:
    """Embed a random fraction of the genes again, every embedder, and compare to the stored values.

    Stored values are float16, so a difference of a unit in its last place, or of 1e-5, counts as equal;
    more is drift (another library, another device) or damage before the checksum.

    Returns
    -------
    number of genes compared, findings
    """
    store = open_store(path)
    _refuse_rounded(store)
    rng = np.random.default_rng(seed)
    findings: list[Finding] = []
    compared = 0
    for species in store.species:
        names = [n for n in store.embedders(species) if n != "onehot"]
        names = [n for n in names if not _is_given(store, species, n)]
        if not names:
            continue
        count = len(store.genes(species).gene)
        chosen = np.sort(rng.choice(count, max(1, round(fraction * count)), replace=False))
        with tempfile.TemporaryDirectory() as folder:
            lay_down(
                Path(folder), stored_inputs(store, species), int(store.attrs["meristem"]["bin"])
            )
            source = WindowSource(Path(folder))
            for name in names:
                findings += _compare(store, species, name, source, chosen.tolist())
        compared += len(chosen)
    return compared, findings


def _refuse_rounded(store: Store) -> None:
    profile = store.attrs["meristem"].get("export", {}).get("profile", "local")
    if profile != "local":
        raise InputError(
            f"{store.path}: its values were rounded when it was exported with --profile {profile}, so embedding anew "
            "gives others; recompute on the store as it was built"
        )


def _compare(
    store: Store, species: str, name: str, source: WindowSource, chosen: list[int]
) -> list[Finding]:
    attrs = store.embedder_attrs(species, name)
    embedder = make_embedder(name, {"type": attrs["type"], **attrs["parameters"]})
    embedder.load(None)
    bad: list[Finding] = []
    own = source_for(source, embedder.spec.identity())
    embed = embed_genes if is_gene_centred(embedder.spec.identity()) else embed_range
    for gene in chosen:
        fresh = embed(embedder, own, gene, gene + 1)
        for output, values in fresh.outputs.items():
            stored = store.stored(species, f"{name}/{output}").take(np.array([gene]))
            step = np.maximum(np.spacing(np.maximum(np.abs(stored), np.abs(values))), FLOOR)
            same = (np.abs(stored.astype(np.float32) - values) <= step) | (
                np.isnan(stored) & np.isnan(values)
            )
            if not same.all():
                worst = float(np.nanmax(np.abs(stored.astype(np.float32) - values)))
                bad.append(
                    Finding(
                        f"{species}/{name}/{output}",
                        f"gene {gene}: computed anew it differs by up to {worst:.3g}",
                    )
                )
    return bad
