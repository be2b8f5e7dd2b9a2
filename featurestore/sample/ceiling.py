"""What the best possible learner reaches: truth against observation, as known to the simulator."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featurestore.sample.expression import Sample, SpeciesExpression

Floats = NDArray[np.float64]

SELECTIONS: tuple[Literal["all", "controls"], ...] = ("all", "controls")
"""Which samples a target takes the median of."""


def target(tpm: Floats) -> Floats:
    """log10(1 + median over samples) of TPM of shape (gene, sample); shape (gene,)."""
    return np.asarray(np.log10(1 + np.median(tpm, axis=1)))


def chosen(samples: list[Sample], which: Literal["all", "controls"]) -> NDArray[np.bool_]:
    """Mask over samples, shape (sample,)."""
    return np.array([which == "all" or sample.control for sample in samples])


def expected_target(truth: Floats, result: SpeciesExpression, mask: NDArray[np.bool_]) -> Floats:
    """Target without measurement noise, shape (gene,).

    Parameters
    ----------
    truth : float64 array, shape (gene, tissue)
        log10 expression: of the grammar alone, or with the hidden effects.
    """
    tissue = np.array([sample.tissue for sample in result.samples])
    return target((10 ** (truth[:, tissue] + result.scale))[:, mask])


def scores(observed: Floats, predicted: Floats) -> dict[str, float]:
    """R² (1 − residual over total sum of squares), Pearson's r and the number of genes."""
    residual = ((observed - predicted) ** 2).sum()
    total = ((observed - observed.mean()) ** 2).sum()
    pearson = np.corrcoef(observed, predicted)[0, 1] if np.ptp(predicted) > 0 else 0.0
    return {
        "r2": round(float(1 - residual / total), 4),
        "pearson": round(float(pearson), 4),
        "n": len(observed),
    }


def ceilings(results: dict[str, SpeciesExpression]) -> dict[str, Any]:
    """Ceilings between genes, of the sequence alone and of all true effects, and within genes.

    ``sequence`` is what the grammar on the windows explains. Hidden effects are drawn
    independently of the sequence, a family's once per family: no learner that has not seen the
    family can know them, so this is the ceiling on unseen families.
    """
    between = {
        which: {
            "sequence": _between(results, which, hidden=False),
            "all_true_effects": _between(results, which, hidden=True),
        }
        for which in SELECTIONS
    }
    out: dict[str, Any] = {
        "simulated": True,
        "target": "log10(1 + median over samples of TPM)",
        "between_genes": between,
    }
    within = {name: r for name, r in results.items() if len(r.mutants.line)}
    if within:
        out["within_gene"] = {name: _within(result) for name, result in within.items()}
    return out


def _between(
    results: dict[str, SpeciesExpression], which: Literal["all", "controls"], *, hidden: bool
) -> dict[str, Any]:
    observed, expected = {}, {}
    for name, result in results.items():
        mask = chosen(result.samples, which)
        truth = result.grammar + (result.hidden.total() if hidden else 0)
        observed[name] = target(result.tpm[:, mask])
        expected[name] = expected_target(truth, result, mask)
    species = {name: scores(observed[name], expected[name]) for name in results}
    pooled = scores(np.concatenate([*observed.values()]), np.concatenate([*expected.values()]))
    mean = {
        key: round(float(np.mean([s[key] for s in species.values()])), 4)
        for key in ("r2", "pearson")
    }
    return {"pooled": pooled, "within_species": mean, "species": species}


def mutant_differences(result: SpeciesExpression) -> tuple[Floats, Floats]:
    """Mean over tissues of log10(1 + TPM), line minus controls: true and observed, shape (pair,).

    The true one uses the mean scale of the controls of each tissue and no noise.
    """
    log = np.log10(1 + result.tpm)
    line = np.array([sample.line_index for sample in result.samples])
    tissue = np.array([sample.tissue for sample in result.samples])
    tissues = result.grammar.shape[1]
    means = np.stack([log[:, line == i].mean(axis=1) for i in range(line.max() + 1)], axis=1)
    mutants = result.mutants
    observed = means[mutants.gene, mutants.line] - log[:, line < 0].mean(axis=1)[mutants.gene]
    scale = np.array([result.scale[(line < 0) & (tissue == t)].mean() for t in range(tissues)])
    wild = (result.grammar + result.hidden.total() + scale)[mutants.gene]
    true = np.log10(1 + 10 ** (wild + mutants.delta)) - np.log10(1 + 10**wild)
    return true.mean(axis=1), observed


def _within(result: SpeciesExpression) -> dict[str, Any]:
    true, observed = mutant_differences(result)
    affected = np.abs(true) >= 0.01
    return {
        "difference": "mean over tissues of log10(1 + TPM), line minus controls",
        "all_pairs": scores(observed, true),
        "pairs_of_true_effect_0.01_or_more": scores(observed[affected], true[affected])
        if affected.sum() > 2
        else None,
    }
