"""Task ``variants``: what the haplotypes of lines do to the expression of genes.

A learner is fitted fold by fold as in task ``expression``, on the controls. For the genes under
test it predicts the reference and every haplotype of every line; between genes the reference is
held against the controls, within genes line minus reference against line minus controls. What is
computed of it is told in docs/variant_effects.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs.features import Features, stored_terms
from benchmarks.tasks.base import Predict, TaskData
from benchmarks.tasks.expression import ExpressionTask
from benchmarks.tasks.haplotypes import (
    haplotype_batch,
    haplotype_sources,
    mean_of_copies,
    predicted,
)
from benchmarks.tasks.lines import MeasuredLines, choose_sets, measure
from featurestore.errors import InputError

_TARGETS: Final = ("median", "mean", "max")
_ZYGOSITY: Final = np.array(["homozygous", "heterozygous", "mixed"], object)


@dataclass(frozen=True)
class VariantData(TaskData):
    """As of any task; its labels are those of genes and of lines."""

    @cached_property
    def labels_digest(self) -> str:
        """Sha256 of the labels of genes, and of the observed differences of lines."""
        genes = TaskData(self.batch, self.genes, self.scored, self.reason, self.unit)
        sha = hashlib.sha256(genes.labels_digest.encode())
        for one in self.extra["species"].values():
            sha.update(one.digest.encode())
        return sha.hexdigest()


class VariantsTask:
    """Between-gene and within-gene effects of the haplotypes of a variant set."""

    name: ClassVar[str] = "variants"
    summary: ClassVar[str] = "predict what the haplotypes of lines do to a gene's expression"
    default_target: ClassVar[str] = "median"

    def __init__(self, variants: str | None = None, lines: Path | None = None) -> None:
        self.variants, self.lines = variants, lines

    def prepare(
        self, store: Any, species: Sequence[str], genes: pd.DataFrame, features: Features,
        target: str,
    ) -> TaskData:  # fmt: skip
        """Lay labels and features over the genes, and lines over their haplotypes.

        Raises
        ------
        InputError
            If no species has both a variant set and expression of its lines, or the target is one
            that lines cannot be held against.
        """
        kind, _, tissue = target.partition(":")
        if target not in _TARGETS and kind != "tissue":
            raise InputError(
                f"task variants: target {target!r}; choose {', '.join(_TARGETS)} (of the controls; lines "
                "are averaged over tissues) or tissue:NAME"
            )
        plain = ExpressionTask().prepare(store, species, genes, features, target)
        sets = choose_sets(store, species, self.variants)
        wanted = None if self.lines is None else _read_lines(self.lines)
        found: dict[str, MeasuredLines] = {}
        notes = list(plain.notes)
        groups = [term.source for term in stored_terms(features.name)]
        for one, name in sets.items():
            view = store.variants(one, name)
            lines = measure(store, view, tissue or None, wanted, groups)
            notes += lines.notes
            found[one] = lines
        if not any(len(lines) for lines in found.values()):
            told = "; ".join(dict.fromkeys(note for x in found.values() for note in x.notes))
            raise InputError(
                f"{store.path}: no gene × line pair has both a haplotype and expression ({told}); the "
                "samples table must name the line of each sample as the VCF does"
            )
        extra = {"store": store, "species": found, "features": features.name}
        extra["identity"] = {"variants": self._identity(store, found, groups)}
        return VariantData(
            plain.batch, plain.genes, plain.scored, plain.reason, plain.unit, notes, extra
        )

    def _identity(
        self, store: Any, found: dict[str, MeasuredLines], groups: list[str]
    ) -> dict[str, Any]:
        """What a run is told apart by, beside what every run is: sets, digests, filters."""
        return {
            "sets": {one: lines.view.name for one, lines in found.items()},
            "digest": variant_digest(store, found, groups),
            "heterozygous": {one: lines.view.heterozygous for one, lines in found.items()},
            "copies": "mean of amounts",
            "pairs": "private haplotypes",
            "baseline": {one: lines.baseline_of for one, lines in found.items()},
            "lines": None if self.lines is None else _digest(self.lines),
        }

    def predict(self, data: TaskData, rows: NDArray[np.int64], predict: Predict) -> pd.DataFrame:
        """A row per gene (``haplotype`` empty: the controls), and one per gene and line."""
        genes = data.genes.iloc[rows]
        reference = predicted(data.batch.take(rows).without_targets(), predict)[:, 0]
        table = genes[["gene", "species", "family"]].reset_index(drop=True).astype(object)
        known = np.full(len(data.genes), np.nan)
        known[rows] = reference
        parts = [_genes_table(table, data, rows, reference)]
        for one, lines in data.extra["species"].items():
            here = np.flatnonzero((data.genes["species"] == one).to_numpy())
            parts.append(_pairs_table(data, one, lines, here, known, predict))
        return pd.concat(parts, ignore_index=True)

    def evaluate(
        self, predictions: pd.DataFrame, *, unit: str, bootstrap: int, seed: int
    ) -> pd.DataFrame:
        """Metrics between genes as of task expression, and those of :mod:`benchmarks.variant_effects`."""
        from benchmarks.runs.files import PREDICTION_COLUMNS
        from benchmarks.scores.metrics import evaluate
        from benchmarks.variant_effects.table import variant_rows

        of_gene = (predictions["haplotype"] == "").to_numpy()
        genes = predictions.loc[of_gene, list(PREDICTION_COLUMNS)]
        plain = evaluate(genes, unit=unit, bootstrap=bootstrap, seed=seed)
        pairs = predictions[~of_gene]
        rows = variant_rows(genes, pairs, bootstrap=bootstrap, seed=seed)
        return pd.concat([plain, rows], ignore_index=True)


def variant_digest(store: Any, found: dict[str, MeasuredLines], features: Sequence[str]) -> str:
    """Sha256 over the bytes of the sets and of the named features in them."""
    groups = {"sequence" if f == "onehot" else f.partition(".")[0] for f in features}
    lines = []
    for path, file in sorted(store.manifest.files.items()):
        species, _, rest = path.partition("/")
        if species not in found or not rest.startswith(f"variants/{found[species].view.name}/"):
            continue
        owner, _, deeper = rest.split("/", 2)[2].partition("/")
        own_array = deeper.partition("/")[0] == "c"
        if "c" in rest.split("/") and (own_array or owner in groups):  # values, not metadata
            lines.append(f"{path} {file.digest}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _genes_table(
    table: pd.DataFrame, data: TaskData, rows: NDArray[np.int64], reference: NDArray[np.float64]
) -> pd.DataFrame:
    """The controls' row of each gene: their mean over tissues, or the label where no set is."""
    observed = data.batch.require_targets()[rows, 0].copy()
    species = data.genes["species"].to_numpy(object)
    for one, lines in data.extra["species"].items():
        at = np.flatnonzero(species[rows] == one)
        first = int(np.flatnonzero(species == one)[0])
        observed[at] = lines.baseline[rows[at] - first]
    empty = dict.fromkeys(("line", "haplotype", "zygosity"), "")
    return table.assign(y_true=observed, y_pred=reference, private=False, **empty)


def _pairs_table(
    data: TaskData,
    species: str,
    lines: MeasuredLines,
    here: NDArray[np.int64],
    known: NDArray[np.float64],
    predict: Predict,
) -> pd.DataFrame:
    """Rows of gene × line of one species, for the genes whose reference is predicted."""
    reference = known[here]
    pairs = np.flatnonzero(np.isfinite(reference[lines.gene]))
    gene = lines.gene[pairs]
    both = np.stack([lines.first[pairs], lines.second[pairs]])
    wanted, inverse = np.unique(both, return_inverse=True)
    inverse = inverse.reshape(both.shape)
    values = np.full(len(wanted), np.nan)
    given = wanted >= 0
    own = lines.view.haplotype_gene[wanted[given]].astype(np.int64)
    sources = haplotype_sources(
        data.extra["store"], lines.view, data.extra["features"], own, wanted[given]
    )
    batch = haplotype_batch(sources, data.genes.iloc[here[own]], data.batch.target_names)
    values[given] = predicted(batch, predict)[:, 0]
    copies = np.where(both >= 0, values[inverse], reference[gene])
    same = both[0] == both[1]
    y_pred = np.where(same, copies[0], mean_of_copies(copies[0], copies[1], data.unit))
    table = data.genes.iloc[here[gene]][["gene", "species", "family"]].reset_index(drop=True)
    table = table.astype(object).assign(
        y_true=lines.value[pairs],
        y_pred=y_pred,
        private=lines.private[pairs],
        line=lines.line[pairs].astype(object),
        haplotype=_named(lines.view.haplotype, both),
        zygosity=_ZYGOSITY[lines.zygosity[pairs]],
        delta_obs=lines.delta[pairs],
        delta_pred=y_pred - reference[gene],
        noise_controls=lines.noise[pairs],
        noise_background=lines.background[pairs],
    )
    scores = lines.components[lines.line_index[pairs]]
    names = [f"pc{k + 1}" for k in range(scores.shape[1])]
    return pd.concat([table, pd.DataFrame(scores, columns=names)], axis=1)


def _named(names: NDArray[np.str_], both: NDArray[np.int64]) -> NDArray[np.object_]:
    """Ids of the haplotypes of each pair; two where the copies differ, ``reference`` for it."""
    known = np.append(names.astype(object), "reference")
    first, second = known[both[0]], known[both[1]]
    named: NDArray[np.object_] = np.where(both[0] == both[1], first, first + "/" + second)
    return named


def _read_lines(path: Path) -> set[str]:
    """Names of lines, one a line; blank lines and what follows # do not count."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--lines {path}: not a readable text file ({error})") from error
    names = {row.partition("#")[0].strip() for row in text.splitlines()} - {""}
    if not names:
        raise InputError(f"--lines {path}: names no line")
    return names


def _digest(path: Path) -> str:
    """Sha256 of the set of names."""
    return hashlib.sha256("\n".join(sorted(_read_lines(path))).encode()).hexdigest()
