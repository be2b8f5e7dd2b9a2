"""Feeds training from a store: shuffled, seeded, resumable batches.

>>> from featurestore.loader import StoreLoader
>>> for batch in StoreLoader(store, ["kmer"]):       # doctest: +SKIP
...     batch.features["kmer"], batch.row

Torch is imported only where tensors are asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from featurestore.loader.batches import Batch
    from featurestore.loader.loader import StoreLoader
    from featurestore.loader.prefetch import prefetched

__all__ = ["Batch", "StoreLoader", "prefetched"]

_PLACE: Final = {"Batch": "batches", "StoreLoader": "loader", "prefetched": "prefetch"}


def __getattr__(name: str) -> Any:
    if name not in _PLACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACE[name]}"), name)
