"""Splits from a user's file: CSV, TSV or Parquet with gene[, species][, repeat], fold[, role]."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.inputs.genes import family_notes
from benchmarks.runs.tables import read_parquet
from benchmarks.splits.artefact import (
    SPLIT_COLUMNS,
    VALIDATION,
    Split,
    make_split,
    read_split,
    stored_recipe,
)
from featurestore.errors import InputError, InputFileNotFoundError
from featurestore.inputs.files import read_bytes
from featurestore.inputs.problems import Problems

_LARGEST = 1 << 53
ROLES = ("train", "valid", "test")


def load_split(
    text: str,
    genes: pd.DataFrame,
    *,
    seeds: Sequence[int] = (0,),
    keep_test_families: bool = False,
) -> Split:
    """The split that ``--split`` names: a recipe, ``file:PATH``, or a split.parquet.

    Raises
    ------
    InputError
        If there is no such recipe or file, or the file is not a split of these genes.
    """
    if text.startswith("file:"):
        return split_from_file(Path(text.removeprefix("file:")), genes)
    if text.endswith(".parquet"):
        return split_from_file(Path(text), genes)
    return make_split(genes, text, seeds=seeds, keep_test_families=keep_test_families)


def split_from_file(path: Path, genes: pd.DataFrame) -> Split:
    """A user's table, or an artefact of ``bench split``, as a split of these genes.

    A column ``role`` (train, valid, test) or ``valid`` (true where the row is for validation)
    spells the sides of a fold out; without it the fold is where the gene is tested.
    """
    if not path.exists():
        raise InputFileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: a folder, a pipe or a device, not a file")
    if path.suffix == ".parquet" and stored_recipe(path) is not None:
        split = read_split(path)
        _must_meet(split.table, genes, path)
        return split
    table = _read_table(path)
    missing = [name for name in ("gene", "fold") if name not in table]
    if missing:
        raise InputError(
            f"{path}: no column {' and '.join(missing)}; its columns are "
            f"{', '.join(map(str, table.columns))}. Needed: gene, fold; optional: species, "
            "repeat, role"
        )
    table = table[table["fold"].str.strip() != ""].reset_index(drop=True)
    table = _with_species(table, genes, path)
    table["repeat"] = _numbers(table["repeat"], path, "repeat") if "repeat" in table else 0
    table["fold"], names = _folds(table["fold"])
    _with_roles(table, path)
    _must_meet(table, genes, path)
    _tested_once(table, path)
    family = genes.set_index(["species", "gene"])["family"]
    keys = pd.MultiIndex.from_frame(table[["species", "gene"]])
    table["family"] = family.reindex(keys).fillna("").to_numpy(object)
    columns = [*SPLIT_COLUMNS, *(["role"] if "role" in table else [])]
    table = table[columns].sort_values(["repeat", "species", "gene", "fold"], ignore_index=True)
    recipe: dict[str, Any] = {
        "name": f"file-{_stem(path)}", "folds": int(table["fold"].nunique()),
        "repeat": sorted(int(r) for r in table["repeat"].unique()),
        "species": sorted(table["species"].unique()), "validation": VALIDATION,
        "file_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }  # fmt: skip
    if names:
        recipe["fold_names"] = names
    return Split(table, recipe, [*family_notes(genes), *_partial_notes(table, genes, path)])


def _stem(path: Path) -> str:
    return path.name.split(".")[0] or "split"


def _read_table(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        table = read_parquet(path)
        table.columns = table.columns.map(str)
        if table.columns.has_duplicates:
            raise InputError(f"{path}: a column name stands twice")
        return table.astype(object).where(table.notna(), "").map(_text)
    problems = Problems()
    raw = read_bytes(path, problems)
    problems.raise_if_any()
    separator = "," if ".csv" in path.suffixes else "\t"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header
            table = pd.read_csv(
                io.BytesIO(raw or b""), sep=separator, dtype=str, keep_default_na=False,
                comment="#", index_col=False,
            )  # fmt: skip
        return table.fillna("")
    except (ValueError, OverflowError, OSError, pd.errors.ParserWarning) as error:
        raise InputError(f"{path}: not a readable table ({error})") from error


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _with_species(table: pd.DataFrame, genes: pd.DataFrame, path: Path) -> pd.DataFrame:
    if "species" in table:
        return table
    places = genes.groupby("gene")["species"]
    several = places.nunique()
    doubled = sorted(set(several.index[several > 1]) & set(table["gene"]))
    if doubled:
        raise InputError(
            f"{path}: {len(doubled)} genes ({', '.join(doubled[:3])} …) are in several species; "
            "add a column species"
        )
    first = places.first()
    only = str(genes["species"].iloc[0]) if genes["species"].nunique() == 1 else ""
    return table.assign(species=table["gene"].map(first).fillna(only))


def _numbers(column: pd.Series[str], path: Path, name: str) -> pd.Series[int]:
    numbers = pd.to_numeric(column, errors="coerce").astype(np.float64)
    bad = ~((numbers >= 0) & (numbers <= _LARGEST) & (numbers == np.floor(numbers)))
    if bad.any():
        line = int(np.flatnonzero(bad.to_numpy())[0])
        raise InputError(
            f"{path}: {name} must be a whole number from 0; row {line + 1} has {column[line]!r}"
        )
    return numbers.astype(np.int64)


def _folds(column: pd.Series[str]) -> tuple[pd.Series[int], dict[str, str]]:
    """Fold numbers; folds with other names are numbered in alphabetical order."""
    text = column.str.strip()
    if text.str.fullmatch(r"[0-9]{1,9}").all():
        return text.astype(np.int64), {}
    levels = sorted(text.unique())
    number = {level: i for i, level in enumerate(levels)}
    return text.map(number).astype(np.int64), {str(i): level for level, i in number.items()}


def _with_roles(table: pd.DataFrame, path: Path) -> None:
    if "role" not in table and "valid" in table:
        truth = table["valid"].str.strip().str.lower().isin(["1", "true", "yes", "valid"])
        table["role"] = np.where(truth, "valid", "test")
    if "role" not in table:
        return
    short = {"validation": "valid", "val": "valid", "training": "train", "testing": "test"}
    table["role"] = table["role"].str.strip().str.lower().replace(short)
    bad = sorted(set(table["role"]) - set(ROLES))
    if bad:
        raise InputError(f"{path}: role must be train, valid or test; found {', '.join(bad[:5])}")


def _tested_once(table: pd.DataFrame, path: Path) -> None:
    tested = table[table["role"] == "test"] if "role" in table else table
    if tested.empty:
        raise InputError(f"{path}: no gene is in a test fold")
    twice = tested[tested.duplicated(["repeat", "species", "gene"])]
    if len(twice):
        raise InputError(
            f"{path}: {len(twice)} genes ({', '.join(twice['gene'].iloc[:3])} …) are tested twice "
            "in one repeat; each gene is predicted once per repeat: add a column repeat"
        )
    keys = ["repeat", "fold", "species", "gene"]
    if "role" in table and table.duplicated(keys).any():
        both = table[table.duplicated(keys)]["gene"].iloc[:3]
        raise InputError(f"{path}: {', '.join(both)} … stand on two sides of one fold")


def _must_meet(table: pd.DataFrame, genes: pd.DataFrame, path: Path) -> None:
    keys = pd.MultiIndex.from_frame(table[["species", "gene"]])
    known = pd.MultiIndex.from_frame(genes[["species", "gene"]])
    if not keys.isin(known).any():
        raise InputError(
            f"{path}: none of its genes is in the store; it has {', '.join(table['gene'].iloc[:3])}"
            f" …, the store {', '.join(genes['gene'].iloc[:3])} …"
        )


def _partial_notes(table: pd.DataFrame, genes: pd.DataFrame, path: Path) -> list[str]:
    keys = pd.MultiIndex.from_frame(table[["species", "gene"]]).unique()
    known = pd.MultiIndex.from_frame(genes[["species", "gene"]])
    notes = []
    strange = keys[~keys.isin(known)]
    if len(strange):
        some = ", ".join(gene for _, gene in strange[:3])
        notes.append(f"{path}: {len(strange):,} genes are not in the store ({some} …)")
    lost = known[~known.isin(keys)]
    if len(lost):
        some = ", ".join(gene for _, gene in lost[:3])
        notes.append(f"{path}: {len(lost):,} genes of the store are in no fold ({some} …)")
    return notes
