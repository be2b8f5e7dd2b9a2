"""Features as XGBoost bins them, streamed from a batch.

A ``QuantileDMatrix`` needs about two bytes a value. What it takes to find the bin edges is more:
XGBoost sketches all columns at once, in 0.3 to 0.8 MB a column whatever the number of rows, 5 to
10 GB at 15,360 columns. Columns do not see each other in that sketch. So where they are many the
edges are found some columns at a time and lent to the matrix by a reference matrix, which has one
row for each edge.

Past the memory, the binned features lie in a file: ``ExtMemQuantileDMatrix``, which reads them again
for every level of every tree.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from learners.batch import FeatureBatch

COLUMNS_AT_ONCE: Final = 512
"""Columns that are sketched together; up to so many, XGBoost does it alone, on all rows."""

SKETCHED_VALUES: Final = 300_000_000
"""Most values on which the edges of wide features are found; they are held meanwhile, as stored."""

BYTES_PER_VALUE: Final = 2.3
"""Of a binned matrix in memory: XGBoost keeps it by rows and by columns, a byte each."""

PAGE_VALUES: Final = 1 << 26
"""Values of a page of external memory; one page is read while another is used."""


def binned_matrix(
    batch: FeatureBatch,
    reference: Any,
    *,
    max_bin: int,
    threads: int,
    sketched_rows: int | None,
    folder: Path | None = None,
) -> Any:
    """A matrix of bins, its rows in the order of shards.

    Parameters
    ----------
    batch : FeatureBatch
    reference : xgboost.DMatrix or None
        Lends its bin edges: without it validation rows would be binned on their own.
    max_bin, threads : int
    sketched_rows : int or None
        Rows on which the edges of more than :data:`COLUMNS_AT_ONCE` columns are found; None is all.
    folder : path or None
        Where binned features lie that are not to be held in memory.

    Returns
    -------
    xgboost.QuantileDMatrix or xgboost.ExtMemQuantileDMatrix
    """
    import xgboost

    options = {"max_bin": max_bin, "nthread": threads}
    if reference is None and batch.columns > COLUMNS_AT_ONCE:
        reference = _edges(batch, options, sketched_rows)
    if folder is None:
        return xgboost.QuantileDMatrix(_iterator(batch, None), ref=reference, **options)
    return xgboost.ExtMemQuantileDMatrix(_iterator(batch, folder), ref=reference, **options)


def _iterator(batch: FeatureBatch, folder: Path | None) -> Any:
    import xgboost

    rows = None if folder is None else max(64, PAGE_VALUES // batch.columns)
    shards = batch.without_targets()

    def parts() -> Any:
        return shards.shards() if rows is None else shards.runs(rows)

    class Parts(xgboost.DataIter):  # type: ignore[misc]
        def __init__(self) -> None:
            self._parts = parts()
            cache = None if folder is None else str(folder / "bins")
            super().__init__(cache_prefix=cache, release_data=True, on_host=False)

        def next(self, input_data: Callable[..., Any]) -> bool:
            part = next(self._parts, None)
            if part is None:
                return False
            input_data(data=shards.matrix(part, np.float32))
            return True

        def reset(self) -> None:
            self._parts = parts()

    return Parts()


def _edges(batch: FeatureBatch, options: dict[str, Any], rows: int | None) -> Any:
    """A small matrix with the bin edges that the batch, or a sample of its rows, has."""
    import xgboost

    sample = _sampled(batch, rows)
    values = np.empty((options["max_bin"], batch.columns), np.float32)
    for start in range(0, batch.columns, COLUMNS_AT_ONCE):
        columns = slice(start, start + COLUMNS_AT_ONCE)
        here = np.ascontiguousarray(sample[:, columns], np.float32)
        pointer, cuts = xgboost.QuantileDMatrix(here, **options).get_quantile_cut()
        values[:, columns] = _rows_with_edges(pointer, cuts, here.min(axis=0), len(values))
    return xgboost.QuantileDMatrix(values, **options)


def _sampled(batch: FeatureBatch, rows: int | None) -> NDArray[Any]:
    """Rows in the order of shards, as they are stored."""
    stored = [block.source.dtype for block in batch.blocks.values() if block.kind != "codes"]
    # Base codes become one-hot, with fractions: float16 has them but for thirds.
    dtype = np.result_type(np.float16, *stored) if len(stored) == len(batch.blocks) else np.float32
    order = batch.shard_order()
    if rows is not None:
        rows = min(rows, max(2048, SKETCHED_VALUES // batch.columns))
        if len(order) > rows:
            kept = np.random.default_rng(0).choice(len(order), rows, replace=False)
            order = order[np.sort(kept)]
    return batch.without_targets().take(order).array(dtype)


def _rows_with_edges(
    pointer: NDArray[Any], cuts: NDArray[Any], least: NDArray[np.float32], max_bin: int
) -> NDArray[np.float32]:
    """Rows whose sketch has the edges of ``cuts``: the least value, then every edge within.

    XGBoost lists before each column's edges something below all values, and last something above
    all of them; both it makes anew. Columns of few edges repeat their last.
    """
    first = pointer[:-1].astype(np.int64)
    within = np.diff(pointer).astype(np.int64) - 2
    place = np.minimum(np.arange(max_bin)[:, None], within)
    rows: NDArray[np.float32] = cuts[first + place].astype(np.float32)
    rows[0] = least
    return np.where(place == 0, least, rows)
