"""Tables of measured variants: which column is what, what its cells say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from featurestore.errors import InputError, InputFileNotFoundError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

NAMES: Final[Mapping[str, Sequence[str]]] = {
    "contig": ("contig", "chrom", "#chrom", "chromosome", "chr"),
    "pos": ("pos", "position"),
    "ref": ("ref", "reference"),
    "alt": ("alt", "alternative", "alternate"),
    "label": ("label", "causal", "is_causal"),
    "value": ("effect", "value", "beta", "slope", "log2_fold_change"),
    "group": ("group", "tissue", "kind", "element"),
    "block": ("block", "ld_block"),
    "gene": ("gene",),
}
"""Column names by what they hold, in order of preference; case does not matter."""

NEEDED: Final = ("contig", "pos", "ref", "alt")
MISSING: Final = frozenset({"", ".", "NA", "NaN", "nan", "-"})
_TRUE, _FALSE = {"1", "true", "causal", "yes"}, {"0", "false", "non-causal", "noncausal", "no"}


@dataclass
class Measured:
    """A table of variants with what is known of them.

    Parameters
    ----------
    table : DataFrame
        ``contig``, ``pos`` (1-based), ``ref``, ``alt``; where the table has them ``label`` (1, 0, NaN),
        ``value``, ``group``, ``block``, ``gene`` (empty where it has none).
    columns : mapping of those to the names that they have in the file
    """

    table: pd.DataFrame
    columns: dict[str, str] = field(default_factory=dict)


def read_measured(path: Path, named: Mapping[str, str | None]) -> Measured:
    """Read a table with a header, separated by tabs (commas in ``.csv``), plain or gzip.

    Parameters
    ----------
    named : mapping
        Columns by what they hold, where the usual names of :data:`NAMES` are not theirs.

    Raises
    ------
    InputError
        For a column that is missing, and for cells that say nothing of their kind, with their lines.
    """
    import pandas as pd

    if not path.is_file():
        raise InputFileNotFoundError(f"{path}: the table of measured variants is not there")
    comma = path.name.removesuffix(".gz").endswith(".csv")
    raw = pd.read_csv(path, sep="," if comma else "\t", dtype=str, keep_default_na=False)
    columns = _columns(path, list(raw.columns), named)
    table = pd.DataFrame({key: raw[name] for key, name in columns.items()})
    table["pos"] = _numbers(path, table["pos"], columns["pos"]).astype(np.int64)
    for key in ("ref", "alt"):
        table[key] = table[key].str.upper()
    if "value" in table:
        table["value"] = _numbers(path, table["value"], columns["value"], may_lack=True)
    if "label" in table:
        table["label"] = _labels(path, table["label"], columns["label"])
    if "gene" in table:
        table["gene"] = table["gene"].where(~table["gene"].isin(MISSING), "")
    return Measured(table, columns)


def _columns(path: Path, have: list[str], named: Mapping[str, str | None]) -> dict[str, str]:
    by_folded = {name.casefold(): name for name in reversed(have)}
    found: dict[str, str] = {}
    for key, usual in NAMES.items():
        asked = named.get(key)
        if asked is not None:
            if asked not in have:
                raise unknown_name(f"column of {path}", asked, have)
            found[key] = asked
            continue
        own = next((by_folded[n] for n in usual if n in by_folded), None)
        if own is not None and own not in found.values():
            found[key] = own
        elif key in NEEDED:
            raise InputError(
                f"{path}: no column {key} ({', '.join(usual)}); it has {', '.join(have[:20])}"
            )
    return found


def _numbers(path: Path, cells: pd.Series, name: str, *, may_lack: bool = False) -> pd.Series:
    import pandas as pd

    lacks = cells.isin(MISSING)
    values = pd.to_numeric(cells.where(~lacks, None), errors="coerce")
    wrong = values.isna() & ~(lacks & may_lack)
    _refuse(path, cells, wrong, f"column {name} is to hold numbers")
    return values


def _labels(path: Path, cells: pd.Series, name: str) -> pd.Series:
    folded = cells.str.casefold().str.removesuffix(".0")
    values = folded.map({**dict.fromkeys(_TRUE, 1.0), **dict.fromkeys(_FALSE, 0.0)})
    wrong = values.isna() & ~cells.isin(MISSING)
    _refuse(path, cells, wrong, f"column {name} is to hold 1 or 0 (causal, non-causal)")
    return values.astype(np.float64)


def _refuse(path: Path, cells: pd.Series, wrong: pd.Series, what: str) -> None:
    if wrong.any():
        lines = [f"line {i + 2} {cells[i]!r}" for i in cells.index[wrong][:3]]
        more = f", … ({int(wrong.sum()):,} in all)" if wrong.sum() > 3 else ""
        raise InputError(f"{path}: {what}; it does not in {', '.join(lines)}{more}")
