"""Feature expressions, ``group[.array][:reduction]`` joined with ``+``, and what they stand for.

``genome[:LENGTH]`` is no embedder: see :mod:`benchmarks.inputs.genome_windows`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.inputs.genome_windows import (
    GENOME,
    LENGTH,
    GeneWindows,
    checked_length,
    has_genome,
    window_reasons,
)
from featurestore.errors import InputError, did_you_mean, unknown_name
from learners.base import LearnerInfo
from learners.batch import BlockSource, join_sources, row_valid
from learners.layout import accepts

REDUCTIONS: Final = ("pooled",)
CODES: Final = "onehot"
"""The embedder that holds base codes; every other holds vectors."""

_TERM: Final = re.compile(r"(?P<group>[\w-]+)(?:\.(?P<array>[\w-]+))?(?::(?P<reduction>[\w-]+))?")


@dataclass(frozen=True)
class Term:
    """One feature: a group of the store, one of its arrays, a reduction."""

    group: str
    array: str = ""
    reduction: str = ""

    @property
    def source(self) -> str:
        """``group[.array]``, how the store names it."""
        return f"{self.group}.{self.array}" if self.array else self.group

    def __str__(self) -> str:
        return self.source + (f":{self.reduction}" if self.reduction else "")


@dataclass(frozen=True)
class Features:
    """Features of the genes of several species, end to end.

    Parameters
    ----------
    name : str
        The expression; empty for none.
    sources : mapping of term to BlockSource
        Rows in the order of :func:`benchmarks.inputs.genes.gene_frame`.
    usable : bool array, shape (gene,)
        True where every feature may be used.
    reason : list of str, length gene
        Why not; "" where usable.
    contamination : mapping of term to the benchmarked species its model was pre-trained on
    notes : tuple of str
        What a reader of the scores has to know of these features.
    """

    name: str
    sources: dict[str, BlockSource]
    usable: NDArray[np.bool_]
    reason: list[str]
    contamination: dict[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def parse(text: str) -> list[Term]:
    """Terms of a feature expression.

    Raises
    ------
    InputError
        If the text is not of the form ``group[.array][:reduction]+…``, names a reduction that
        there is not, or a feature twice.
    """
    terms = []
    for part in text.split("+"):
        match = _TERM.fullmatch(part.strip())
        if match is None:
            raise InputError(
                f"features {text!r}: {part!r} is not of the form group[.array][:reduction]; "
                "for example kmer, pc+a2z.accessibility, pc:pooled"
            )
        term = Term(match["group"], match["array"] or "", match["reduction"] or "")
        if term.group == GENOME and not term.array:
            term = Term(GENOME, "", checked_length(term.reduction or str(LENGTH)))
        elif term.reduction and term.reduction not in REDUCTIONS:
            raise InputError(
                f"features {text!r}: unknown reduction {term.reduction!r}."
                f"{did_you_mean(term.reduction, REDUCTIONS)} Known: {', '.join(REDUCTIONS)}."
            )
        if term in terms:
            raise InputError(f"features {text!r}: {term} stands twice")
        terms.append(term)
    return terms


def stored_terms(text: str) -> list[Term]:
    """Terms of a feature expression all of which the store has for haplotypes of lines too.

    Raises
    ------
    InputError
        If one stands for windows of the genome.
    """
    terms = parse(text) if text else []
    for term in terms:
        if term.group == GENOME:
            raise InputError(
                f"feature {term}: lines are read where variants change stored windows, and windows of the "
                "genome know no lines; name features of the store, such as kmer or onehot"
            )
    return terms


def longest_window(text: str) -> int:
    """Bases of the longest window of the genome in a feature expression; 0 without one."""
    terms = parse(text) if text else []
    return max((int(term.reduction) for term in terms if term.group == GENOME), default=0)


class PooledSource:
    """Mean over the bins that a gene has of each region: kind ``tabular``, shape (region, channel).

    Bins that other genes have and this one lacks count for nothing: else the mean would tell the
    length of the region. A region with no bin gives zeros.

    On real *Arabidopsis* windows this costs much (R² of a k-mer ridge 0.30 → 0.09): where in a
    region a k-mer stands matters.
    """

    kind = "tabular"

    def __init__(self, source: BlockSource) -> None:
        self.source = source
        self.dims = tuple(dim for dim in source.dims if dim != "bin")
        self.shape = (source.shape[0], *source.shape[2:])
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        self.coords: Mapping[str, NDArray[Any]] = {
            name: values
            for name, values in source.coords.items()
            if name not in ("bin", "bin_start")
        }
        self.valid: NDArray[np.bool_] | None = None
        self.shard_start = source.shard_start

    def __len__(self) -> int:
        return len(self.source)

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Means of the rows in the order asked for, float32."""
        values = self.source.read(rows).astype(np.float32)
        valid = row_valid(self.source, rows)
        if valid is None:
            valid = np.ones(values.shape[:3], np.bool_)
        # Bins that a gene lacks hold nothing to average, and may hold NaN.
        values[~valid] = 0
        count = np.maximum(valid.sum(axis=2, dtype=np.float32), 1)
        pooled: NDArray[Any] = values.sum(axis=2) / count.reshape(
            *count.shape, *([1] * (values.ndim - 3))
        )
        return pooled


def takes_no_features(info: LearnerInfo) -> bool:
    """True for what looks at species and family alone, or at profiles and places alone."""
    return set(info.inputs) <= {"none", "profile"}


def common_embedders(store: Any, species: Sequence[str]) -> list[str]:
    """Embedders that all the species have, in the order of the store."""
    first, *others = (list(store.embedders(one)) for one in species)
    return [name for name in first if all(name in names for names in others)]


def default_features(store: Any, species: Sequence[str], info: LearnerInfo) -> str:
    """Features for a learner when none are named.

    Codes for a learner that takes nothing else, none for controls without features (and for what
    learns from profiles where the store has no sequence), else the first embedder of the store
    that holds vectors.

    Raises
    ------
    InputError
        If the store holds nothing that the learner takes.
    """
    if takes_no_features(info):
        return ""
    known = common_embedders(store, species)
    vectors = [name for name in known if name != CODES]
    wanted = vectors if accepts(info, "bins") else []
    if "codes" in info.inputs and CODES in known:
        wanted = [*wanted, CODES]
    if "long" in info.inputs and has_genome(store, species):
        wanted = [*wanted, f"{GENOME}:{LENGTH}"]
    if not wanted and "profile" in info.inputs:
        return ""
    if not wanted:
        need = " or ".join(sorted(info.inputs))
        raise InputError(
            f"{info.name} takes {need}; {store.path} holds {', '.join(known) or 'no features'} for "
            f"{', '.join(species)}. Build more with: fs build DATASET --store {store.path} "
            f"--embedder {CODES if 'codes' in info.inputs else 'kmer'}"
        )
    return wanted[0]


def resolve(store: Any, species: Sequence[str], text: str) -> Features:
    """Sources of a feature expression, joined over species; nothing is read.

    Raises
    ------
    UnknownNameError
        For a group or array that a species lacks.
    InputError
        If a reduction does not fit, or shapes differ between species.
    """
    count = sum(len(store.genes(one).gene) for one in species)
    if not text:
        return Features("", {}, np.ones(count, bool), [""] * count)
    terms = parse(text)
    sources = {str(term): _joined(store, species, term) for term in terms}
    usable, reason = _usable(store, species, terms)
    told = {str(term): _contamination(store, species, term) for term in terms}
    notes = tuple(
        dict.fromkeys(n for one in species for t in terms for n in _remarks(store, one, t))
    )
    return Features("+".join(map(str, terms)), sources, usable, reason, told, notes)


def _remarks(store: Any, species: str, term: Term) -> list[str]:
    """What the reader of a score is to know of its features.

    Genes without a region are learned from all the same, and that they lack it can be learned; a
    model may have seen the species it is scored on.
    """
    if term.group == GENOME:
        return []
    lacking = store.absent_regions(species, term.group)
    attrs = store.embedder_attrs(species, term.group)
    unsaid = []
    if attrs.get("digest") and not attrs.get("pretraining_species"):
        unsaid = [
            f"{term.group}: its settings do not state the species that {attrs.get('checkpoint')} was "
            "pre-trained on, so whether it has seen the scored ones is not known"
        ]
    shared = []
    if attrs.get("context") == "gene":
        shared = [
            f"{term.group}: its windows of {attrs['input_bp']:,} bp overlap those of neighbouring genes, in other folds "
            "too; with leave-one-chromosome-out windows of two sides never do"
        ]
    told = ", ".join(f"{count:,} genes lack {region}" for region, count in lacking.items())
    what = "it reads zeros, so that a region is missing is itself a feature"
    return [*unsaid, *shared, *([f"{species}: {told}; {what}"] if lacking else [])]


def check_kinds(features: Features, info: LearnerInfo, store: Any, species: Sequence[str]) -> None:
    """Refuse features that a learner does not take, naming those that would do.

    Raises
    ------
    InputError
    """
    for name, source in features.sources.items():
        if accepts(info, source.kind):
            continue
        fitting = [
            known for known in common_embedders(store, species)
            if accepts(info, store.feature_source(species[0], known).kind)
        ]  # fmt: skip
        fitting += [GENOME] if accepts(info, "long") and has_genome(store, species) else []
        advice = (
            f"use --features {' or '.join(fitting)}" if fitting
            else "the store holds none that would do"
        )  # fmt: skip
        raise InputError(
            f"{info.name} takes {', '.join(sorted(info.inputs))}, and feature {name!r} is "
            f"{source.kind}; {advice}. For one learner alone: --learner {info.name}@FEATURES"
        )


def _joined(store: Any, species: Sequence[str], term: Term) -> BlockSource:
    parts: list[BlockSource] = []
    for one in species:
        if term.group == GENOME:
            parts.append(GeneWindows(store, one, int(term.reduction)))
            continue
        known = list(store.embedders(one))
        if term.group not in known:
            error = unknown_name("feature", term.group, known)
            raise type(error)(f"{one}: {error} Build it with: fs build --embedder {term.group}")
        parts.append(store.feature_source(one, term.source))
    try:
        source = join_sources(parts)
    except ValueError as error:
        raise InputError(f"{term.source}: {error}; run the species one at a time") from error
    if not term.reduction or term.group == GENOME:
        return source
    if source.kind != "bins":
        raise InputError(
            f"{term}: only binned features can be pooled; {term.source} is {source.kind}"
        )
    return PooledSource(source)


def _usable(
    store: Any, species: Sequence[str], terms: Sequence[Term]
) -> tuple[NDArray[np.bool_], list[str]]:
    usable: list[NDArray[np.bool_]] = []
    reasons: list[str] = []
    for one in species:
        good = np.ones(len(store.genes(one).gene), bool)
        why = [""] * len(good)
        for group in dict.fromkeys(term.group for term in terms):
            if group == GENOME:
                told = window_reasons(store, one)
                status = np.array([not why for why in told], bool)
            else:
                status = np.asarray(store.feature_status(one, group), bool)
                told = store.feature_status_reason(one, group)
            for row in np.flatnonzero(good & ~status).tolist():
                why[row] = f"{group}: {told[row] or 'not ok'}"
            good &= status
        usable.append(good)
        reasons += why
    return np.concatenate(usable), reasons


def _contamination(store: Any, species: Sequence[str], term: Term) -> list[str]:
    """Benchmarked species whose sequence the embedder saw in pre-training."""
    found = []
    for one in species if term.group != GENOME else ():
        seen = store.embedder_attrs(one, term.group).get("pretraining_species") or ()
        if _plain_name(one) in {_plain_name(str(name)) for name in seen}:
            found.append(one)
    return found


def _plain_name(species: str) -> str:
    """Genus and species alone: another accession or assembly is still the species that was seen."""
    return "_".join(re.sub(r"[^a-z0-9]+", " ", species.lower()).split()[:2])
