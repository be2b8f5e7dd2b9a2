"""Features as XGBoost bins them, streamed from a batch.

A ``QuantileDMatrix`` needs about two bytes a value. What it takes to find the bin edges is more:
XGBoost sketches all columns at once, in 0.3 to 0.8 MB a column whatever the number of rows, 5 to
10 GB at 15,360 columns. So where columns are many, the edges are quantiles found here, some columns
at a time, on rows that are held as they are stored; they are lent to the matrix by a reference
matrix, which has one row for each edge.

Past the memory, the binned features lie in a file: ``ExtMemQuantileDMatrix``, which reads them again
for every level of every tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from learners.batch import FeatureBatch

COLUMNS_AT_ONCE: Final = 512
"""Columns whose edges are found together; up to so many, XGBoost finds them, on all rows."""

SKETCHED_VALUES: Final = 300_000_000
"""Most values on which the edges of wide features are found; they are held meanwhile, as stored."""

BYTES_PER_VALUE: Final = 2.3
"""Of a binned matrix in memory: XGBoost keeps it by rows and by columns, a byte each."""

ROUND_VALUES: Final = 1 << 24
"""Values that are given to XGBoost at a time."""

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
        Most rows on which edges of more than :data:`COLUMNS_AT_ONCE` columns are found; None is all.
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

    shards = batch.without_targets()
    rows = max(64, (ROUND_VALUES if folder is None else PAGE_VALUES) // batch.columns)

    class Parts(xgboost.DataIter):  # type: ignore[misc]
        def __init__(self) -> None:
            self._parts = _read_ahead(shards, rows)
            cache = None if folder is None else str(folder / "bins")
            super().__init__(cache_prefix=cache, release_data=True, on_host=False)

        def next(self, input_data: Callable[..., Any]) -> bool:
            part = next(self._parts, None)
            if part is None:
                return False
            input_data(data=part)
            return True

        def reset(self) -> None:
            self._parts = _read_ahead(shards, rows)

    return Parts()


def _read_ahead(batch: FeatureBatch, rows: int) -> Iterator[NDArray[np.float32]]:
    """Features some rows at a time; the next are read while these are used."""
    parts = (batch.matrix(part, np.float32) for part in batch.runs(rows))
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = pool.submit(next, parts, None)
            yield part


def _edges(batch: FeatureBatch, options: dict[str, Any], rows: int | None) -> Any:
    """A small matrix with the bin edges of the batch, or of a sample of its rows.

    Over several machines, of the samples of all: each then finds the same edges.
    """
    import xgboost
    from xgboost import collective

    machines = collective.get_world_size()
    sample = _sampled(batch, None if rows is None else max(1, rows // machines))
    values = np.empty((options["max_bin"], batch.columns), np.float32)

    def find(start: int, here: NDArray[np.float32]) -> None:
        values[:, start : start + COLUMNS_AT_ONCE] = column_edges(here, len(values))

    with ThreadPoolExecutor(options["nthread"]) as pool:
        found: list[Any] = []
        for start in range(0, batch.columns, COLUMNS_AT_ONCE):
            here = np.ascontiguousarray(sample[:, start : start + COLUMNS_AT_ONCE].T, np.float32)
            if machines > 1:
                own = collective.get_rank()
                parts = [
                    collective.broadcast(here if r == own else None, r) for r in range(machines)
                ]
                here = np.concatenate(parts, axis=1)
            found = [*found, pool.submit(find, start, here)][-2 * options["nthread"] :]
            # No more columns wait than are soon taken up.
            found[0].result()
        for one in found:
            one.result()
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


def column_edges(columns: NDArray[np.float32], max_bin: int) -> NDArray[np.float32]:
    """Rows whose sketch by XGBoost has the quantiles of some columns as its edges.

    Parameters
    ----------
    columns : float32 array, shape (column, row)
        Sorted in place.
    max_bin : int

    Returns
    -------
    float32 array, shape (max_bin, column)
        First the least value, then those at which a bin begins: so that every bin holds as many rows,
        or a bin for each value where there are no more values than bins.
    """
    columns.sort(axis=1)
    count = columns.shape[1]
    at = np.minimum(-(-np.arange(max_bin) * count // max_bin), count - 1)
    edges: NDArray[np.float32] = columns[:, at].T.copy()
    begins = np.ones(columns.shape, np.bool_)
    np.not_equal(columns[:, 1:], columns[:, :-1], out=begins[:, 1:])
    distinct = begins.sum(axis=1)
    for column in np.flatnonzero(distinct <= max_bin).tolist():
        values = columns[column, begins[column]]
        edges[: len(values), column] = values
        edges[len(values) :, column] = values[-1]
    return edges
