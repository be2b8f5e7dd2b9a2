"""Every single-base change of regions of chosen genes, scored by trained runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs.features import PooledSource, parse
from benchmarks.inputs.genes import gene_frame
from benchmarks.mutagenesis.changes import Changes, Span, single_base_changes
from benchmarks.mutagenesis.features import (
    GeneEmbedding,
    MutatedSource,
    Overlay,
    code_overlay,
    pieces_of,
    refuse_gene_centred,
)
from benchmarks.mutagenesis.results import COLUMNS, letters, with_scores
from benchmarks.mutagenesis.windows import gene_windows
from benchmarks.predict.apply import Matched, each_in_parts
from benchmarks.predict.inputs import differences
from benchmarks.predict.trained import Chosen
from benchmarks.runs.progress import Progress
from featurestore.build.windows.window_source import WindowSource
from featurestore.embedders.base import Embedder
from featurestore.embedders.registry import make_embedder
from featurestore.errors import InputError, unknown_name
from featurestore.inputs.model import Region
from learners.batch import Block, BlockSource, FeatureBatch

AT_ONCE: Final = 1536
"""Changes of one step of the progress line."""

CODES: Final = "onehot"


@dataclass
class GeneJob:
    """One gene of a store with its changes.

    Parameters
    ----------
    species : str
    row : int
        Row of the gene in the species.
    at : int
        Number of the gene in ``source``.
    source : WindowSource
    info : Series
        Its row of :func:`benchmarks.inputs.genes.gene_frame`.
    changes : Changes
    """

    species: str
    row: int
    at: int
    source: WindowSource
    info: Any
    changes: Changes

    @property
    def gene(self) -> str:
        """Its id."""
        return str(self.info["gene"])

    def places(self, changes: Changes) -> pd.DataFrame:
        """Where changes lie, columns element … alt of the results."""
        regions = self.source.regions
        upstream = np.array([region.upstream for region in regions], np.int64)[changes.region]
        return pd.DataFrame(
            {
                "element": self.gene, "species": self.species,
                "region": np.array([r.name for r in regions], object)[changes.region],
                "position": changes.position - upstream, "contig": str(self.info["contig"]),
                "contig_position": self.contig_positions(changes),
                "ref": letters(changes.ref), "alt": letters(changes.alt),
            }
        )  # fmt: skip

    def contig_positions(self, changes: Changes) -> NDArray[np.int64]:
        """0-based positions on the forward strand of the contig; −1 where there is no genome."""
        if not self.source.from_genome:
            return np.full(len(changes), -1, np.int64)
        regions, strand = self.source.regions, int(self.info["strand"])
        anchor = np.array([int(self.info[region.anchor]) for region in regions])[changes.region]
        along = changes.position - np.array([r.upstream for r in regions])[changes.region]
        return np.asarray(anchor + along if strand >= 0 else anchor - 1 - along, np.int64)


@dataclass(frozen=True)
class Asked:
    """Which changes are asked for.

    Parameters
    ----------
    genes : sequence of str
    spans : sequence of Span
        Empty for all regions whole.
    species : sequence of str
        Empty for all of the store.
    """

    genes: Sequence[str]
    spans: Sequence[Span] = ()
    species: Sequence[str] = ()


@dataclass
class Tally:
    """What is to be told when all is done."""

    notes: list[str] = field(default_factory=list)

    def skipped(self, gene: str, count: int) -> None:
        """Positions where the reference is no single base."""
        if count:
            self.notes.append(
                f"{gene}: {count:,} positions are left out, the reference is N or another IUPAC code there"
            )


def jobs(store: Any, asked: Asked, flank: int, tally: Tally) -> Iterator[GeneJob]:
    """The genes that are asked for, one after the other, each with its changes.

    Raises
    ------
    InputError
        If a gene is in no species, or a span lies outside its region.
    """
    for species, rows, frame in located(store, asked):
        with gene_windows(store, species, rows, flank) as source:
            whole = [Span(region.name) for region in source.regions]
            bounds = [span.bounds(source.regions) for span in (asked.spans or whole)]
            for at, row in enumerate(rows):
                codes = source.region_codes(at, at + 1)[0][0]
                changes = single_base_changes(codes, source.region_length[at], bounds)
                tally.skipped(str(frame["gene"].iloc[row]), changes.skipped)
                yield GeneJob(species, row, at, source, frame.iloc[row], changes)


def located(store: Any, asked: Asked) -> Iterator[tuple[str, list[int], pd.DataFrame]]:
    """Rows of the genes by species.

    Raises
    ------
    UnknownNameError
        If no species has one of them.
    """
    chosen = [s for s in store.species if not asked.species or s in asked.species]
    missing = set(asked.genes)
    found = []
    for species in chosen:
        frame = gene_frame(store, [species])
        place = {gene: row for row, gene in enumerate(frame["gene"])}
        rows = [place[gene] for gene in dict.fromkeys(asked.genes) if gene in place]
        missing -= set(place)
        if rows:
            found.append((species, rows, frame))
    if missing:
        known = [g for s in chosen for g in store.genes(s).gene.tolist()]
        raise unknown_name("gene", sorted(missing)[0], known)
    yield from found


def count_steps(store: Any, asked: Asked, positions_at_once: int) -> int:
    """Steps of the progress line, a number of positions each."""
    total = 0
    for species, rows, _ in located(store, asked):
        facts = store.meta(species, "")["attributes"]["meristem"]
        regions = [Region(**one) for one in facts["regions"]]
        bounds = [s.bounds(regions) for s in (asked.spans or [Span(r.name) for r in regions])]
        positions = sum(high - low for _, low, high in bounds)
        total += len(rows) * -(-positions // positions_at_once)
    return total


class Embedders:
    """Embedders of a store's groups, made and loaded once.

    Parameters
    ----------
    store : Store
    checkpoints : mapping of group to folder
    device : str, optional
    """

    def __init__(
        self, store: Any, checkpoints: Mapping[str, str], device: str | None = None
    ) -> None:
        self._store, self._checkpoints, self._device = store, checkpoints, device
        self._made: dict[str, Embedder] = {}

    def get(self, species: str, group: str) -> Embedder:
        """The embedder of a group, held against what the store says of it.

        Raises
        ------
        InputError
            If its weights are not to be had, or are not those of the store.
        """
        if group in self._made:
            return self._made[group]
        attrs = self._store.embedder_attrs(species, group)
        refuse_gene_centred(group, attrs)
        settings = {"type": attrs["type"], **attrs["parameters"]}
        if group in self._checkpoints:
            settings["checkpoint"] = self._checkpoints[group]
        try:
            embedder = make_embedder(group, settings)
        except InputError as error:
            if "checkpoint" not in settings:
                raise
            raise InputError(
                f"{error}\n    → say where its weights lie: --checkpoint {group}=DIR"
            ) from error
        if told := differences(attrs, embedder.spec.identity()):
            raise InputError(
                f"embedder {group!r} is not the one that {self._store.path} was built with: "
                f"{'; '.join(told)}"
            )
        embedder.load(self._device)
        self._made[group] = embedder
        return embedder


def flank_of(store: Any, species: str, groups: Sequence[str]) -> int:
    """Bases beyond a region that any of some embedders looks at, at most."""
    size = int(store.attrs["meristem"]["bin"])
    wide = [store.embedder_attrs(species, g).get("input_bp") or 0 for g in groups if g != CODES]
    return max([0, *wide]) + size


def score_genes(
    runs: Sequence[Matched], store: Any, asked: Asked, embedders: Embedders, progress: Progress
) -> tuple[list[pd.DataFrame], list[str]]:
    """Delta of every change of the genes, by the models that have not learned from the gene.

    Returns
    -------
    a table for each run, columns COLUMNS, empty where nothing was scored; notes
    """
    groups = sorted({
        term.group for run in runs if run.features for term in parse(run.features)
    })  # fmt: skip
    tally = Tally()
    tables: list[list[pd.DataFrame]] = [[] for _ in runs]
    species = next((s for s, _, _ in located(store, asked)), store.species[0])
    for job in jobs(store, asked, flank_of(store, species, groups), tally):
        made = {
            group: GeneEmbedding(embedders.get(job.species, group), job.source, job.at)
            for group in groups if group != CODES
        }  # fmt: skip
        if bad := [group for group, one in made.items() if not one.usable]:
            tally.notes.append(f"{job.gene}: not scored, {', '.join(bad)} has no vectors of it")
            continue
        tally.notes += [
            note for group, one in made.items() if (note := drift(store, job, group, one))
        ]
        at_once = min([AT_ONCE, *(one.changes_at_once for one in made.values())])
        for piece in pieces_of(job.changes, at_once):
            overlays = {group: one.overlay(piece) for group, one in made.items()}
            if CODES in groups:
                overlays[CODES] = code_overlay(job.source, job.at, piece)
            for run, own in zip(runs, tables, strict=True):
                own.append(_scored(run, job, piece, overlays))
            progress.step(f"{job.gene}: {len(piece):,} changes")
    return [joined(own) for own in tables], tally.notes


def joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables end to end; an empty one where there is none."""
    if not tables:
        return pd.DataFrame({name: pd.Series(dtype=object) for name in COLUMNS})
    return pd.concat(tables, ignore_index=True)


def _scored(
    run: Matched, job: GeneJob, changes: Changes, overlays: Mapping[str, Overlay]
) -> pd.DataFrame:
    trained, count = run.trained, len(changes)
    chosen: Chosen = trained.choose(
        job.gene, job.species, str(job.info["family"]), has_family=bool(job.info["has_family"])
    )
    sources: dict[str, BlockSource] = {}
    failed = np.zeros(count, np.bool_)
    for term in parse(run.features) if run.features else []:
        overlay = overlays[term.group]
        like = run.store.feature_source(job.species, term.source)
        output = run.store.resolve_feature(job.species, term.source)[1]
        source: BlockSource = MutatedSource(like, overlay, output, job.row, count)
        sources[str(term)] = PooledSource(source) if term.reduction else source
        failed |= overlay.failed
    batch = gene_batch(run.named(sources), job, count + 1)
    kept = np.concatenate([[0], 1 + np.flatnonzero(~failed)]).astype(np.int64)
    each = np.full((len(chosen.folds), count + 1, len(trained.targets)), np.nan)
    each[:, kept] = each_in_parts(trained, batch.take(kept), chosen.folds)
    return with_scores(
        job.places(changes), each[:, 1:] - each[:, :1], learner=trained.label, unit=trained.unit,
        folds=chosen.folds, note=chosen.note, targets=trained.targets,
    )  # fmt: skip


def gene_batch(sources: Mapping[str, BlockSource], job: GeneJob, count: int) -> FeatureBatch:
    """A batch of one gene in several versions."""
    rows = np.arange(count, dtype=np.int64)
    return FeatureBatch(
        blocks={name: Block(source, rows) for name, source in sources.items()},
        gene=np.full(count, job.gene), species=np.full(count, job.species),
        family=np.full(count, str(job.info["family"])),
    )  # fmt: skip


def drift(store: Any, job: GeneJob, group: str, made: GeneEmbedding) -> str:
    """What to say where vectors computed here are not those of the store; "" where they are."""
    worst = 0.0
    for name, values in made.base.items():
        stored = store.stored(job.species, f"{group}/{name}").take(np.array([job.row]))[0]
        stored = np.where(np.isfinite(stored), stored, 0).astype(np.float32)
        apart = np.abs(stored - values.astype(np.float32))
        step = np.maximum(np.spacing(np.abs(values)).astype(np.float32), 1e-5)
        worst = max(worst, float((apart / step).max(initial=0)))
    if worst <= 1:
        return ""
    return (
        f"{job.gene}: vectors of {group} computed here differ from the stored ones by up to {worst:.0f} "
        "units of their last place (another device or library); effects are differences of vectors "
        "computed here"
    )


def background_codes(
    store: Any, names: Sequence[str], runs: Sequence[Any]
) -> dict[str, NDArray[np.uint8]]:
    """Bases of genes into which elements are put, shape (region, position) each.

    Raises
    ------
    InputError
        If a gene is not there, or the store has other regions than a run.
    """
    from benchmarks.predict.inputs import check_regions, required_inputs

    found: dict[str, NDArray[np.uint8]] = {}
    for species, rows, frame in located(store, Asked(tuple(names))):
        facts = store.meta(species, "")["attributes"]["meristem"]
        for run in runs:
            wanted = required_inputs(run.run, run.name)["regions"]
            check_regions(wanted, facts["regions"], f"{store.path}, {species}")
        codes = store.stored(species, "sequence/code").take(np.array(rows, np.int64))
        found |= {str(frame["gene"].iloc[row]): codes[i] for i, row in enumerate(rows)}
    return found
