"""Meristem's embedding feature store.

>>> import featurestore
>>> store = featurestore.open("store.zarr")          # doctest: +SKIP
>>> store["arabidopsis_thaliana"]["kmer"]            # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featurestore.store.reader import Store

__all__ = ["open"]


def open(path: str | Path) -> Store:
    """Open a store for reading; no array is read.

    Parameters
    ----------
    path : str or Path
        Folder of the store, e.g. ``store.zarr``.

    Returns
    -------
    featurestore.store.reader.Store
    """
    from featurestore.store.reader import open_store

    return open_store(path)
