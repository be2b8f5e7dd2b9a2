"""Elements that are in no store (enhancers, promoters of an assay): wild type and variants scored.

A trained run knows windows of a gene, not elements. An element is put into one of its regions, at a
place that is said, with nothing around it (N) or within genes of a store; a variant is put there in
place of the wild type, and delta is the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs.features import PooledSource, parse
from benchmarks.mutagenesis.changes import Changes, single_base_changes
from benchmarks.mutagenesis.features import refuse_gene_centred
from benchmarks.mutagenesis.genes import joined
from benchmarks.mutagenesis.results import with_scores
from benchmarks.mutagenesis.windows import laid_down, sequence_data
from benchmarks.mutagenesis.zero_shot import UNIT, ZeroShot, ratios
from benchmarks.predict.apply import each_in_parts
from benchmarks.predict.inputs import required_inputs
from benchmarks.predict.trained import TrainedRun
from benchmarks.runs.progress import Progress
from featurestore.build.shards.compute import embed_range
from featurestore.embedders.base import Embedder
from featurestore.errors import InputError, unknown_name
from featurestore.inputs.model import Region
from featurestore.score.genome import bases_of
from featurestore.score.scorer import Scorer
from featurestore.sequence.iupac import LETTERS, N, encode, reverse_complement
from featurestore.sequence.windows import bin_starts
from learners.batch import ArraySource, Block, BlockSource, FeatureBatch

AT_ONCE: Final = 512
"""Variants of one step of the progress line."""
ALONE: Final = "an element of no gene: mean of all folds"
CODES: Final = "onehot"


@dataclass(frozen=True)
class Place:
    """Where elements stand in the regions of a run: ``start`` in bp from the anchor, None as it fits."""

    region: str = ""
    start: int | None = None


def parse_place(text: str) -> Place:
    """``REGION`` or ``REGION:START``.

    Raises
    ------
    InputError
    """
    region, colon, start = text.partition(":")
    if not colon:
        return Place(region)
    try:
        return Place(region, int(start))
    except ValueError as error:
        raise InputError(
            f"--place {text!r}: write REGION or REGION:START, START in bp from the anchor, such as "
            "promoter:-169"
        ) from error


def saturated(name: str, sequence: str) -> pd.DataFrame:
    """Every single-base change of an element: element, position, ref, alt, sequence."""
    codes = encode(sequence)
    found = single_base_changes(codes[None], np.array([len(codes)], np.int32), [(0, 0, len(codes))])
    rows = [
        (name, at, LETTERS[ref], LETTERS[alt], sequence[:at] + LETTERS[alt] + sequence[at + 1 :])
        for at, ref, alt in zip(
            found.position.tolist(), found.ref.tolist(), found.alt.tolist(), strict=True
        )
    ]
    return pd.DataFrame(rows, columns=["element", "position", "ref", "alt", "sequence"])


def all_variants(references: Mapping[str, str], measured: pd.DataFrame | None) -> pd.DataFrame:
    """Every single-base change of the elements, and what was measured besides."""
    tables = [saturated(name, sequence) for name, sequence in references.items()]
    if measured is not None:
        tables.append(measured[["element", "position", "ref", "alt", "sequence"]])
    whole = pd.concat(tables, ignore_index=True)
    return whole[~whole.duplicated(["element", "sequence"])].reset_index(drop=True)


def places_of(variants: pd.DataFrame, region: str) -> pd.DataFrame:
    """Where variants of elements lie, columns element … alt of the results."""
    return pd.DataFrame(
        {
            "element": variants["element"], "species": "", "region": region,
            "position": variants["position"], "contig": variants["element"],
            "contig_position": variants["position"],
            "ref": variants["ref"].replace("", "-"), "alt": variants["alt"].replace("", "-"),
        }
    )  # fmt: skip


class Fitting:
    """Elements put into the regions of a run.

    Parameters
    ----------
    trained : TrainedRun
    place : Place
    backgrounds : mapping of name to uint8 array, shape (region, position)
        Genes whose bases stand around the element; one named "" of N alone where there is none.
    """

    def __init__(
        self,
        trained: TrainedRun,
        place: Place,
        backgrounds: Mapping[str, NDArray[np.uint8]] | None = None,
    ) -> None:
        inputs = required_inputs(trained.run, trained.name)
        self.regions = tuple(
            Region(r["name"], r["anchor"], r["upstream"], r["downstream"])
            for r in inputs["regions"]
        )
        self.bin_bp = int(inputs["bin"])
        names = [region.name for region in self.regions]
        if place.region and place.region not in names:
            raise unknown_name("region of the run", place.region, names)
        if not place.region and len(names) > 1:
            raise InputError(
                f"{trained.name} was trained on {', '.join(names)}: say where elements are to stand, "
                f"such as --place {names[0]}:-{min(169, self.regions[0].length)}"
            )
        self.region = names.index(place.region) if place.region else 0
        self.start = place.start
        width = max(region.length for region in self.regions)
        empty = np.full((len(self.regions), width), N, np.uint8)
        self.backgrounds = dict(backgrounds) if backgrounds else {"": empty}

    @property
    def name(self) -> str:
        """Name of the region that elements stand in."""
        return self.regions[self.region].name

    def first(self, length: int) -> int:
        """Position in the region of the first base of an element of a length.

        By default an element ends at the anchor if there is room before it, else it begins the region.

        Raises
        ------
        InputError
            If it does not fit.
        """
        region = self.regions[self.region]
        if self.start is not None:
            first = self.start + region.upstream
        else:
            first = max(region.upstream - length, 0)
        if first < 0 or first + length > region.length:
            raise InputError(
                f"an element of {length} bp from {first - region.upstream} on does not fit {region.name} "
                f"({-region.upstream} … {region.downstream}); choose another --place, or a run with "
                "longer regions"
            )
        return first

    def check(self, name: str, sequence: str) -> None:
        """That an element fits, and is not a gene's own bases read on the other strand.

        Raises
        ------
        InputError
        """
        first = self.first(len(sequence))
        mirrored = reverse_complement(encode(sequence))
        for gene, background in self.backgrounds.items():
            there = background[self.region, first : first + len(sequence)]
            if np.array_equal(there, mirrored) and not np.array_equal(there, encode(sequence)):
                raise InputError(
                    f"{name}: {gene} has its reverse complement at {self.name}:"
                    f"{first - self.regions[self.region].upstream}; give bases, and the ref and alt of the "
                    "measurements, on the strand of the gene, with positions within the record"
                )

    def codes(
        self, background: NDArray[np.uint8], wild: int, sequence: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """All regions with a variant in its place, shape (region, position).

        The side that faces the anchor stays where it is; what a variant is longer or shorter moves
        the bases on the other side.

        Parameters
        ----------
        wild : int
            Length of the wild type.
        """
        region = self.regions[self.region]
        first = self.first(wild)
        own = background[self.region, : region.length]
        whole = np.concatenate([own[:first], sequence, own[first + wild :]])
        length, out = region.length, background.copy()
        pad = np.full(max(length - len(whole), 0), N, np.uint8)
        before_anchor = first + wild <= region.upstream
        fitted = np.concatenate([pad, whole])[-length:] if before_anchor else np.concatenate([whole, pad])[:length]  # fmt: skip
        out[self.region, :length] = fitted
        return out


def score_elements(
    trained: TrainedRun,
    fitting: Fitting,
    references: Mapping[str, str],
    variants: pd.DataFrame,
    embedders: Mapping[str, Embedder],
    progress: Progress,
) -> pd.DataFrame:
    """Delta of every variant, the mean over backgrounds and folds.

    Parameters
    ----------
    embedders : mapping of group of the run to Embedder, loaded
    """
    tables = []
    for name, sequence in references.items():
        own = variants[variants["element"] == name]
        for start in range(0, len(own), AT_ONCE):
            part = own.iloc[start : start + AT_ONCE]
            delta = np.mean(
                [
                    _deltas(trained, fitting, background, sequence, part, embedders)
                    for background in fitting.backgrounds.values()
                ],
                axis=0,
            )
            tables.append(
                with_scores(
                    places_of(part, fitting.name), delta, learner=trained.label,
                    unit=trained.unit, folds=trained.folds, note=_note(fitting),
                    targets=trained.targets,
                )
            )  # fmt: skip
            progress.step(f"{name}: {min(start + AT_ONCE, len(own)):,} of {len(own):,} variants")
    return joined(tables)


def _note(fitting: Fitting) -> str:
    named = [name for name in fitting.backgrounds if name]
    return f"{ALONE}; within {', '.join(named[:3])}" if named else f"{ALONE}; N around it"


def _deltas(
    trained: TrainedRun, fitting: Fitting, background: NDArray[np.uint8], wild: str,
    part: pd.DataFrame, embedders: Mapping[str, Embedder],
) -> NDArray[np.float64]:  # fmt: skip
    """Prediction less that for the wild type, shape (fold, variant, t)."""
    sequences = [wild, *part["sequence"]]
    codes = np.stack([fitting.codes(background, len(wild), encode(s)) for s in sequences])
    sources = element_sources(trained.features, fitting, codes, embedders)
    rows = np.arange(len(codes), dtype=np.int64)
    unknown = np.full(len(codes), "")
    batch = FeatureBatch(
        {name: Block(source, rows) for name, source in sources.items()},
        gene=np.array([f"variant {i}" if i else "wild type" for i in rows]),
        species=unknown, family=unknown,
    )  # fmt: skip
    each = each_in_parts(trained, batch, trained.folds)
    return each[:, 1:] - each[:, :1]


def element_sources(
    features: str, fitting: Fitting, codes: NDArray[np.uint8], embedders: Mapping[str, Embedder]
) -> dict[str, BlockSource]:
    """Features of ready-made regions, by term, as a store of the run would hold them.

    Parameters
    ----------
    codes : uint8 array, shape (n, region, position)
    """
    terms = parse(features) if features else []
    lengths = np.tile(np.array([r.length for r in fitting.regions], np.int32), (len(codes), 1))
    ragged = len({region.length for region in fitting.regions}) > 1
    names = np.array([region.name for region in fitting.regions])
    sources: dict[str, BlockSource] = {}
    data = sequence_data([str(i) for i in range(len(codes))], fitting.regions, codes, lengths)
    with laid_down(data, fitting.bin_bp) as windows:
        for term in terms:
            if term.group == CODES:
                sources[str(term)] = ArraySource(codes, kind="codes", coords={"region": names})
                continue
            refuse_gene_centred(term.group, embedders[term.group].spec.identity())
            found = embed_range(embedders[term.group], windows, 0, len(codes))
            name = term.array or (
                "embedding" if "embedding" in found.outputs else next(iter(found.outputs))
            )
            positions = embedders[term.group].spec.positions or 1
            values = np.nan_to_num(_laid_out(found.outputs[name], positions), nan=0.0)
            valid = np.repeat(found.valid, positions, axis=-1) if ragged else None
            coords = {"region": names, "bin_start": bin_starts(fitting.regions, fitting.bin_bp)}
            source: BlockSource = ArraySource(values, kind="bins", coords=coords, bin_valid=valid)
            sources[str(term)] = PooledSource(source) if term.reduction else source
    return sources


def _laid_out(values: NDArray[Any], positions: int) -> NDArray[Any]:
    """(n, region, bin[, position][, channel]) as (n, region, bin, channel), as a store's reader has it."""
    if positions > 1:
        values = values.reshape(*values.shape[:2], values.shape[2] * positions, *values.shape[4:])
    return values[..., None] if values.ndim == 3 else values


def score_zero_shot(
    zero: ZeroShot, references: Mapping[str, str], variants: pd.DataFrame, progress: Progress
) -> tuple[pd.DataFrame, list[str]]:
    """Log-likelihood ratios of the substitutions; others have no score.

    Returns
    -------
    table, columns COLUMNS; notes
    """
    single = (variants["ref"].str.len() == 1) & (variants["alt"].str.len() == 1)
    scorer, tables = Scorer(zero.model, bases_of(references)), []
    for name in references:
        own = variants[(variants["element"] == name) & single]
        if own.empty:
            continue
        changes = Changes(
            np.zeros(len(own), np.int64), own["position"].to_numpy(np.int64),
            encode("".join(own["ref"])), encode("".join(own["alt"])),
        )  # fmt: skip
        llr = ratios(
            scorer, [name] * len(own), changes.position, changes, forward=True, title=name,
            progress=progress,
        )  # fmt: skip
        tables.append(
            with_scores(
                places_of(own, ""), llr[None, :, None], learner=zero.label, unit=UNIT, folds=(),
                note=zero.note,
            )
        )  # fmt: skip
    other = int((~single).sum())
    notes = [f"{zero.label}: {other:,} insertions and deletions have no score"] if other else []
    return joined(tables), notes
