"""Every single-base change scored without training: log-likelihood ratios of a genomic model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.mutagenesis.changes import Changes
from benchmarks.mutagenesis.genes import Asked, GeneJob, Tally, jobs, joined
from benchmarks.mutagenesis.results import with_scores
from benchmarks.runs.progress import Progress
from featurestore.errors import InputError, unknown_name
from featurestore.score.genome import Bases, bases_of, stored_bases
from featurestore.score.model import MaskedModel, can_score, masked_model
from featurestore.score.scorer import Scorer
from featurestore.sequence.iupac import COMPLEMENT, decode

UNIT: Final = "ln(P_alt/P_ref)"
PREFIX: Final = "zero-shot@"
AT_ONCE: Final = 256
"""Positions of one step of the progress line."""


@dataclass
class ZeroShot:
    """A masked model that scores, by the name that its rows carry.

    ``note`` stands at each of its rows; ``notes`` are told once.
    """

    label: str
    model: MaskedModel
    note: str = "not trained on expression"
    notes: list[str] = field(default_factory=list)


def zero_shot(
    name: str, store: Any | None = None, checkpoint: str | None = None, device: str | None = None
) -> ZeroShot:
    """The masked model of an embedder of a store, or of a type.

    Parameters
    ----------
    name : str
        A group of the store, or a type such as ``plantcaduceus``.
    store : Store, optional
    checkpoint : str, optional
        Folder or hub id of the weights.

    Raises
    ------
    InputError
        If the embedder gives no probabilities, or its weights are not to be had.
    """
    from featurestore.embedders.registry import make_embedder

    attrs: Mapping[str, Any] = {}
    known: set[str] = set()
    for held, species in [(store, one) for one in store.species] if store is not None else []:
        known |= set(held.embedders(species))
        if name in held.embedders(species):
            attrs = held.embedder_attrs(species, name)
    settings = {"type": attrs.get("type", name), **attrs.get("parameters", {})}
    if not can_score(str(settings["type"])):
        if attrs:
            raise InputError(f"zero-shot: {name!r} is of type {attrs['type']!r}, which gives no probabilities of bases")  # fmt: skip
        raise unknown_name("embedder that scores variants", name, known | {"plantcaduceus", "plantcaduceus-nano"})  # fmt: skip
    if checkpoint:
        settings["checkpoint"] = checkpoint
    embedder = make_embedder(name, settings)
    notes = []
    if attrs.get("digest") and embedder.spec.digest != attrs["digest"]:
        notes.append(f"zero-shot {name}: other weights than those of the store's vectors")
    model = masked_model(embedder)
    model.load(device)
    return ZeroShot(f"{PREFIX}{name}", model, notes=notes)


def score_genes(
    zero: ZeroShot, store: Any, asked: Asked, progress: Progress
) -> tuple[pd.DataFrame, list[str]]:
    """Log-likelihood ratios of every change of genes of a store, the context being its genome."""
    tally, tables = Tally(), []
    scorer: Scorer | None = None
    of_species = ""
    for job in jobs(store, asked, 0, tally):
        if not job.source.from_genome:
            names = [region.name for region in job.source.regions]
            scorer = Scorer(zero.model, _regions_as_contigs(job, names))
        elif scorer is None or job.species != of_species:
            scorer, of_species = Scorer(zero.model, stored_bases(store, job.species)), job.species
        tables.append(_scored(zero, scorer, job, progress))
    return joined(tables), tally.notes


def _regions_as_contigs(job: GeneJob, names: list[str]) -> Bases:
    codes = job.source.region_codes(job.at, job.at + 1)[0][0]
    lengths = job.source.region_length[job.at].tolist()
    return bases_of({n: decode(codes[i, : lengths[i]]) for i, n in enumerate(names)})


def _scored(zero: ZeroShot, scorer: Scorer, job: GeneJob, progress: Progress) -> pd.DataFrame:
    places = job.places(job.changes)
    if job.source.from_genome:
        contigs, at = [str(job.info["contig"])] * len(places), job.contig_positions(job.changes)
        forward = int(job.info["strand"]) >= 0
    else:
        contigs, at, forward = places["region"].tolist(), job.changes.position, True
    llr = ratios(scorer, contigs, at, job.changes, forward=forward, title=job.gene, progress=progress)  # fmt: skip
    return with_scores(
        places, llr[None, :, None], learner=zero.label, unit=UNIT, folds=(), note=zero.note
    )


def ratios(
    scorer: Scorer,
    contigs: list[str],
    at: NDArray[np.int64],
    changes: Changes,
    *,
    forward: bool,
    title: str,
    progress: Progress,
) -> NDArray[np.float64]:
    """ln(P_alt / P_ref) of changes, each position run once.

    Parameters
    ----------
    contigs, at : length n
        Contig and 0-based position on its forward strand.
    changes : Changes, length n
        Bases on the strand that ``forward`` says.
    """
    sites = list(dict.fromkeys(zip(contigs, at.tolist(), strict=True)))
    number = {site: i for i, site in enumerate(sites)}
    parts = []
    for start in range(0, len(sites), AT_ONCE):
        parts.append(scorer.log_probabilities(sites[start : start + AT_ONCE]))
        progress.step(f"{title}: {min(start + AT_ONCE, len(sites)):,} of {len(sites):,} positions")
    values = np.concatenate(parts) if parts else np.zeros((0, 4))
    rows = np.array([number[site] for site in zip(contigs, at.tolist(), strict=True)], np.int64)
    ref, alt = (
        (changes.ref, changes.alt)
        if forward
        else (COMPLEMENT[changes.ref], COMPLEMENT[changes.alt])
    )
    return np.asarray(values[rows, alt] - values[rows, ref], np.float64)
