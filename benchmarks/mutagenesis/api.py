"""Saturation mutagenesis from end to end: of genes of a store, and of elements of a FASTA file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.mutagenesis import elements, genes, zero_shot
from benchmarks.mutagenesis.agreement import agreement, join_measured
from benchmarks.mutagenesis.genes import Asked, Embedders
from benchmarks.mutagenesis.measured import Measured
from benchmarks.mutagenesis.results import TABLE, write_results
from benchmarks.predict.apply import Matched
from benchmarks.predict.build import run_embedders
from benchmarks.predict.output import read_about
from benchmarks.predict.trained import TrainedRun
from benchmarks.runs.progress import Progress
from featurestore.errors import InputError


@dataclass(frozen=True)
class Scorers:
    """Who scores: trained runs, and genomic models without training.

    Parameters
    ----------
    runs : sequence of TrainedRun
    zero_shot : mapping of embedder to checkpoint or None
    checkpoints : mapping of group to folder or hub id
        Where weights of the runs' features lie.
    device : str, optional
    """

    runs: Sequence[TrainedRun] = ()
    zero_shot: Mapping[str, str | None] = field(default_factory=dict)
    checkpoints: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None

    def __post_init__(self) -> None:
        if not (self.runs or self.zero_shot):
            raise InputError("nothing scores: give --model RUN, --zero-shot EMBEDDER, or both")

    @property
    def labels(self) -> list[str]:
        """Name of each run in the results; with its seed where several would be called alike."""
        plain = [run.label for run in self.runs]
        return [
            f"{one} seed {run.identity.get('seed')}" if plain.count(one) > 1 else one
            for one, run in zip(plain, self.runs, strict=True)
        ]

    @property
    def simulated(self) -> bool:
        """Whether any of the runs was trained on simulated data."""
        return any(bool(run.identity.get("simulated")) for run in self.runs)


@dataclass(frozen=True)
class Scored:
    """What came out: a table for each run, one of the models without training, what is to be told."""

    of_runs: list[pd.DataFrame]
    of_models: pd.DataFrame
    notes: list[str]
    measured: pd.DataFrame | None = None
    agreement: pd.DataFrame | None = None

    @property
    def table(self) -> pd.DataFrame:
        """All of it, end to end."""
        return genes.joined([t for t in (*self.of_runs, self.of_models) if len(t)])


def saturate_genes(store: Any, asked: Asked, scorers: Scorers, progress: Progress) -> Scored:
    """Every single-base change of regions of genes of a store.

    Raises
    ------
    InputError
        If a gene, region or embedder is not there, or the store made other features than a run's.
    """
    if not asked.genes:
        raise InputError("no gene is named: give --gene ID, once for each, or --genes FILE")
    species = [name for name, _, _ in genes.located(store, asked)]
    matched = [Matched.of(run, store, species) for run in scorers.runs]
    models = [
        zero_shot.zero_shot(name, store, checkpoint, scorers.device)
        for name, checkpoint in scorers.zero_shot.items()
    ]
    progress.total += bool(matched) * genes.count_steps(store, asked, genes.AT_ONCE // 3)
    progress.total += len(models) * genes.count_steps(store, asked, zero_shot.AT_ONCE)
    embedders = Embedders(store, scorers.checkpoints, scorers.device)
    notes = [note for run in scorers.runs for note in run.notes]
    tables: list[pd.DataFrame] = []
    if matched:
        tables, told = genes.score_genes(matched, store, asked, embedders, progress)
        notes += told
    of_models = []
    for model in models:
        table, told = zero_shot.score_genes(model, store, asked, progress)
        of_models.append(table)
        notes += [*model.notes, *told]
    progress.close()
    return Scored(_labelled(tables, scorers), genes.joined(of_models), list(dict.fromkeys(notes)))


def saturate_elements(
    references: Mapping[str, str],
    scorers: Scorers,
    progress: Progress,
    *,
    measured: Measured | None = None,
    place: elements.Place = elements.Place(),  # noqa: B008 - frozen
    backgrounds: Mapping[str, NDArray[np.uint8]] | None = None,
    bootstrap: int = 1000,
) -> Scored:
    """Every single-base change of elements, and what was measured besides, held against the measurements.

    Parameters
    ----------
    references : mapping of element to its bases
    measured : Measured, optional
    place : Place
        Where elements stand in the regions of the runs.
    backgrounds : mapping of gene to codes, shape (region, position), optional
        What stands around them; default N.
    bootstrap : int
        Replicates behind the intervals.
    """
    variants = elements.all_variants(references, None if measured is None else measured.table)
    fittings = [elements.Fitting(run, place, backgrounds) for run in scorers.runs]
    for fitting in fittings:  # before any work
        for name, sequence in references.items():
            fitting.check(name, sequence)
    models = [
        zero_shot.zero_shot(name, None, checkpoint, scorers.device)
        for name, checkpoint in scorers.zero_shot.items()
    ]
    progress.total += _steps(variants, elements.AT_ONCE) * len(fittings)
    places = variants[["element", "position"]].drop_duplicates()
    progress.total += _steps(places, zero_shot.AT_ONCE) * len(models)
    notes = [note for run in scorers.runs for note in run.notes]
    notes += measured.notes if measured is not None else []
    tables = []
    for run, fitting in zip(scorers.runs, fittings, strict=True):
        made = run_embedders(run, scorers.checkpoints, scorers.device)
        tables.append(elements.score_elements(run, fitting, references, variants, made, progress))
    of_models = []
    for model in models:
        table, told = elements.score_zero_shot(model, references, variants, progress)
        of_models.append(table)
        notes += told
    progress.close()
    scored = Scored(_labelled(tables, scorers), genes.joined(of_models), list(dict.fromkeys(notes)))
    if measured is None:
        return scored
    held = join_measured(scored.table, measured.table)
    found = agreement(held, measured.conditions, bootstrap=bootstrap)
    return Scored(scored.of_runs, scored.of_models, scored.notes, held, found)


def _steps(table: pd.DataFrame, at_once: int) -> int:
    return int(np.ceil(table.groupby("element").size() / at_once).sum())


def _labelled(tables: Sequence[pd.DataFrame], scorers: Scorers) -> list[pd.DataFrame]:
    return [
        table.assign(learner=label)
        for table, label in zip(tables, scorers.labels if tables else [], strict=True)
    ]


def saturate_runs(
    store: Any,
    paths: Sequence[Path],
    asked: Asked,
    models: Mapping[str, str | None],
    *,
    learners: Mapping[Path, str] | None = None,
    device: str | None = None,
    progress: Progress,
) -> list[str]:
    """Write ``mutagenesis.parquet`` into folders of finished runs; what is there already stays.

    Parameters
    ----------
    store : Store
    paths : sequence of Path
        Folders of runs.
    asked : Asked
    models : mapping of embedder to checkpoint or None
        Scored without training, beside each run.
    learners : mapping of path to ``package.module:Class``, optional
        Of learners that are not registered.
    device : str, optional
    progress : Progress

    Returns
    -------
    list of str
        What a person should know.
    """
    about = {"asked": _plain(asked), "zero_shot": sorted(models), "store_digest": store.digest}
    missing = [path for path in paths if not _is_there(path, about)]
    if not missing:
        return []
    runs = [TrainedRun(path, (learners or {}).get(path)) for path in missing]
    scored = saturate_genes(store, asked, Scorers(runs, models, device=device), progress)
    for run, table in zip(runs, scored.of_runs, strict=True):
        whole = genes.joined([t for t in (table, scored.of_models) if len(t)])
        told = {**about, "run": run.name, "notes": scored.notes}
        write_results(run.path, whole.assign(learner=_as(whole, run.label, table)), told)
    return scored.notes


def _as(whole: pd.DataFrame, label: str, own: pd.DataFrame) -> pd.Series[Any]:
    """Rows of the run under its plain label: in its own folder no other run is called so."""
    mine = np.arange(len(whole)) < len(own)
    return whole["learner"].where(~mine, label)


def _plain(asked: Asked) -> dict[str, Any]:
    return {
        "genes": list(asked.genes), "spans": [asdict(span) for span in asked.spans],
        "species": list(asked.species),
    }  # fmt: skip


def _is_there(path: Path, about: Mapping[str, Any]) -> bool:
    file = path / TABLE
    if not file.exists():
        return False
    held = read_about(file)
    return all(held.get(key) == value for key, value in about.items())
