"""Meristem's embedding feature store.

>>> import featurestore
>>> store = featurestore.open("store.zarr")          # doctest: +SKIP
>>> store["arabidopsis_thaliana"]["kmer"]            # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from featurestore.store.reader import Store

__all__ = ["open"]


def open(
    path: str | Path,
    *,
    backend: Literal["obstore", "fsspec"] | None = None,
    verify: Literal["first", "always", "never"] = "first",
) -> Store:
    """Open a store for reading; no array is read.

    Parameters
    ----------
    path : str or Path
        Folder of the store, e.g. ``store.zarr``, or its address: ``s3://bucket/store.zarr``, ``gs://…``,
        ``https://…``. Credentials are taken from the environment or the usual files.
    backend : {"obstore", "fsspec"}, optional
        What reads an address. Default: obstore.
    verify : {"first", "always", "never"}
        When the checksum of a gene's values is computed: the first time that they are read, each
        time, or never.

    Returns
    -------
    featurestore.store.reader.Store
    """
    from featurestore.store.reader import open_store

    return open_store(path, backend=backend, verify=verify)
