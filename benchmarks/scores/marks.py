"""Marks that stand at each score: species that a model was pre-trained on, relatives kept in training."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import pandas as pd

PRETRAINED: Final = "pretrained_species"
"""Column of metrics: of the species of a scope those that a model behind the features has seen."""

KEPT: Final = "test_families_kept"
"""Column of metrics and predictions: relatives of the genes under test were learned from, as declared."""

SYMBOL: Final = "*"
LEGEND: Final = "* a model behind the features was pre-trained on the sequence of this species"

_FOLD: Final = re.compile(r"repeat:(?P<repeat>.+)/fold:(?P<fold>.+)")


def seen_species(contamination: Mapping[str, Iterable[str]] | None) -> set[str]:
    """All species that any model behind the features was pre-trained on."""
    return {str(name) for names in (contamination or {}).values() for name in names}


def keeps_families(recipe: Mapping[str, Any] | None) -> bool:
    """Whether a split declares that relatives of the genes under test stay in training."""
    return (recipe or {}).get("exclude_test_families") is False


def marked(metrics: pd.DataFrame, predictions: pd.DataFrame, seen: set[str]) -> pd.DataFrame:
    """Metrics with the column :data:`PRETRAINED`, as they are where no species of them was seen.

    Parameters
    ----------
    metrics : DataFrame
        Column ``scope``.
    predictions : DataFrame
        What they were computed from.
    seen : set of str

    Returns
    -------
    DataFrame
        Names joined by a comma, empty where none was seen: of ``species:X`` that species, of a fold
        those under test in it, of every other scope all of the predictions.
    """
    everywhere = set(map(str, predictions["species"].unique())) & seen if seen else set()
    if not everywhere:
        return metrics
    folds = {
        (str(repeat), str(fold)): set(part["species"].astype(str)) & seen
        for (repeat, fold), part in predictions.groupby(["repeat", "fold"])
    }

    def of(scope: str) -> str:
        if scope.startswith("species:"):
            found = everywhere & {scope.removeprefix("species:").split("/")[0]}
        elif match := _FOLD.match(scope):
            found = folds.get((match["repeat"], match["fold"]), set())
        else:
            found = everywhere
        return ", ".join(sorted(found))

    return metrics.assign(**{PRETRAINED: [of(str(scope)) for scope in metrics["scope"]]})
