"""Masks: which entries of a table are hidden from whom. Artefacts with a name, a recipe and a digest.

=================  ==========  ====================================================================
mask               design      hidden
=================  ==========  ====================================================================
``whole-profile``  genes       every known entry of the genes under test
``half-tissues``   genes       half of the known tissues of each gene under test, at random
``tissue-group``   genes       one group of tissues that go together on the training genes
``low-expression`` genes       as whole-profile, the genes of the lowest fifth by mean alone
``entries-N``      entries-N   N % of all known entries, at random
``block``          block       whole profiles of stretches of neighbouring genes
``chromosome``     chromosome  whole profiles of chromosomes
=================  ==========  ====================================================================

Masks of one design share their fits. Draws are by name of gene and tissue and by seed, so that the
order of a file does not matter.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError, did_you_mean

Shows = Literal["none", "some"]

DEFAULT: Final = (
    "entries-20", "half-tissues", "tissue-group", "whole-profile", "block", "chromosome",
    "low-expression",
)  # fmt: skip
GENES: Final = "genes"
BLOCK: Final = "block"
CHROMOSOME: Final = "chromosome"
LOW: Final = "low-expression"
WHOLE: Final = "whole-profile"
HALF: Final = "half-tissues"
GROUP: Final = "tissue-group"

_DESIGN: Final = {
    WHOLE: GENES, LOW: GENES, HALF: GENES, GROUP: GENES, BLOCK: BLOCK, CHROMOSOME: CHROMOSOME,
}  # fmt: skip
_ENTRIES: Final = re.compile(r"entries-([1-9]\d?)")
NOT_HIDDEN: Final = -1
STRETCH: Final = 10
"""Neighbouring genes that ``block`` hides together."""
PARTS: Final = 5
"""Folds of ``block`` and ``chromosome``."""
_FIRST_FOLD: Final = {BLOCK: 2000, CHROMOSOME: 3000}
_ENTRY_FOLDS: Final = 1000


def check_masks(names: Sequence[str]) -> tuple[str, ...]:
    """Masks asked for, each once, all of the default ones where none are named.

    Raises
    ------
    InputError
        For a name that is none.
    """
    for name in names:
        if name not in _DESIGN and _ENTRIES.fullmatch(name) is None:
            known = (*_DESIGN, "entries-N")
            hint = did_you_mean(name, (*_DESIGN, "entries-20"))
            raise InputError(
                f"--mask {name}: unknown mask.{hint} Known: {', '.join(known)} (N from 1 to 99, in %)"
            )
    return tuple(dict.fromkeys(names)) or DEFAULT


def design_of(mask: str) -> str:
    """The design whose fits a mask is scored on; ``entries-N`` is its own."""
    return _DESIGN.get(mask, mask)


def percent_of(design: str) -> int:
    """N of ``entries-N``; 0 for another design."""
    match = _ENTRIES.fullmatch(design)
    return int(match[1]) if match else 0


def shows(mask: str) -> Shows:
    """What a row under test shows of its profile."""
    return "some" if mask in (HALF, GROUP) or percent_of(mask) else "none"


def first_fold(design: str) -> int:
    """Number of the first fold of a design: 0, 1000 + N for ``entries-N``, 2000, 3000."""
    if percent := percent_of(design):
        return _ENTRY_FOLDS + percent
    return _FIRST_FOLD.get(design, 0)


@dataclass(frozen=True)
class Mask:
    """One mask, laid over the rows of a table.

    Parameters
    ----------
    name : str
    seed : int
    recipe : dict
        Plain JSON: how it was made.
    species, gene : object arrays of str, shape (n,)
    genotype : object array of str, shape (n,), or None
    tissues : tuple of str
    fold : int16 array, shape (n, tissue)
        The fold in which an entry is hidden; −1 where it never is.
    notes : list of str
    """

    name: str
    seed: int
    recipe: dict[str, Any]
    species: NDArray[np.object_]
    gene: NDArray[np.object_]
    tissues: tuple[str, ...]
    fold: NDArray[np.int16]
    genotype: NDArray[np.object_] | None = None
    notes: list[str] = field(default_factory=list)

    @cached_property
    def digest(self) -> str:
        """Sha256 of recipe and hidden entries with their folds, whatever order genes stand in."""
        sha = hashlib.sha256(json.dumps([self.name, self.recipe], sort_keys=True).encode())
        columns = np.argsort(np.array(self.tissues, object), kind="stable")
        rows = np.flatnonzero((self.fold != NOT_HIDDEN).any(axis=1))
        names = [self._name(row) for row in rows.tolist()]
        order = sorted(range(len(names)), key=names.__getitem__)
        sha.update("\n".join(names[i] for i in order).encode())
        sha.update("\n".join(self.tissues[i] for i in columns).encode())
        table = self.fold[rows[order]][:, columns]
        sha.update(np.ascontiguousarray(table, "<i2").tobytes())
        return sha.hexdigest()

    def _name(self, row: int) -> str:
        whose = "" if self.genotype is None else f"\t{self.genotype[row]}"
        return f"{self.species[row]}\t{self.gene[row]}{whose}"

    @property
    def hidden(self) -> NDArray[np.bool_]:
        """Entries hidden in some fold, shape (n, tissue)."""
        found: NDArray[np.bool_] = self.fold != NOT_HIDDEN
        return found

    def identity(self) -> dict[str, Any]:
        """What a run's identity says of it."""
        return {"digest": self.digest, "seed": self.seed, **self.recipe}

    def write(self, path: Path) -> None:
        """Write ``species, gene[, genotype], tissue, fold`` of hidden entries, recipe in the metadata."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows, columns = np.nonzero(self.hidden)
        names: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {
            "species": (rows, self.species), "gene": (rows, self.gene),
        }  # fmt: skip
        if self.genotype is not None:
            names["genotype"] = (rows, self.genotype)
        names["tissue"] = (columns, np.array(self.tissues, object))
        arrays = {name: _texts(index, values) for name, (index, values) in names.items()}
        arrays["fold"] = pa.array(self.fold[rows, columns])
        about = {
            "mask": self.name, "seed": self.seed, "recipe": self.recipe, "digest": self.digest,
        }  # fmt: skip
        table = pa.table(arrays).replace_schema_metadata(
            {b"meristem": json.dumps(about, sort_keys=True).encode()}
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        pq.write_table(table, partial, compression="zstd")
        partial.replace(path)


def _texts(index: NDArray[Any], values: NDArray[Any]) -> Any:
    """Text of each row, kept once per distinct value."""
    import pyarrow as pa

    distinct, code = np.unique(values.astype(str), return_inverse=True)
    return pa.DictionaryArray.from_arrays(
        pa.array(code[index].astype(np.int32)), pa.array(distinct.tolist())
    )
