"""Labels against sides: each fold whose genes can be scored needs labels to learn from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.splits.artefact import AlignedSplit, Split
from benchmarks.tasks.base import TaskData
from featurestore.errors import InputError


def check_labels(split: Split, repeat: int, data: TaskData, target: str) -> None:
    """Refuse a split in which a fold has labels to score and none to learn from.

    Raises
    ------
    InputError
        It names the fold, the species without labels, and what to run instead.
    """
    aligned = AlignedSplit(split, data.genes, repeat, data.labelled)
    for fold in aligned.folds:
        sides = aligned.sides(fold)
        if not data.labelled[sides.test].any():
            continue
        for name, rows in (("train", sides.train), ("validate", sides.valid)):
            if not data.labelled[rows].any():
                learn = np.concatenate([sides.train, sides.valid])
                named = split.recipe.get("fold_names", {}).get(str(fold), str(fold))
                raise InputError(
                    f"split {split.name}, fold {named}: no gene to {name} on has a value for "
                    f"target {target}; {_mend(data, learn)}"
                )


def _mend(data: TaskData, learn: NDArray[np.int64]) -> str:
    """Which species lack labels and how to do without them."""
    species = data.genes["species"].to_numpy(object)
    fine = list(dict.fromkeys(species[data.labelled].tolist()))
    bare = sorted(set(species[learn].tolist()) - set(fine))
    if not bare:
        return "use fewer folds or more families"
    options = " ".join(f"--species {name}" for name in fine)
    told = f"{', '.join(bare)} has no labelled gene at all"
    if len(bare) > 1:
        told = f"{', '.join(bare)} have no labelled gene at all"
    if len(fine) > 1:
        return f"{told}: leave it out with {options}"
    return f"{told}: run {fine[0]} alone with {options} --split families-5fold"
