"""Memory of shards that are done, lent to the next: fresh pages cost more than filling them.

A process that computes shard after shard asks for the same few sizes again and again. Returned to
the system, each page would have to be cleared by it before its next use.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Lend = Callable[[Sequence[int], Any], NDArray[Any]]
"""Takes shape and dtype; gives an array whose values are still to be written."""

SMALL: Final = 1 << 20
"""Smaller arrays come from the allocator, which keeps them itself."""
MOST_SPARE: Final = 2
"""A buffer is lent to who wants at least this part of it."""
KEPT: Final = 12
"""Buffers that are kept at most."""

_free: list[NDArray[np.uint8]] = []
_lock = threading.Lock()


@contextmanager
def lending() -> Iterator[Lend]:
    """Lend arrays until the end of the block; nothing that was lent may be used after it."""
    lent: list[NDArray[np.uint8]] = []

    def lend(shape: Sequence[int], dtype: Any) -> NDArray[Any]:
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if size < SMALL:
            return np.empty(tuple(shape), kind)
        buffer = _taken(size)
        lent.append(buffer)
        array: NDArray[Any] = buffer[:size].view(kind).reshape(tuple(shape))
        return array

    try:
        yield lend
    finally:
        with _lock:
            _free.extend(lent)
            del _free[: max(0, len(_free) - KEPT)]


def _taken(size: int) -> NDArray[np.uint8]:
    with _lock:
        fitting = [i for i, b in enumerate(_free) if size <= b.nbytes <= MOST_SPARE * size]
        if fitting:
            return _free.pop(min(fitting, key=lambda i: _free[i].nbytes))
    return np.empty(-(-size // SMALL) * SMALL, np.uint8)


def forget() -> None:
    """Give everything back to the system."""
    with _lock:
        _free.clear()
