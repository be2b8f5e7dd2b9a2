"""Predictions of a trained run for the genes of a store, and for its lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs.features import parse, resolve, stored_terms
from benchmarks.inputs.genes import gene_frame
from benchmarks.predict.inputs import match_store
from benchmarks.predict.trained import Chosen, TrainedRun
from benchmarks.tasks.haplotypes import Copies, haplotype_batch, haplotype_sources, mean_of_copies
from featurestore.errors import InputError, unknown_name
from learners.batch import Block, BlockSource, FeatureBatch

_BYTES_AT_ONCE: Final = 1 << 28
"""Features of the genes that a learner is given in one call, as float32: it may hold them whole."""


@dataclass(frozen=True)
class Matched:
    """A store that holds what a run was trained on.

    Parameters
    ----------
    trained : TrainedRun
    store : featurestore.store.reader.Store
    species : sequence of str
    groups : mapping
        Group of the run to group of the store.
    """

    trained: TrainedRun
    store: Any
    species: Sequence[str]
    groups: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, trained: TrainedRun, store: Any, species: Sequence[str]) -> Matched:
        """Hold a store against a run; a store that made other features is refused."""
        groups = match_store(trained.run, store, species, trained.name) if trained.features else {}
        return cls(trained, store, species, groups)

    @property
    def features(self) -> str:
        """The run's feature expression, in the names of the store."""
        return "+".join(self._here(term) for term in self._terms)

    @property
    def _terms(self) -> list[str]:
        return [str(term) for term in parse(self.trained.features)] if self.trained.features else []

    def _here(self, term: str) -> str:
        group, _, _ = term.partition(".")
        group = group.partition(":")[0]
        return self.groups.get(group, group) + term[len(group) :]

    def named(self, sources: Mapping[str, BlockSource]) -> dict[str, BlockSource]:
        """Sources by the names that the model knows them by."""
        return {term: sources[self._here(term)] for term in self._terms}


def predict_genes(matched: Matched) -> pd.DataFrame:
    """Predictions for every gene of the species, in the order of the store.

    Returns
    -------
    DataFrame
        ``species, gene, family, contig, strand, tss, tts[, target], prediction, sd, folds, unit,
        note``; a gene without usable features has no prediction, and its note says why.
    """
    trained, store, species = matched.trained, matched.store, matched.species
    genes = gene_frame(store, species)
    features = resolve(store, species, matched.features)
    rows = np.arange(len(genes), dtype=np.int64)
    batch = FeatureBatch(
        blocks={n: Block(s, rows) for n, s in matched.named(features.sources).items()},
        gene=genes["gene"].to_numpy(str),
        species=genes["species"].to_numpy(str),
        family=genes["family"].to_numpy(str),
        target_names=trained.targets,
    )
    chosen = trained.choose_all(genes)
    usable = np.flatnonzero(features.usable)
    mean, sd = in_parts(trained, batch.take(usable), [chosen[i].folds for i in usable])
    whole = np.full((2, len(genes), len(trained.targets)), np.nan)
    whole[0, usable], whole[1, usable] = mean, sd
    table = genes[["species", "gene", "family", "contig", "strand", "tss", "tts"]].copy()
    table["family"] = table["family"].where(genes["has_family"], "")
    note = [
        one.note if ok else f"not predicted: {why}"
        for one, ok, why in zip(chosen, features.usable, features.reason, strict=True)
    ]
    return _laid_out(table, trained, whole[0], whole[1], chosen, note)


def predict_lines(matched: Matched, variants: str) -> pd.DataFrame:
    """Predictions for every gene of every line whose windows its variants change.

    Where the two copies of a line differ, the line's amount is the mean of the amounts of either
    (:func:`benchmarks.tasks.haplotypes.mean_of_copies`).

    Returns
    -------
    DataFrame
        ``species, gene, family, line, haplotype_1, haplotype_2, variants_1, variants_2[, target],
        prediction, sd, reference, delta, delta_sd, folds, unit, note``; ``reference`` is the
        prediction for the gene as the genome has it, ``delta`` the difference.

    Raises
    ------
    UnknownNameError
        If no species has the set.
    """
    having = [s for s in matched.species if variants in matched.store.variant_sets(s)]
    if not having:
        known = {name for s in matched.species for name in matched.store.variant_sets(s)}
        raise unknown_name("variant set", variants, known)
    tables = [_lines_of(matched, one, variants) for one in having]
    return pd.concat(tables, ignore_index=True)


def _lines_of(matched: Matched, species: str, variants: str) -> pd.DataFrame:
    trained, store = matched.trained, matched.store
    view = store.variants(species, variants)
    genes = gene_frame(store, [species])
    copies = Copies(view)
    features = resolve(store, [species], matched.features)
    spoilt = {
        int(h) for term in stored_terms(matched.features) for h in view.failed(term.source)
    }  # fmt: skip
    bad = np.array([-2 if not spoilt else h for h in spoilt] or [-2])
    good = features.usable[copies.gene]
    good &= ~(np.isin(copies.first, bad) | np.isin(copies.second, bad))
    chosen_of = trained.choose_all(genes)
    mean = np.full((5, len(copies), len(trained.targets)), np.nan)
    place: dict[tuple[int, ...], list[int]] = {}
    for pair in np.flatnonzero(good).tolist():
        place.setdefault(chosen_of[int(copies.gene[pair])].folds, []).append(pair)
    for folds, pairs in place.items():
        at = np.array(pairs, np.int64)
        mean[:, at] = _pairs(matched, view, genes, copies, at, folds)
    table = genes.loc[copies.gene, ["species", "gene", "family"]].reset_index(drop=True)
    table["family"] = table["family"].where(genes["has_family"].to_numpy()[copies.gene], "")
    table["line"] = view.line[copies.line].astype(object)
    for number, side in ((1, copies.first), (2, copies.second)):
        table[f"haplotype_{number}"] = _named(view.haplotype, side, "reference")
        table[f"variants_{number}"] = _named(view.haplotype_variants, side, "")
    chosen = [chosen_of[int(gene)] for gene in copies.gene]
    note = [
        one.note if ok else "not predicted: features of the gene or the haplotype are not usable"
        for one, ok in zip(chosen, good, strict=True)
    ]
    more = {"reference": mean[2], "delta": mean[3], "delta_sd": mean[4]}
    return _laid_out(table, trained, mean[0], mean[1], chosen, note, more)


def _pairs(
    matched: Matched, view: Any, genes: pd.DataFrame, copies: Copies, at: NDArray[np.int64],
    folds: tuple[int, ...],
) -> NDArray[np.float64]:  # fmt: skip
    """Mean, sd, reference, delta and sd of delta of pairs that the same folds predict, (5, n, t)."""
    trained = matched.trained
    sides = np.stack([copies.first[at], copies.second[at], np.full(len(at), -1)], axis=1)
    owner = np.repeat(copies.gene[at], 3)
    keys, inverse = np.unique(np.stack([owner, sides.ravel()]), axis=1, return_inverse=True)
    sources = haplotype_sources(matched.store, view, matched.features, keys[0], keys[1])
    batch = haplotype_batch(matched.named(sources), genes.iloc[keys[0]], trained.targets)
    each = each_in_parts(trained, batch, folds)[:, inverse.ravel()]
    each = each.reshape(len(folds), len(at), 3, -1)
    value = mean_of_copies(each[:, :, 0], each[:, :, 1], trained.unit)
    same = (sides[:, 0] == sides[:, 1])[None, :, None]
    value = np.where(same, each[:, :, 0], value)
    reference = each[:, :, 2]
    delta = value - reference
    return np.stack([value.mean(0), _sd(value), reference.mean(0), delta.mean(0), _sd(delta)])


def _sd(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the first axis, n − 1 in the denominator; NaN where it has one."""
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    return np.asarray(values.std(axis=0, ddof=1))


def _named(names: NDArray[np.str_], index: NDArray[np.int64], other: str) -> list[str]:
    return [str(names[i]) if i >= 0 else other for i in index.tolist()]


def parts_of(batch: FeatureBatch) -> list[NDArray[np.int64]]:
    """Rows of a batch in pieces that a learner may hold in memory."""
    at_once = max(_BYTES_AT_ONCE // (4 * max(batch.columns, 1)), 64)
    return [
        np.arange(start, min(start + at_once, len(batch)), dtype=np.int64)
        for start in range(0, len(batch), at_once)
    ]


def in_parts(
    trained: TrainedRun, batch: FeatureBatch, folds: Sequence[tuple[int, ...]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """:meth:`TrainedRun.predict`, a bounded part of the rows at a time."""
    found = [trained.predict(batch.take(at), [folds[i] for i in at]) for at in parts_of(batch)]
    empty = np.empty((0, len(trained.targets)))
    return (
        np.concatenate([mean for mean, _ in found] or [empty]),
        np.concatenate([sd for _, sd in found] or [empty]),
    )


def each_in_parts(
    trained: TrainedRun, batch: FeatureBatch, folds: Sequence[int]
) -> NDArray[np.float64]:
    """:meth:`TrainedRun.predict_each`, a bounded part of the rows at a time, shape (fold, n, t)."""
    found = [trained.predict_each(batch.take(at), folds) for at in parts_of(batch)]
    return np.concatenate(found or [np.empty((len(folds), 0, len(trained.targets)))], axis=1)


def _laid_out(
    table: pd.DataFrame, trained: TrainedRun, mean: NDArray[np.float64], sd: NDArray[np.float64],
    chosen: Sequence[Chosen], note: Sequence[str], more: Mapping[str, NDArray[np.float64]] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """One row per gene (and line), and per target where there are several."""
    several = len(trained.targets)
    wide = table.loc[table.index.repeat(several)].reset_index(drop=True)
    if several > 1:
        wide["target"] = np.tile(np.array(trained.targets, object), len(table))
    wide["prediction"], wide["sd"] = mean.ravel(), sd.ravel()
    for name, values in (more or {}).items():
        wide[name] = values.ravel()
    wide["folds"] = np.repeat([" ".join(map(str, one.folds)) for one in chosen], several)
    wide["unit"] = trained.unit
    wide["note"] = np.repeat(np.array(note, object), several)
    return wide


def only_genes(table: pd.DataFrame, genes: Sequence[str]) -> pd.DataFrame:
    """Rows of some genes.

    Raises
    ------
    InputError
        If a gene is not there.
    """
    if not genes:
        return table
    known = set(table["gene"])
    missing = [gene for gene in genes if gene not in known]
    if missing:
        raise InputError(f"no gene {missing[0]!r} among the {len(known):,} that were predicted")
    return table[table["gene"].isin(set(genes))].reset_index(drop=True)
