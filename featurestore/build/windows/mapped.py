"""Opens ``.npy`` files of the work area, from any thread."""

from __future__ import annotations

import mmap
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# numpy parses the header with ast.literal_eval, and CPython 3.11.7 counts the depth of a parse for
# all threads together: two at once were seen to end in "AST constructor recursion depth mismatch".
ONE_PARSE = threading.Lock()


def mapped(path: Path) -> NDArray[Any]:
    """A file as a read-only array, memory-mapped."""
    with ONE_PARSE:
        array: NDArray[Any] = np.load(path, mmap_mode="r")
    return array


def let_go(array: NDArray[Any]) -> None:
    """Take the pages of a mapped array out of the memory of this process; they are read again when wanted."""
    owner: Any = array
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = getattr(owner, "base", None)
    if owner is not None and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)
