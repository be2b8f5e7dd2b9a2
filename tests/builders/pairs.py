"""Tables of gene × line pairs with a planted slope, line factors and gene offsets."""

from __future__ import annotations

import numpy as np
import pandas as pd


def pair_table(
    n: int = 600, *, genes: int = 150, lines: int = 20, slope: float = 0.5, seed: int = 0,
    gene_sd: float = 0.3, line_sd: float = 0.3, noise_sd: float = 0.5, x_gene_sd: float = 0.0,
    components: int = 3, species: str = "sim_alba",
) -> pd.DataFrame:  # fmt: skip
    """Pairs whose observed difference is ``slope`` × predicted plus gene, line and pair noise.

    ``x_gene_sd`` > 0 lets the predicted difference follow the gene's offset: stacked slopes are
    then biased, slopes within genes are not.
    """
    rng = np.random.default_rng(seed)
    gene, line = rng.integers(0, genes, n), rng.integers(0, lines, n)
    offset = rng.normal(size=genes)
    factor = rng.normal(size=lines)
    x = rng.normal(size=n) * 0.4 + x_gene_sd * offset[gene]
    y = slope * x + gene_sd * offset[gene] + line_sd * factor[line] + noise_sd * rng.normal(size=n)
    scores = rng.normal(size=(lines, components)) * 5
    scores[:, 0] = 10 * factor + rng.normal(size=lines)
    table = pd.DataFrame({
        "gene": [f"SIM{g:04d}" for g in gene], "species": species,
        "family": [f"FAM{g // 2:04d}" for g in gene], "line": [f"M{i:02d}" for i in line],
        "delta_obs": y, "delta_pred": x, "private": True,
        "fold": gene % 5,
        "noise_controls": noise_sd**2, "noise_background": noise_sd**2 + gene_sd**2 + line_sd**2,
    })  # fmt: skip
    names = [f"pc{k + 1}" for k in range(components)]
    return pd.concat([table, pd.DataFrame(scores[line], columns=names)], axis=1)
