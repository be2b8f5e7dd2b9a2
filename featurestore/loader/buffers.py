"""Memory for batches, used again once a batch is dropped.

A fresh array of some megabytes costs as much in page faults as the copy into it. So the memory
of a batch goes back to the pool when the last array or tensor over it is gone, and never
before: what a consumer still holds stays as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray


class _Lease:
    """Owner of a piece of memory on loan; arrays over it keep it alive."""

    __slots__ = ("__array_interface__", "_free", "_memory")

    def __init__(self, memory: NDArray[np.uint8], free: deque[NDArray[np.uint8]]) -> None:
        self._memory, self._free = memory, free
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        # Any thread may drop the last array: deque.append is atomic, and full it drops the oldest.
        self._free.append(self._memory)


class BufferPool:
    """Arrays whose memory is used again.

    Parameters
    ----------
    most : int
        Pieces of one size that are kept at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._free: dict[int, deque[NDArray[np.uint8]]] = {}

    def array(self, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array of this shape, its content undefined."""
        size = prod(shape) * dtype.itemsize
        free = self._free.setdefault(size, deque(maxlen=self._most))
        try:
            memory = free.pop()
        except IndexError:
            memory = np.empty(size, np.uint8)
        return np.asarray(_Lease(memory, free)).view(dtype).reshape(shape)
