"""Do the intervals of β hold? Simulated seeds whose truth is known: ``python -m benchmarks.variant_effects.study``.

Each seed draws genomes, lines and expression in memory; four learners predict, and the table of
pairs goes through :func:`benchmarks.variant_effects.within.within` as that of a run does. How often
the interval of each kind of error holds the true slope is printed.

``oracle``   knows the noise-free expression of every line: its true slope is 1
``grammar``  knows the grammar, and nothing that windows do not show
``fitted``   ridge on the motif features of the grammar, fitted on the controls by family folds
``shuffled`` ridge on k-mers of the windows, fitted on permuted labels: its true slope is 0

The true slope of ``grammar`` and ``fitted`` is that of the same regression on noise-free differences.
All data are simulated.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.tasks.haplotypes import mean_of_copies
from benchmarks.variant_effects.components import components
from benchmarks.variant_effects.null import permuted
from benchmarks.variant_effects.observed import background, observe
from benchmarks.variant_effects.slope import BOTH, CLASSICAL, slope
from benchmarks.variant_effects.within import (
    FOLD,
    GENE,
    LINE,
    Within,
    between_folds,
    design,
    interval,
    labels,
    within,
)
from featurestore.sample.assembly import Species, cut_windows
from featurestore.sample.ceiling import mutant_differences
from featurestore.sample.expression import SpeciesExpression
from featurestore.sample.grammar import Grammar
from featurestore.sample.settings import TISSUES, SampleSettings
from featurestore.sample.simulate import simulate
from featurestore.sample.variants import BOTH as BOTH_SIDES
from featurestore.sample.variants import line_names, mutate_windows

Floats = NDArray[np.float64]
Codes = NDArray[np.uint8]
Windows = tuple[Codes, Codes]

KINDS: Final = (CLASSICAL, LINE, GENE, BOTH, "given", FOLD)
"""Errors whose intervals are counted; ``given``, the widest of the first four, stands in the metrics."""

LEARNERS: Final = ("oracle", "grammar", "fitted", "shuffled")
_UNIT: Final = "log10(1+TPM)"
_FOLDS: Final = 5
_BIN: Final = 250


@dataclass(frozen=True)
class World:
    """One simulated seed: windows of genes and haplotypes, what was observed, what is true."""

    grammar: Grammar
    reference: Windows
    haplotypes: Windows
    sides: NDArray[np.int64]
    """(pair, 2): haplotype of either copy, −1 the reference."""
    gene: NDArray[np.int64]
    fold: NDArray[np.intp]
    """Test fold of each gene's family, shape (gene,)."""
    label: Floats
    """Mean over tissues of the controls' log expression, shape (gene,)."""
    factor: Floats
    """log10 of amount to TPM of the controls, shape (tissue,)."""
    true: Floats
    """Noise-free differences of pairs, shape (pair,)."""
    pairs: pd.DataFrame


def world(settings: SampleSettings) -> World:
    """Draw one seed, and set the lines of its first species against the controls."""
    grammar, _, results = simulate(settings)
    species, result = results[0]
    windows = (grammar.promoter, grammar.terminator)
    reference = _reference(species, grammar)
    changed = mutate_windows(species, result.variants, result.mutants.haplotypes, windows)
    control = np.array([sample.control for sample in result.samples])
    log = np.log10(1 + result.tpm)
    seen = observe(
        log,
        [TISSUES[s.tissue] for s in result.samples],
        [s.line for s in result.samples],
        control,
    )
    mutants = result.mutants
    tissue = np.array([sample.tissue for sample in result.samples])
    names, family = np.unique([g.family for g in species.genes], return_inverse=True)
    fold = np.random.default_rng(settings.seed).permutation(len(names))[family] % _FOLDS
    factor = [result.scale[control & (tissue == t)].mean() for t in range(len(TISSUES))]
    return World(
        grammar=grammar, reference=reference, haplotypes=changed, sides=_sides(result),
        gene=mutants.gene, fold=fold, label=seen.baseline, factor=np.array(factor), true=mutant_differences(result)[0],
        pairs=_pairs(settings, species, result, seen).assign(fold=fold[mutants.gene]),
    )  # fmt: skip


def _reference(species: Species, grammar: Grammar) -> Windows:
    promoter = cut_windows(species, species.genes, "tss", *grammar.promoter)
    return promoter, cut_windows(species, species.genes, "tts", *grammar.terminator)


def _sides(result: SpeciesExpression) -> NDArray[np.int64]:
    """Haplotype of either copy of each pair."""
    at = {
        pair: i
        for i, pair in enumerate(
            zip(result.mutants.line.tolist(), result.mutants.gene.tolist(), strict=True)
        )
    }
    sides = np.full((len(at), 2), -1, np.int64)
    for number, one in enumerate(result.mutants.haplotypes):
        where = (0, 1) if one.side == BOTH_SIDES else (one.side,)
        sides[at[one.line, one.gene], list(where)] = number
    return sides


def _pairs(
    settings: SampleSettings, species: Species, result: SpeciesExpression, seen: Any
) -> pd.DataFrame:
    """Pairs of line and gene as the task writes them, without the prediction."""
    mutants = result.mutants
    names = np.array(line_names(settings.lines))
    at = np.array([seen.line.index(name) for name in names])
    carries = np.zeros(seen.delta.shape, np.bool_)
    carries[mutants.gene, at[mutants.line]] = True
    controls = np.array([name not in set(names.tolist()) for name in seen.line])
    quiet = background(seen.delta, carries | controls)
    # A haplotype is its variants on one copy; it is private where no other line reads it there.
    readers: dict[tuple[int, tuple[int, ...]], set[int]] = {}
    for one in mutants.haplotypes:
        readers.setdefault((one.gene, one.variants), set()).add(one.line)
    shared = {
        (line, gene) for (gene, _), lines in readers.items() if len(lines) > 1 for line in lines
    }
    key = zip(mutants.line.tolist(), mutants.gene.tolist(), strict=True)
    where = at[mutants.line]
    table = pd.DataFrame({
        "gene": np.array([g.gene for g in species.genes])[mutants.gene],
        "species": species.settings.name,
        "family": np.array([g.family for g in species.genes])[mutants.gene],
        "line": names[mutants.line],
        "private": [pair not in shared for pair in key],
        "delta_obs": seen.delta[mutants.gene, where],
        "noise_controls": seen.noise[mutants.gene, where],
        "noise_background": quiet[mutants.gene],
    })  # fmt: skip
    scores = components(seen.delta.T)[where]
    columns = [f"pc{k + 1}" for k in range(scores.shape[1])]
    return pd.concat([table, pd.DataFrame(scores, columns=columns)], axis=1)


def of_copies(one: World, reference: Floats, haplotypes: Floats) -> Floats:
    """Predicted differences of pairs from predictions of genes and of haplotypes."""
    own = reference[one.gene][:, None]
    copies = np.where(one.sides >= 0, haplotypes[one.sides], own)
    return mean_of_copies(copies[:, 0], copies[:, 1], _UNIT) - own[:, 0]


def oracle(one: World, seed: int) -> Floats:
    """The noise-free difference itself."""
    del seed
    return one.true


def grammar(one: World, seed: int) -> Floats:
    """The grammar on the windows, at the scale of the controls, mean over tissues of log10(1 + TPM)."""
    del seed
    reference, changed = (one.grammar.score(*codes) for codes in (one.reference, one.haplotypes))
    own = reference[one.gene][:, None]
    copies = np.where(one.sides[..., None] >= 0, changed[one.sides], own)
    amount = (10 ** (copies + one.factor)).mean(axis=1)
    base = 10 ** (own[:, 0] + one.factor)
    return np.asarray((np.log10(1 + amount) - np.log10(1 + base)).mean(axis=1))


def fitted(one: World, seed: int) -> Floats:
    """Ridge on the features of the grammar."""
    features = [one.grammar.features(*codes) for codes in (one.reference, one.haplotypes)]
    found = _by_family(one, (features[0], features[1]), penalty=1.0, seed=seed)
    return of_copies(one, *found)


def shuffled(one: World, seed: int) -> Floats:
    """Ridge on the 3-mers of bins of the windows, labels permuted anew in every fold."""
    features = [
        np.concatenate([kmers(codes) for codes in windows], axis=1)
        for windows in (one.reference, one.haplotypes)
    ]
    found = _by_family(one, (features[0], features[1]), penalty=300.0, seed=seed, permute=True)
    return of_copies(one, *found)


def kmers(codes: Codes, k: int = 3) -> Floats:
    """Counts of k-mers of each 250-bp bin, shape (n, bins · 4^k); those with N do not count."""
    n, length = codes.shape
    word = np.zeros((n, length - k + 1), np.int64)
    good = np.ones(word.shape, np.bool_)
    for offset in range(k):
        part = codes[:, offset : offset + word.shape[1]]
        word = 4 * word + np.minimum(part, 3)
        good &= part < 4
    bins = -(-length // _BIN)
    place = np.arange(word.shape[1]) // _BIN
    cell = (np.arange(n)[:, None] * bins + place) * 4**k + word
    counts = np.bincount(cell[good], minlength=n * bins * 4**k)
    return counts.reshape(n, -1).astype(np.float64)


def _by_family(
    one: World, features: tuple[Floats, Floats], *, penalty: float, seed: int, permute: bool = False
) -> tuple[Floats, Floats]:
    """Predictions of genes and haplotypes, each by the model that never saw the gene's family."""
    rng = np.random.default_rng((seed, 1))
    reference, changed = features
    own = np.zeros(len(changed), np.int64)
    for side in (0, 1):
        given = one.sides[:, side] >= 0
        own[one.sides[given, side]] = one.gene[given]
    out, out_changed = np.empty(len(reference)), np.empty(len(changed))
    for held in range(_FOLDS):
        train, test = one.fold != held, one.fold == held
        y = rng.permutation(one.label[train]) if permute else one.label[train]
        mean, sd = reference[train].mean(axis=0), reference[train].std(axis=0)
        sd[sd == 0] = 1.0
        x = (reference[train] - mean) / sd
        weight = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (y - y.mean()))
        out[test] = (reference[test] - mean) / sd @ weight + y.mean()
        here = test[own]
        out_changed[here] = (changed[here] - mean) / sd @ weight + y.mean()
    return out, out_changed


_LEARN: Final[dict[str, Callable[[World, int], Floats]]] = {
    "oracle": oracle, "grammar": grammar, "fitted": fitted, "shuffled": shuffled,
}  # fmt: skip


def run_seed(
    settings: SampleSettings, learners: Sequence[str] = LEARNERS, permutations: int = 199
) -> list[dict[str, Any]]:
    """One seed: a row per learner with β, its true value, and whether each interval holds it."""
    one = world(settings)
    rows = []
    for name in learners:
        predicted = _LEARN[name](one, settings.seed)
        found = within(one.pairs.assign(delta_pred=predicted, true=one.true))
        if found is None:
            raise ValueError("the simulated lines have no private pair; give more lines or genes")
        rows.append({"learner": name, "seed": settings.seed, **_facts(name, found, permutations)})
    return rows


def _facts(name: str, found: Within, permutations: int) -> dict[str, Any]:
    stacked, pairs = found.stacked, found.pairs
    truth = {"oracle": 1.0, "shuffled": 0.0}.get(name, math.nan)
    if math.isnan(truth):
        others, _ = design(pairs, found.components)
        x, y = (pairs[column].to_numpy(np.float64) for column in ("delta_pred", "true"))
        truth = slope(y, x, others, labels(pairs)).value
    errors = {**stacked.errors, "given": interval(stacked)}
    errors[FOLD] = between_folds(stacked, pairs[FOLD].to_numpy())
    x = pairs["delta_pred"].to_numpy(np.float64)
    null = permuted(
        stacked.y, x, x - stacked.x, pairs[LINE].to_numpy(str), draws=permutations, seed=0
    )
    return {
        "beta": stacked.value, "truth": truth, "n": stacked.n, "genes": pairs[GENE].nunique(),
        "k": next(iter(found.components.values())), "partial_r2": stacked.partial_r2,
        "sign": found.sign.value, "null_p": null.p,
        **{f"se_{kind}": errors[kind].se for kind in KINDS},
        **{f"holds_{kind}": bool(errors[kind].low <= truth <= errors[kind].high) for kind in KINDS},
    }  # fmt: skip


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Per learner: mean β and truth, their spread, and in how many seeds each interval held."""
    out = []
    for name, part in rows.groupby("learner", sort=False):
        error = part["beta"] - part["truth"]
        out.append({
            "learner": name, "seeds": len(part), "beta": part["beta"].mean(),
            "truth": part["truth"].mean(), "sd of error": error.std(ddof=1),
            **{f"se {kind}": part[f"se_{kind}"].mean() for kind in KINDS},
            **{kind: int(part[f"holds_{kind}"].sum()) for kind in KINDS},
            "null p < 0.05": int((part["null_p"] < 0.05).sum()),
            "partial R²": part["partial_r2"].mean(), "sign": part["sign"].mean(),
            "pairs": part["n"].mean(), "k": part["k"].mean(),
        })  # fmt: skip
    return pd.DataFrame(out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.variant_effects.study")
    parser.add_argument("--seeds", type=int, default=100, help="seeds 0 … N − 1")
    parser.add_argument("--genes", type=int, default=300, help="genes per species")
    parser.add_argument("--lines", type=int, default=24, help="mutant lines")
    parser.add_argument("--line-sd", type=float, default=0.0, help="hidden factor of lines, log10")
    parser.add_argument("--learner", action="append", choices=LEARNERS, help="only this one")
    parser.add_argument("--json", action="store_true", help="print rows of seeds as JSON")
    told = parser.parse_args(arguments)
    start = time.perf_counter()
    rows: list[dict[str, Any]] = []
    for seed in range(told.seeds):
        settings = SampleSettings(
            seed=seed, genes=told.genes, lines=told.lines, line_sd=told.line_sd
        )
        rows += run_seed(settings, told.learner or LEARNERS)
    if told.json:
        click.echo(json.dumps(rows))
        return 0
    click.echo(f"SIMULATED: {told.genes} genes per species, {told.lines} lines, line_sd {told.line_sd:g}, "
          f"{told.seeds} seeds, {time.perf_counter() - start:.0f} s")  # fmt: skip
    click.echo(
        summarise(pd.DataFrame(rows)).T.to_string(header=False, float_format="{:.3f}".format)
    )
    click.echo(
        "classical … fold: seeds in which the 95 % interval of that error holds the true slope"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
