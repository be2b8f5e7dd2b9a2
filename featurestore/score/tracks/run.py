"""Scores the alleles of a VCF by a model of tracks: windows are shared, a stopped run goes on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import MeristemError
from featurestore.inputs.tally import Tally
from featurestore.score.alleles import Site
from featurestore.score.check import Checked, check_vcf, contigs_of
from featurestore.score.journal import Journal
from featurestore.score.records import open_vcf
from featurestore.score.source import Source, open_source
from featurestore.score.tracks.alleles import TRACK_REASONS, rules_of
from featurestore.score.tracks.genes import genes_of
from featurestore.score.tracks.limits import check_size, check_target
from featurestore.score.tracks.model import model_for
from featurestore.score.tracks.numbers import row_of
from featurestore.score.tracks.outputs import Result, write
from featurestore.score.tracks.plan import Geometry, Item, Plan, plan_of
from featurestore.score.tracks.settings import TRACK_TYPES, Asked
from featurestore.score.tracks.windows import Place, passes_of
from featurestore.score.vcf import Progress

if TYPE_CHECKING:
    from featurestore.embedders.enformer.track_model import TrackModel
    from featurestore.score.tracks.predict import Predictor


@dataclass
class TrackSummary:
    """What a run did.

    Parameters
    ----------
    model : mapping
        All that decides the values.
    records, alleles, scored : int
        Of the VCF; alleles of which at least one row has scores.
    rows, rows_scored : int
        Of the output: alleles, or alleles with genes.
    tracks : int
    not_scored, remarks : list of {"reason", "count", "examples"}
        Of rows.
    references, windows_computed, windows_resumed : int
        Windows of the reference that the model ran on; windows of alleles, and those of an earlier run.
    """

    variants: str
    species: str
    model: dict[str, Any]
    records: int = 0
    alleles: int = 0
    scored: int = 0
    rows: int = 0
    rows_scored: int = 0
    tracks: int = 0
    not_scored: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    references: int = 0
    windows_computed: int = 0
    windows_resumed: int = 0
    seconds: float = 0.0
    out: str = ""
    components: str = ""

    def sentences(self) -> list[str]:
        """What a person is told."""
        told = [
            f"{self.scored:,} of {self.alleles:,} alleles in {self.records:,} records scored: "
            f"{self.rows_scored:,} rows of {self.tracks:,} tracks, {self.references:,} windows of the "
            "reference"
        ]
        for facts in (self.not_scored, self.remarks):
            tally = Tally(
                {f["reason"]: f["count"] for f in facts},
                {f["reason"]: f["examples"] for f in facts},
            )
            told += [f"  {line}" for line in tally.sentences()]
        return told + self.notes


def score_tracks(
    where: Path | str,
    variants: Path | str,
    out: Path | str,
    asked: Asked,
    *,
    embedder: str | None = None,
    checkpoint: str | None = None,
    species: str | None = None,
    heads: Sequence[str] = (),
    tracks: Sequence[str] = (),
    components: int = 0,
    dtype: str = "fp32",
    device: str | None = None,
    most_gb: float = 4.0,
    on_progress: Progress | None = None,
) -> TrackSummary:
    """Score substitutions, insertions and deletions of a VCF.

    Parameters
    ----------
    where : path
        A store, or a dataset.toml (or its folder): the genome, the genes.
    variants : path
        VCF, plain, gzip or bgzip, in any order.
    out : path
        ``.parquet``, ``.zarr``, ``.vcf[.gz]``.
    asked : Asked
    embedder : str, optional
        Name in the store or data set, or a type (``enformer``) with ``checkpoint``.
    heads, tracks : sequence of str
        Those to score; the heads of the species, all of their tracks. A track may hold ``*``.
    components : int
        Principal components over tracks to write beside; 0 for none.
    most_gb : float
        Refuse an output beyond so many GB.

    Raises
    ------
    DataSetError
        With every mistake of the VCF, before any work starts.
    InputError, StoreError
    """
    started = time.monotonic()
    variants, target = Path(variants), Path(out)
    form = check_target(variants, target)
    source = open_source(
        Path(where), species, lambda: contigs_of(variants), lambda kind: kind in TRACK_TYPES
    )
    model, name, notes = model_for(source, embedder, checkpoint, heads, tracks, dtype, device)
    asked.check(model.bin_bp)
    rules = rules_of(model.input_bp)
    checked = check_vcf(variants, source.bases, rules)
    genes = genes_of(Path(where), source.species, source.bases.lengths)
    geometry = Geometry(model.input_bp, model.bin_bp, model.bins)
    plan = plan_of(_sites(variants, source, rules.examine), genes, asked, geometry)
    check_size(form, plan, len(model.tracks), len(asked.arrays), components, most_gb)
    facts = _facts(source, name, model, asked)
    summary = _summary(variants, source, facts, checked, plan, notes, len(model.tracks))
    work = _Work(source, model, asked, plan, facts, summary)
    with _result(work, target, on_progress) as result:
        summary.components = write(result, target, form, variants, components)
    summary.seconds, summary.out = time.monotonic() - started, str(target)
    return summary


@dataclass
class _Work:
    """What is to be computed, and the summary that is filled on the way."""

    source: Source
    model: TrackModel
    asked: Asked
    plan: Plan
    facts: dict[str, Any]
    summary: TrackSummary


@contextmanager
def _result(work: _Work, target: Path, tell: Progress | None) -> Iterator[Result]:
    """Everything computed; what is remembered over a stop goes once it is written."""
    model, asked = work.model, work.asked
    journal = Journal(
        target.with_name(f".{target.name}.journal"), work.facts,
        width=len(asked.arrays) * len(model.tracks), dtype="<f4",
    )  # fmt: skip
    done = False
    try:
        order = _run(work, journal, tell)
        yield Result(work.plan.rows, order, journal.rows(), asked.arrays, model.tracks, work.facts)
        done = True
    finally:
        journal.close(remove=done)


def _sites(path: Path, source: Source, examine: Any) -> Iterator[tuple[str, Site]]:
    with open_vcf(path) as vcf:
        for record in vcf.records:
            name = record.columns[2].decode("utf-8", "replace")
            yield (
                name,
                examine(record.contig, record.position, record.ref, record.alts, source.bases),
            )


def _facts(source: Source, name: str, model: TrackModel, asked: Asked) -> dict[str, Any]:
    labels = "\n".join(t.label for t in model.tracks)
    return {
        "embedder": name, "digest": model.digest, "dtype": model.module.dtype,
        "window_bp": model.input_bp, "bin_bp": model.bin_bp, "bins": model.bins,
        "tracks": len(model.tracks), "tracks_sha256": hashlib.sha256(labels.encode()).hexdigest(),
        **asked.facts(), "species": source.species, "genome_sha256": source.genome_digest,
        "meristem": version("meristem"),
    }  # fmt: skip


def _summary(
    variants: Path, source: Source, facts: dict[str, Any], checked: Checked, plan: Plan,
    notes: list[str], tracks: int,
) -> TrackSummary:  # fmt: skip
    reasons, remarks = Tally(), Tally()
    scored = set()
    for row in plan.rows:
        told = f"{row.contig}:{row.pos} {row.ref[:20]}>{row.alt[:20]}"
        told += f" ({row.gene})" if row.gene else ""
        if row.reason:
            reasons.add(f"{row.reason}: {TRACK_REASONS[row.reason]}", told)
        else:
            scored.add((row.record, row.allele))
        if row.remark:
            what = TRACK_REASONS.get(row.remark, "REF fits an ambiguous base of the genome")
            remarks.add(f"{row.remark}: {what}", told)
    if checked.advice:
        notes = [*notes, checked.advice]
    return TrackSummary(
        str(variants), source.species, facts, checked.records, checked.alleles, len(scored),
        len(plan.rows), sum(not row.reason for row in plan.rows), tracks, reasons.facts(),
        remarks.facts(), notes,
    )  # fmt: skip


def _run(work: _Work, journal: Journal, tell: Progress | None) -> NDArray[np.int64]:
    """Compute all windows; gives the row of each line of the journal."""
    from featurestore.score.tracks.predict import Predictor

    plan, asked, summary = work.plan, work.asked, work.summary
    passes = passes_of(asked.shifts, rc=asked.rc)
    predictor = Predictor(work.model, work.source.bases, passes)
    order: list[int] = []
    done = 0
    for place, items in plan.units(asked.batch):
        keys = _keys(predictor, plan, place, items)
        held = len(journal.replay(keys))
        if held < len(keys):
            values = _unit(predictor, asked, place, items)
            journal.append(keys[held:], values[held:])
        else:
            summary.windows_resumed += len(items)
        order += [row for item in items for row, _ in item.rows]
        done += len(items)
        if tell:
            tell(done, plan.alleles)
    summary.references, summary.windows_computed = predictor.references, predictor.alleles
    return np.array(order, np.int64)


def _keys(predictor: Predictor, plan: Plan, place: Place, items: Sequence[Item]) -> list[bytes]:
    """What decides each row: the window's bases in the first pass, and the row's gene."""
    first = predictor.passes[0]
    keys = []
    for item, codes in zip(items, predictor.windows(place, first, items), strict=True):
        window = hashlib.blake2b(codes.tobytes(), digest_size=16)
        window.update(repr((tuple(place), item.edit.name)).encode())
        for row, bins in item.rows:
            own = window.copy()
            own.update(repr((plan.rows[row].gene, bins)).encode())
            keys.append(own.digest())
    return keys


def _unit(
    predictor: Predictor, asked: Asked, place: Place, items: Sequence[Item]
) -> NDArray[np.float32]:
    """Values of the rows of some alleles of one window, shape (rows, width)."""
    pairs = [(i, bins) for i, item in enumerate(items) for _, bins in item.rows]
    wanted = slice(0, predictor.model.bins)
    if asked.aggregations == ("tss",):
        slices = [bins for _, bins in pairs if bins is not None]
        wanted = slice(min(s.start for s in slices), max(s.stop for s in slices))
    reference, alleles = predictor.tracks(place, items, wanted)
    for one in (reference, *alleles):
        if not np.isfinite(one).all():
            raise MeristemError(
                f"the model gave tracks that are no numbers at {place.contig}:{place.centre + 1} in dtype "
                f"{predictor.model.module.dtype}: score with --dtype fp32, or see to its weights"
            )
    rows = []
    for index, bins in pairs:
        own = None
        if bins is not None:
            own = slice(bins.start - wanted.start, bins.stop - wanted.start)
        rows.append(row_of(asked.scores, asked.aggregations, reference, alleles[index], own))
    return np.stack(rows)
