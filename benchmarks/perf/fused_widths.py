"""``python -m benchmarks.perf.fused_widths``: prints the table of ``docs/fusion.md``. SIMULATED.

Two features, one of 40 columns and one of many more, between which the signal is shared; R² under
test of plain ridge on both, of ``concat``, and of a stack of a ridge on each.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

import numpy as np

from learners.base import Budget
from learners.batch import ArraySource, Block, FeatureBatch
from learners.concat import Concat
from learners.linear import Ridge
from learners.stack import Stack

TRAIN, VALID, TEST = 1000, 120, 1000
NARROW: Final = 40
NOISE: Final = 0.33
"""Of the variance of the labels."""
SEEDS: Final = 3

LEARNERS: Final[dict[str, Callable[[], Any]]] = {
    "ridge@a+b": Ridge,
    "concat@a+b": Concat,
    "stack(ridge@a,ridge@b)": lambda: Stack(of="ridge@a,ridge@b"),
}


def sides(wide: int, share: float, seed: int) -> list[FeatureBatch]:
    """Train, valid and test; ``share`` of the signal's variance comes from the wide feature ``b``."""
    rng = np.random.default_rng(seed)
    genes = TRAIN + VALID + TEST
    parts, signal = {}, np.zeros(genes)
    for name, columns, of_signal in (("a", NARROW, 1 - share), ("b", wide, share)):
        values = rng.normal(size=(genes, columns)).astype(np.float32)
        own = values @ rng.normal(size=columns)
        signal += own / own.std() * np.sqrt(of_signal)
        parts[name] = Block(ArraySource(values), np.arange(genes, dtype=np.int64))
    labels = np.sqrt(1 - NOISE) * signal + np.sqrt(NOISE) * rng.normal(size=genes)
    names = np.arange(genes).astype(str)
    whole = FeatureBatch(
        parts, gene=names, species=np.repeat("simulated", genes), family=names,
        targets=labels[:, None],
    )  # fmt: skip
    ends = np.cumsum([0, TRAIN, VALID, TEST])
    return [whole.take(np.arange(a, b)) for a, b in pairwise(ends)]


def r2(make: Callable[[], Any], wide: int, share: float, seed: int) -> float:
    """R² under test of one fit."""
    train, valid, test = sides(wide, share, seed)
    learner = make()
    learner.fit(train, valid, seed=seed, budget=Budget(threads=1))
    labels = test.require_targets()
    left = ((labels - learner.predict(test.without_targets())) ** 2).sum()
    return float(1 - left / ((labels - labels.mean()) ** 2).sum())


def main() -> None:
    """Print the table, a row as soon as it is known."""
    print("| columns of `b` | its share | " + " | ".join(f"`{name}`" for name in LEARNERS) + " |")
    print("|---" * (2 + len(LEARNERS)) + "|")
    for wide in (400, 4000):
        for share in (0.0, 0.3, 0.7):
            found = [
                np.mean([r2(make, wide, share, seed) for seed in range(SEEDS)])
                for make in LEARNERS.values()
            ]
            cells = " | ".join(f"{value:.2f}" for value in found)
            print(f"| {wide:,} | {share:g} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
