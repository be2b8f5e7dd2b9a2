"""A species and embedder as AnnData's ``h5ad``: genes are observations, features are variables.

Written with h5py after AnnData's on-disk specification (encoding 0.1.0 of ``anndata`` and ``dataframe``,
0.2.0 of arrays), shard by shard; expression is ``obsm["expression"]``.
(https://anndata.readthedocs.io/en/stable/fileformat-prose.html)
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import MissingDependencyError

if TYPE_CHECKING:
    from featurestore.export.tables import Features
    from featurestore.store.reader import Store


def write_h5ad(path: Path, store: Store, species: str, features: Features) -> None:
    """Write one file.

    Raises
    ------
    MissingDependencyError
        Without h5py.
    """
    if importlib.util.find_spec("h5py") is None:
        raise MissingDependencyError("h5ad files are written with h5py: pip install h5py")
    import h5py

    from featurestore.export.tables import gene_columns

    columns = gene_columns(store, species)
    with h5py.File(path, "w") as file:
        _kind(file, "anndata", "0.1.0")
        _frame(file, "obs", "gene", columns)
        _frame(file, "var", "feature", {"feature": np.array(features.columns, np.str_)})
        for name in ("obsm", "varm", "obsp", "varp", "layers", "uns"):
            _kind(file.create_group(name), "dict", "0.1.0")
        shape = (len(features), len(features.columns))
        chunks = (max(1, min(shape[0], 256)), max(1, shape[1])) if all(shape) else None
        values = file.create_dataset("X", shape, features.dtype, chunks=chunks)
        _kind(values, "array", "0.2.0")
        for first, piece in features.pieces():
            values[first : first + len(piece)] = piece
        if (table := store.expression(species)) is not None:
            _array(file["obsm"], "expression", table.value)
            _array(file["uns"], "expression_sample", table.sample)
            _array(file["uns"], "expression_unit", table.unit)
        _array(file["uns"], "species", species)
        _array(file["uns"], "store_digest", store.digest)


def _kind(node: Any, name: str, version: str) -> None:
    node.attrs["encoding-type"], node.attrs["encoding-version"] = name, version


def _array(group: Any, name: str, values: NDArray[Any] | str) -> None:
    import h5py

    text = h5py.string_dtype("utf-8")
    if isinstance(values, str):
        _kind(group.create_dataset(name, data=values, dtype=text), "string", "0.2.0")
    elif values.dtype.kind == "U":
        _kind(
            group.create_dataset(name, data=values.tolist(), dtype=text, shape=values.shape),
            "string-array",
            "0.2.0",
        )
    else:
        _kind(group.create_dataset(name, data=values), "array", "0.2.0")


def _frame(file: Any, name: str, index: str, columns: Mapping[str, NDArray[Any]]) -> None:
    group = file.create_group(name)
    _kind(group, "dataframe", "0.2.0")
    group.attrs["_index"] = index
    others = [c for c in columns if c != index]
    group.attrs.create("column-order", others, dtype=_text())
    for column, values in columns.items():
        _array(group, column, values)


def _text() -> Any:
    import h5py

    return h5py.string_dtype("utf-8")
