"""Lines of a variant set as they were measured: which haplotypes each reads, and what it expressed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.inputs.targets import _TRUE, is_log_unit
from benchmarks.tasks.haplotypes import Copies
from benchmarks.variant_effects.components import components
from benchmarks.variant_effects.observed import background, observe
from featurestore.errors import InputError, unknown_name

if TYPE_CHECKING:
    from featurestore.store.variants import VariantView

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredLines:
    """Pairs of gene and line of one species: a haplotype there, and a measurement.

    Attributes
    ----------
    view : VariantView
    baseline : float64 array, shape (gene,)
        Mean over tissues of the controls' log expression.
    baseline_of : str
        Who the controls are.
    gene, first, second : int64 arrays, shape (pair,)
        Gene of the species, and haplotype of either copy, −1 the reference.
    line : str array; zygosity, private : arrays, shape (pair,)
    value, delta, noise, background : float64 arrays, shape (pair,)
        As in :mod:`benchmarks.variant_effects.observed`.
    components : float64 array, shape (line measured, k)
        Scores of expression components; ``line_index`` (pair,) finds a pair's line in them.
    """

    view: VariantView
    baseline: Floats
    baseline_of: str
    gene: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    line: NDArray[np.str_]
    line_index: NDArray[np.int64]
    zygosity: NDArray[np.int8]
    private: NDArray[np.bool_]
    value: Floats
    delta: Floats
    noise: Floats
    background: Floats
    components: Floats
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.gene)

    @property
    def digest(self) -> str:
        """Sha256 of which pair shows which difference, as float32."""
        sha = hashlib.sha256("\n".join(self.line.tolist()).encode())
        sha.update(self.gene.tobytes() + self.delta.astype("<f4").tobytes())
        return sha.hexdigest()


def choose_sets(store: Any, species: Sequence[str], name: str | None) -> dict[str, str]:
    """The variant set of each species that has one and expression.

    Raises
    ------
    InputError
        If there is none, or a species has several and none is named.
    UnknownNameError
        If no species has a set of that name.
    """
    held = {one: list(store.variant_sets(one)) for one in species}
    if name is not None:
        every = sorted({known for sets in held.values() for known in sets})
        if name not in every:
            raise unknown_name("variant set", name, every)
        held = {one: [name] if name in sets else [] for one, sets in held.items()}
    several = {one: sets for one, sets in held.items() if len(sets) > 1}
    if several:
        told = "; ".join(f"{one}: {', '.join(sets)}" for one, sets in several.items())
        raise InputError(f"several variant sets ({told}): say which with --variants NAME")
    chosen = {one: sets[0] for one, sets in held.items() if sets}
    chosen = {one: found for one, found in chosen.items() if store.expression(one) is not None}
    if not chosen:
        raise InputError(
            f"{store.path}: no variant set of a species with expression among {', '.join(species)}; give "
            "variants.NAME = a VCF in dataset.toml, and build again"
        )
    return chosen


def measure(
    store: Any,
    view: VariantView,
    tissue: str | None = None,
    wanted: set[str] | None = None,
    features: Sequence[str] = (),
) -> MeasuredLines:
    """Set the lines of a set against the controls of their tissues.

    Parameters
    ----------
    store : featurestore.store.reader.Store
    view : VariantView
    tissue : str, optional
        Only samples of this tissue.
    wanted : set of str, optional
        Only these lines; the controls stay.
    features : sequence of str
        ``group[.array]``: pairs with a haplotype whose vector is not finite there are left out.
    """
    expression = store.expression(view.species)
    samples = _samples(expression, tissue, wanted)
    log = np.asarray(expression.value, np.float64)[:, samples.at]
    if not is_log_unit(str(expression.unit)):
        log = np.log10(1 + log)
    copies = Copies(view)
    carries, names = _carriers(copies, view, samples.line, len(log))
    control, told = _controls(samples, carries, view)
    seen = observe(log, samples.tissue, samples.line, control)
    at = {name: i for i, name in enumerate(seen.line)}
    place = np.array([at.get(name, -1) for name in view.line], np.int64)[copies.line]
    keep = (place >= 0) & np.isfinite(seen.delta[copies.gene, place])
    failed = [view.failed(feature) for feature in features]
    bad = np.unique(np.concatenate(failed)) if failed else np.zeros(0, np.int64)
    spoilt = np.isin(copies.first, bad) | np.isin(copies.second, bad)
    notes = _notes(view, copies, keep, spoilt, names, told)
    keep &= ~spoilt
    known = np.array([name in names for name in seen.line], np.bool_)
    columns = np.array([names.index(n) if n in names else 0 for n in seen.line], np.int64)
    reads = carries[:, columns] | ~known if len(names) else np.ones_like(seen.delta, np.bool_)
    quiet = background(seen.delta, reads)
    gene, where = copies.gene[keep], place[keep]
    return MeasuredLines(
        view=view, baseline=seen.baseline, baseline_of=told, gene=gene,
        first=copies.first[keep], second=copies.second[keep],
        line=np.asarray(view.line)[copies.line[keep]], line_index=where,
        zygosity=copies.zygosity[keep], private=copies.private[keep],
        value=seen.value[gene, where], delta=seen.delta[gene, where],
        noise=seen.noise[gene, where], background=quiet[gene],
        components=components(seen.delta.T), notes=notes,
    )  # fmt: skip


@dataclass(frozen=True)
class _Samples:
    """Samples in use: their columns, and tissue, line and control flag of each."""

    at: NDArray[np.int64]
    tissue: list[str]
    line: list[str]
    control: NDArray[np.bool_]


def _samples(expression: Any, tissue: str | None, wanted: set[str] | None) -> _Samples:
    count = len(expression.sample)

    def texts(values: Any) -> list[str]:
        return [""] * count if values is None else [str(value) for value in values]

    tissues, lines = texts(expression.tissue), texts(expression.line)
    control = np.array([value.strip().lower() in _TRUE for value in texts(expression.control)])
    used = np.ones(count, np.bool_)
    if tissue is not None:
        used &= np.array([one == tissue for one in tissues])
    if wanted is not None:
        unknown = sorted(wanted - set(lines))
        if unknown:
            raise unknown_name("line in --lines", unknown[0], set(lines) - {""})
        used &= control | np.array([line in wanted or not line for line in lines])
    at = np.flatnonzero(used).astype(np.int64)
    return _Samples(at, [tissues[i] for i in at], [lines[i] for i in at], control[at])


def _carriers(
    copies: Copies, view: VariantView, lines: Sequence[str], genes: int
) -> tuple[NDArray[np.bool_], list[str]]:
    """Which gene each measured line of the set carries a haplotype at, and these lines in order."""
    known = set(view.line.tolist())
    names = [name for name in dict.fromkeys(lines) if name in known]
    at = {name: i for i, name in enumerate(names)}
    column = np.array([at.get(name, -1) for name in view.line.tolist()], np.int64)[copies.line]
    carries = np.zeros((genes, len(names)), np.bool_)
    carries[copies.gene[column >= 0], column[column >= 0]] = True
    return carries, names


def _controls(
    samples: _Samples, carries: NDArray[np.bool_], view: VariantView
) -> tuple[NDArray[np.bool_], str]:
    """Which samples are controls, (sample,) or (gene, sample), and who they are in words."""
    if samples.control.any():
        return samples.control, "control samples"
    unnamed = np.array([not line for line in samples.line], np.bool_)
    if unnamed.any():
        return unnamed, "samples of no line"
    known = list(dict.fromkeys(name for name in samples.line if name in set(view.line.tolist())))
    reads = np.zeros((len(carries), len(samples.line)), np.bool_)
    for i, line in enumerate(samples.line):
        if line in known:
            reads[:, i] = ~carries[:, known.index(line)]
    return reads, "lines that read the reference at the gene"


def _notes(
    view: VariantView,
    copies: Copies,
    keep: NDArray[np.bool_],
    spoilt: NDArray[np.bool_],
    measured: list[str],
    told: str,
) -> list[str]:
    """What was set against what, and what was left out."""
    label = f"{view.species}, variant set {view.name}"
    private = int((keep & ~spoilt & copies.private).sum())
    notes = [
        f"{label}: {int((keep & ~spoilt).sum()):,} pairs of gene and line with a haplotype and a "
        f"measurement, {private:,} of them private; held against {told}; heterozygous as "
        f"{view.heterozygous}, two copies as the mean of their amounts"
    ]
    unmeasured = len(view.line) - len(measured)
    if unmeasured:
        notes.append(
            f"{label}: {unmeasured} of {len(view.line)} lines have no sample and are left out"
        )
    lost = int((~keep & np.isin(np.asarray(view.line)[copies.line], measured)).sum())
    if lost:
        notes.append(
            f"{label}: {lost:,} pairs have no expression of gene or controls and are left out"
        )
    if int((keep & spoilt).sum()):
        notes.append(
            f"{label}: {int((keep & spoilt).sum()):,} pairs have a vector that is not finite and are left out"
        )
    return notes
