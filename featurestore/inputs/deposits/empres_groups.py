"""EMPRES's arrays of vectors as groups of the store: which there are, and their indices.

    {tss,tts}_embeddings_PlantCad.npy                                 (N, 384, 20)
    {tss,tts}_predictions_a2z.npy, {tss,tts}_embeddings_a2z.npy       (N, 1, 20), (N, 925, 20)

Channels come first there and last in the store.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from featurestore.embedders.a2z.published import PUBLISHED
from featurestore.embedders.arrays import mapped_array
from featurestore.embedders.plantcaduceus.cards import PLANTCADUCEUS_SPECIES
from featurestore.errors import InputError

RECORD: Final = "EMPRES, Zenodo 18236856"
SIDES: Final = {"promoter": "tss", "terminator": "tts"}
"""What the files of a region are called after."""


@dataclass(frozen=True)
class Group:
    """A group of the store and the files of its outputs; the EMPRES variant that uses it."""

    name: str
    outputs: Mapping[str, str]
    checkpoint: str
    species: tuple[str, ...]


GROUPS: Final = (
    Group(
        "plantcaduceus", {"embedding": "embeddings_PlantCad"},
        "kuleshov-group/PlantCaduceus_l20, as EMPRES's scripts name it; which revision is not known",
        PLANTCADUCEUS_SPECIES,
    ),
    Group(
        "a2z", {"embedding": "embeddings_a2z", "accessibility": "predictions_a2z"},
        "a2z model-accessibility-full.h5, as EMPRES's scripts name it; its digest is not known",
        PUBLISHED["accessibility"].species,
    ),
)  # fmt: skip


def has_group(source: Path, group: Group, count: int) -> bool:
    """Whether the files of a group are there; all of them or none must be."""
    paths = _files(source, group)
    there = [path for by in paths.values() for path in by.values() if path.exists()]
    if not there:
        return False
    for output, by in paths.items():
        present = [path for path in by.values() if path.exists()]
        if len(present) == 1:
            raise InputError(f"{source}: {present[0].name} without its other side; fetch both")
        for path in present:
            array = mapped_array(path)
            if array.ndim != 3 or len(array) != count:
                raise InputError(
                    f"{path}: shape {array.shape}; ({count}, channels, bins) expected for {output}"
                )
    return True


def _files(source: Path, group: Group) -> dict[str, dict[str, Path]]:
    return {
        output: {region: source / f"{side}_{stem}.npy" for region, side in SIDES.items()}
        for output, stem in group.outputs.items()
    }


def write_indices(
    folder: Path,
    source: Path,
    groups: Sequence[Group],
    placed: Sequence[tuple[str, str, str, int]],
) -> list[tuple[str, str]]:
    """An index for each group, and the rows of each species, below ``folder/arrays``."""
    if not groups:
        return []
    place = folder / "arrays"
    place.mkdir(exist_ok=True)
    by_species: dict[str, list[tuple[str, str, int]]] = {}
    for name, gene, transcript, at in placed:
        by_species.setdefault(name, []).append((gene, transcript, at))
    for name, rows in by_species.items():
        with (place / f"{name}.rows.tsv").open("w", newline="") as file:
            csv.writer(file, "excel-tab", lineterminator="\n").writerows(rows)
    written = []
    for group in groups:
        outputs = {
            output: {region: str(path.absolute()) for region, path in by.items()}
            for output, by in _files(source, group).items()
            if all(path.exists() for path in by.values())
        }
        index = {
            "source": RECORD, "checkpoint": group.checkpoint,
            "pretraining_species": list(group.species),
            "rows": {name: f"{name}.rows.tsv" for name in sorted(by_species)}, "outputs": outputs,
        }  # fmt: skip
        (place / f"{group.name}.json").write_text(json.dumps(index, indent=1) + "\n")
        written.append((group.name, f"arrays/{group.name}.json"))
    return written
