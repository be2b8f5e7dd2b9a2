"""Scores a VCF as a stream: memory does not grow with it, and a stopped run goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from featurestore.errors import InputError
from featurestore.inputs.tally import Tally
from featurestore.score.alleles import Site
from featurestore.score.check import Checked, check_vcf, contigs_of, site_of
from featurestore.score.journal import Journal
from featurestore.score.model import MaskedModel, masked_model
from featurestore.score.outputs import (
    COLUMNS,
    Output,
    TsvOutput,
    VcfOutput,
    form_of,
    rows,
    whole_file,
)
from featurestore.score.records import Record, open_vcf
from featurestore.score.scorer import Scorer, Strands
from featurestore.score.source import Source, open_source, scoring_embedder

MOST_RECORDS: Final = 4096
MOST_BYTES: Final = 1 << 24
"""Records and bytes that are in memory at once."""

Progress = Callable[[int, int], None]
"""Called with sites done and sites in all."""


@dataclass
class ScoreSummary:
    """What a run did.

    Parameters
    ----------
    model : mapping
        All that decides the values; stands in the header of the VCF.
    records, alleles, scored : int
        Of the VCF; alleles that have a score.
    not_scored, remarks : list of {"reason", "count", "examples"}
        Alleles without a score; alleles with a remark.
    notes : list of str
    windows_computed, windows_reused, windows_resumed : int
    seconds : float
    out : str
        Empty if nothing was written to a file.
    scores : list of mapping
        Rows of the table, where no file and no stream was given.
    """

    variants: str
    species: str
    model: dict[str, Any]
    records: int = 0
    alleles: int = 0
    scored: int = 0
    not_scored: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    windows_computed: int = 0
    windows_reused: int = 0
    windows_resumed: int = 0
    seconds: float = 0.0
    out: str = ""
    scores: list[dict[str, Any]] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """What a person is told."""
        told = [f"{self.scored:,} of {self.alleles:,} alleles in {self.records:,} records scored"]
        for facts in (self.not_scored, self.remarks):
            tally = Tally(
                {f["reason"]: f["count"] for f in facts},
                {f["reason"]: f["examples"] for f in facts},
            )
            told += [f"  {line}" for line in tally.sentences()]
        return told + self.notes


def score_vcf(
    where: Path | str,
    variants: Path | str,
    *,
    embedder: str | None = None,
    species: str | None = None,
    out: Path | str | None = None,
    stream: Any = None,
    checkpoint: str | None = None,
    dtype: str = "fp32",
    device: str | None = None,
    batch: int | None = None,
    strands: Strands = "window",
    on_progress: Progress | None = None,
) -> ScoreSummary:
    """Score the SNVs of a VCF.

    Parameters
    ----------
    where : path
        A store, or a dataset.toml (or its folder): the genome, and configured embedders.
    variants : path
        VCF, plain, gzip or bgzip, in any order.
    embedder : str, optional
        Name in the store or data set, or a type (``plantcaduceus``) with ``checkpoint``.
    species : str, optional
        Default the one whose contigs meet.
    out : path, optional
        ``.vcf[.gz]`` for the annotated VCF, ``.tsv[.gz]`` for a table.
    stream : binary file, optional
        Where a table is written if there is no ``out``; without both, rows stand in the summary.
    dtype : {"fp32", "bf16", "fp16"}
        Compute dtype, whatever the embedder is configured to.
    strands : {"window", "both"}
        See ``docs/variant_scores.md``.

    Raises
    ------
    DataSetError
        With every mistake of the VCF, before any work starts.
    InputError, StoreError
    """
    started = time.monotonic()
    variants, target = Path(variants), None if out is None else Path(out)
    form = _check_target(variants, target)
    source = open_source(Path(where), species, lambda: contigs_of(variants))
    name, made, notes = scoring_embedder(source, embedder, checkpoint)
    model = masked_model(made, dtype=dtype)
    checked = check_vcf(variants, source.bases)
    if checked.sites:
        model.load(device)
    facts = _facts(source, name, model, strands)
    summary = _summary(variants, source, facts, checked, notes)
    with ExitStack() as stack:
        journal = _journal(stack, target, facts) if target and checked.sites else None
        scorer = Scorer(model, source.bases, strands=strands, batch=batch, journal=journal)
        sink = _sink(stack, form, target, stream, summary)
        _run(variants, scorer, sink, facts, _Counter(checked.sites, on_progress))
    summary.windows_computed, summary.windows_reused = scorer.computed, scorer.reused
    summary.windows_resumed = scorer.resumed
    summary.seconds, summary.out = time.monotonic() - started, str(target or "")
    return summary


def _check_target(variants: Path, target: Path | None) -> str:
    if target is None:
        return "tsv"
    if target.exists() and variants.exists() and target.samefile(variants):
        raise InputError(f"{target}: --out is the VCF that is read; give it another name")
    if not target.parent.is_dir():
        raise InputError(f"{target}: the folder {target.parent} does not exist")
    return form_of(target)


def _facts(source: Source, name: str, model: MaskedModel, strands: str) -> dict[str, Any]:
    return {
        "embedder": name, **{k: v for k, v in model.facts.items() if k != "pretraining_species"},
        "pretraining_species": " ".join(model.facts.get("pretraining_species", [])),
        "dtype": model.dtype, "window": model.window, "mask_index": model.mask_index,
        "strands": strands, "species": source.species, "genome_sha256": source.genome_digest,
        "meristem": version("meristem"),
    }  # fmt: skip


def _summary(
    variants: Path, source: Source, facts: dict[str, Any], checked: Checked, notes: list[str]
) -> ScoreSummary:
    if checked.advice:
        notes = [*notes, checked.advice]
    return ScoreSummary(
        str(variants), source.species, facts, checked.records, checked.alleles, checked.scored,
        checked.tally.facts(), checked.remarks.facts(), notes,
    )  # fmt: skip


def _journal(stack: ExitStack, target: Path, facts: dict[str, Any]) -> Journal:
    journal = Journal(target.with_name(f".{target.name}.journal"), facts)

    def close(kind: Any, *_: Any) -> None:
        journal.close(remove=kind is None)

    stack.push(close)
    return journal


class _Rows:
    """Keeps the rows of the table, for ``--json`` without a file."""

    def __init__(self, kept: list[dict[str, Any]]) -> None:
        self._kept = kept

    def header(self, *_: Any) -> None:
        """Nothing."""

    def write(self, record: Record, site: Site, values: Any) -> None:
        """Keep the rows of one record."""
        self._kept += [dict(zip(COLUMNS, row, strict=True)) for row in rows(record, site, values)]


def _sink(
    stack: ExitStack, form: str, target: Path | None, stream: Any, summary: ScoreSummary
) -> Output:
    if target is None and stream is None:
        return _Rows(summary.scores)
    writer = stack.enter_context(whole_file(target)) if target else stream
    return VcfOutput(writer) if form == "vcf" else TsvOutput(writer)


@dataclass
class _Counter:
    """Turns windows of a chunk into sites of the whole."""

    total: int
    tell: Progress | None
    done: int = 0

    def chunk(self, sites: int) -> Callable[[int, int], None]:
        def on_window(done: int, windows: int) -> None:
            if self.tell and windows > done:
                self.tell(self.done + sites * done // windows, self.total)

        return on_window

    def finished(self, sites: int) -> None:
        self.done += sites
        if self.tell and sites:
            self.tell(self.done, self.total)


def _run(
    path: Path, scorer: Scorer, sink: Output, facts: dict[str, Any], counter: _Counter
) -> None:
    with open_vcf(path) as vcf:
        sink.header(vcf.header, facts)
        for chunk in _chunks(vcf.records):
            sites = [site_of(record, scorer.bases) for record in chunk]
            places = [(s.contig, s.position) for s in sites if s.scored]
            found = iter(scorer.log_probabilities(places, counter.chunk(len(places))))
            for record, site in zip(chunk, sites, strict=True):
                sink.write(record, site, next(found) if site.scored else None)
            counter.finished(len(places))


def _chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    chunk: list[Record] = []
    size = 0
    for record in records:
        chunk.append(record)
        size += record.size
        if len(chunk) >= MOST_RECORDS or size >= MOST_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
