"""Splits as artefacts: which gene is tested in which fold, with a recipe and a digest.

    split.parquet   gene, species, family, repeat, fold [, role]
                    metadata key ``meristem``: JSON {"schema", "recipe", "digest"}

A row says in which fold a gene is tested. Without a ``role`` column the other genes train, and
validation is taken from them: 10 % of the training families, or what the recipe says (where labels
are known, of the families that have one: the artefact itself knows no labels). A ``role``
column (train, valid, test; one row per gene, repeat and fold) spells the sides out instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs.genes import family_notes
from benchmarks.runs.tables import read_parquet
from benchmarks.splits.recipes import NO_FOLD, parse, shuffled
from featurestore.errors import InputError, InputFileNotFoundError
from featurestore.untrusted import parse_json

SPLIT_COLUMNS: Final = ("gene", "species", "family", "repeat", "fold")
VALIDATION: Final = {"rule": "families", "fraction": 0.1}
_SCHEMA: Final = 1
_KEY: Final = b"meristem"


@dataclass(frozen=True)
class Split:
    """A split and how it was made.

    Parameters
    ----------
    table : DataFrame
        Columns :data:`SPLIT_COLUMNS`, with ``role`` where sides are spelt out; ``repeat`` and
        ``fold`` are int64. Rows stand in order of repeat, species, gene.
    recipe : dict
        Plain JSON: name, folds, species, repeat, validation, fold_names … (``repeat`` alone
        depends on the seeds)
    notes : list of str
        What a person should be told.
    """

    table: pd.DataFrame
    recipe: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @cached_property
    def digest(self) -> str:
        """Sha256 of recipe and rows, whatever order the rows came in."""
        columns = [*SPLIT_COLUMNS, *(("role",) if "role" in self.table else ())]
        first, *others = (self.table[name].astype(str) for name in columns)
        lines = first.str.cat(others, sep="\t").sort_values()
        sha = hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode())
        sha.update("\n".join(lines).encode())
        return sha.hexdigest()

    @property
    def name(self) -> str:
        """Short name, as in the name of a run."""
        return str(self.recipe["name"])

    @property
    def repeats(self) -> list[int]:
        """Repeats there are, ascending."""
        return sorted(int(value) for value in self.table["repeat"].unique())

    def folds(self, repeat: int) -> list[int]:
        """Folds of a repeat in which genes are tested, ascending."""
        here = self.table[self.table["repeat"] == repeat]
        if "role" in here:
            here = here[here["role"] == "test"]
        return sorted(int(value) for value in here["fold"].unique())

    def repeat_for(self, seed: int) -> int:
        """The repeat that a seed uses: its own, or the only one there is.

        Raises
        ------
        InputError
            If the split has several repeats and not this one.
        """
        repeats = self.repeats
        if seed in repeats:
            return seed
        if len(repeats) == 1:
            return repeats[0]
        raise InputError(
            f"split {self.name} has repeats {repeats}, none for seed {seed}; ask for "
            f"--seeds {len(repeats)} or fewer"
        )


@dataclass(frozen=True)
class Sides:
    """Rows of a gene table on each side of one fold, ascending, disjoint.

    ``excluded`` are genes kept out because their family is tested in the fold.
    """

    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64]
    excluded: NDArray[np.int64]


def make_split(
    genes: pd.DataFrame,
    name: str = "families-5fold",
    *,
    seeds: Sequence[int] = (0,),
    keep_test_families: bool = False,
) -> Split:
    """Make a split by recipe.

    Parameters
    ----------
    genes : DataFrame
        From :func:`benchmarks.inputs.genes.gene_frame`; the order of its rows does not matter.
    name : str
        ``families-<K>fold``, ``leave-one-species-out``, ``leave-one-chromosome-out``,
        ``empres``, ``random-<K>fold``, ``species:TRAIN,…->TEST,…``.
    seeds : sequence of int
        One repeat each, numbered like the seed.
    keep_test_families : bool
        For splits by species or chromosome: keep training genes whose family is tested in the
        fold (the leakage gate then refuses). By default they are kept out of training.

    Raises
    ------
    InputError
        If the recipe is unknown or the genes cannot be split so.
    """
    recipe_function, count = parse(name)
    ordered = genes.sort_values(["species", "gene"], ignore_index=True)
    notes = family_notes(ordered)
    recipe: dict[str, Any] = {
        "name": name, "folds": count, "repeat": [int(seed) for seed in seeds],
        "species": sorted(ordered["species"].unique()), "validation": VALIDATION,
    }  # fmt: skip
    parts = []
    for seed in seeds:
        made = recipe_function(ordered, int(seed), count, name)
        notes += [note for note in made.notes if note not in notes]
        recipe.update(made.recipe)
        if made.names:
            recipe["fold_names"] = {str(k): v for k, v in made.names.items()}
        part = ordered[["gene", "species", "family"]].assign(repeat=int(seed), fold=made.fold)
        if made.role is not None:
            part["role"] = made.role
        parts.append(part[part["fold"] != NO_FOLD])
    if recipe.get("exclude_test_families") and keep_test_families:
        recipe["exclude_test_families"] = False
    return Split(pd.concat(parts, ignore_index=True), recipe, notes)


class AlignedSplit:
    """One repeat of a split laid over a table of genes, ready to give the sides of its folds.

    Families are those of the gene table, not those written in the split: the leakage gate
    judges what a learner would see.

    Parameters
    ----------
    split : Split
    genes : DataFrame
        From :func:`benchmarks.inputs.genes.gene_frame`.
    repeat : int
    labelled : bool array, shape (gene,), optional
        Validation is drawn from the families of these genes, and its share counts them alone:
        genes without a label would make it smaller than it seems. Default: all genes.
    """

    def __init__(
        self,
        split: Split,
        genes: pd.DataFrame,
        repeat: int,
        labelled: NDArray[np.bool_] | None = None,
    ) -> None:
        here = split.table[split.table["repeat"] == repeat]
        index = pd.MultiIndex.from_frame(genes[["species", "gene"]])
        self.split, self.repeat = split, repeat
        self.labelled = np.ones(len(genes), bool) if labelled is None else labelled
        self.families = genes["family"].to_numpy(object)
        self.family, names = pd.factorize(genes["family"])
        self.family_names = np.asarray(names, object)
        self.family_count = len(names)
        self._row = index.get_indexer(pd.MultiIndex.from_frame(here[["species", "gene"]]))
        self._fold = here["fold"].to_numpy(np.int64)
        self._role = here["role"].to_numpy(object) if "role" in here else None
        self.unknown = int((self._row < 0).sum())
        self.folds = split.folds(repeat)
        self.test_fold = np.full(len(genes), NO_FOLD, np.int64)
        tested = self._row >= 0
        if self._role is not None:
            tested &= self._role == "test"
        self.test_fold[self._row[tested]] = self._fold[tested]
        self.used = np.zeros(len(genes), bool)
        self.used[self._row[self._row >= 0]] = True

    def sides(self, fold: int) -> Sides:
        """Rows that train, validate and are tested in a fold."""
        if self._role is not None:
            return self._spelt_out(fold)
        test = self.test_fold == fold
        train = self.used & ~test
        excluded = np.zeros_like(train)
        if self.split.recipe.get("exclude_test_families"):
            excluded = train & self._in_families(test)
            train &= ~excluded
        valid = self._validation(train, fold)
        return self._as_rows(train & ~valid, valid, test, excluded)

    def _in_families(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        present = np.zeros(self.family_count, bool)
        present[self.family[rows]] = True
        inside: NDArray[np.bool_] = present[self.family]
        return inside

    def _validation(self, train: NDArray[np.bool_], fold: int) -> NDArray[np.bool_]:
        rule = self.split.recipe.get("validation", VALIDATION)
        if rule["rule"] == "previous fold":
            before = self.folds[self.folds.index(fold) - 1]
            one_fold: NDArray[np.bool_] = train & (self.test_fold == before)
            return one_fold
        pool = train & self.labelled
        sizes = np.bincount(self.family[pool], minlength=self.family_count)
        here = np.flatnonzero(sizes)
        code = dict(zip(self.family_names[here].tolist(), here.tolist(), strict=True))
        # By recipe and repeat, not by the digest of all repeats: --seeds 1 and --seeds 5 agree.
        order = [code[x] for x in shuffled(code, self.split.name, self.repeat, fold)]
        before_each = np.cumsum(sizes[order]) - sizes[order]
        chosen = np.zeros(self.family_count, bool)
        # Families until a tenth is reached, the last one never: something must train.
        few = int((before_each < rule["fraction"] * pool.sum()).sum())
        chosen[order[: min(few, len(order) - 1)]] = True
        picked: NDArray[np.bool_] = train & chosen[self.family]
        return picked

    def _spelt_out(self, fold: int) -> Sides:
        side = np.full(len(self.families), "", object)
        here = (self._fold == fold) & (self._row >= 0)
        assert self._role is not None  # noqa: S101 - for the type checker
        side[self._row[here]] = self._role[here]
        train, valid, test = (side == role for role in ("train", "valid", "test"))
        if not train.any():
            train = self.used & (side == "")
        excluded = np.zeros_like(train)
        if self.split.recipe.get("exclude_test_families"):
            excluded = train & self._in_families(test)
            train &= ~excluded
        if not valid.any():
            valid = self._validation(train, fold)
        return self._as_rows(train & ~valid, valid, test, excluded)

    @staticmethod
    def _as_rows(*masks: NDArray[np.bool_]) -> Sides:
        return Sides(*(np.flatnonzero(mask).astype(np.int64) for mask in masks))


def write_split(split: Split, path: Path) -> None:
    """Write ``split.parquet``, atomically, the recipe and digest in its metadata."""
    import os

    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {"schema": _SCHEMA, "recipe": split.recipe, "digest": split.digest}
    table = pa.Table.from_pandas(split.table, preserve_index=False)
    table = table.replace_schema_metadata(
        {**(table.schema.metadata or {}), _KEY: json.dumps(about, sort_keys=True).encode()}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    pq.write_table(table, partial, compression="zstd")
    partial.replace(path)


def read_split(path: Path) -> Split:
    """Read what :func:`write_split` wrote.

    Raises
    ------
    InputFileNotFoundError
        If there is no such file.
    InputError
        If it is no split of this project, or its rows are not those its digest was made of.
    """
    if not path.exists():
        raise InputFileNotFoundError(f"{path}: no such file; make a split with: bench split")
    about = stored_recipe(path)
    if about is None:
        raise InputError(f"{path}: no recipe in it; use a table of your own as --split file:{path}")
    table = read_parquet(path)
    if lacking := [name for name in SPLIT_COLUMNS if name not in table]:
        raise InputError(f"{path}: lacks the columns {', '.join(lacking)}; make it again")
    split = Split(table, about["recipe"])
    if split.digest != about["digest"]:
        raise InputError(
            f"{path}: its rows are not those it was written with (digest {split.digest[:8]}, "
            f"written {about['digest'][:8]}); make it again with: bench split"
        )
    return split


def stored_recipe(path: Path) -> dict[str, Any] | None:
    """Recipe and digest in the metadata of a Parquet file, None where there are none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable Parquet file ({error})") from error
    if _KEY not in metadata:
        return None
    try:
        about = parse_json(metadata[_KEY])
    except ValueError as error:
        raise InputError(f"{path}: its recipe is not JSON ({error})") from error
    if not (
        isinstance(about, dict)
        and isinstance(about.get("recipe"), dict)
        and isinstance(about.get("digest"), str)
    ):
        raise InputError(f"{path}: its recipe is not what bench split writes; make it again")
    found: dict[str, Any] = about
    return found
