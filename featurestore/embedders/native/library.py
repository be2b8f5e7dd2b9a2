"""The compiled kernels of the models as functions of tensors: loaded once, tested before use."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from featurestore.native.compiler import Compiler
from featurestore.native.loading import SWITCH, Loaded, open_library

__all__ = ["BFLOAT16", "FLOAT32", "ROUNDED", "SWITCH", "Library", "absence", "forget", "kernels"]

SOURCES: Final = Path(__file__).parent / "src"

FLOAT32: Final = 0
ROUNDED: Final = 1
BFLOAT16: Final = 2
"""Formats of the factors of matrix products, as in ``product.h``."""

_SIGNATURES: Final = {
    "meristem_scan": (None, 7, 5),
    "meristem_scan_gradient": (ctypes.c_int, 12, 5),
    "meristem_layers": (ctypes.c_int, 7, 0),
    "meristem_pack": (None, 2, 3),
    "meristem_lanes": (ctypes.c_int64, 0, 0),
    "meristem_has_bfloat16": (ctypes.c_int64, 0, 0),
    "meristem_a2z": (ctypes.c_int, 12, 3),
    "meristem_a2z_sets": (None, 3, 1),
}
"""Function → what it returns, how many arrays it takes, how many whole numbers after them."""


@dataclass(frozen=True)
class Library:
    """Loaded kernels. Calls release the interpreter lock."""

    functions: dict[str, Any]
    compiler: Compiler

    def __call__(self, name: str, arrays: Sequence[Tensor | None], *sizes: int) -> None:
        """Call a kernel; its arrays are contiguous.

        Raises
        ------
        MemoryError
            If the kernel cannot get its working memory.
        """
        if self.functions[name](*[t if t is None else t.data_ptr() for t in arrays], *sizes):
            raise MemoryError(f"{name}: no memory for its working arrays")

    @property
    def lanes(self) -> int:
        """Floats in a vector."""
        return int(self.functions["meristem_lanes"]())

    @property
    def native_bfloat16(self) -> bool:
        """Whether the processor multiplies bfloat16."""
        return bool(self.functions["meristem_has_bfloat16"]())

    @property
    def words(self) -> str:
        """Compiler and vector units, such as ``gcc (Debian 12.2.0-14) 12.2.0, AVX-512``."""
        return f"{self.compiler.version}, {self.compiler.vectors}"


def _load() -> Library:
    from featurestore.embedders.plantcaduceus.native.self_test import check

    loaded = Library(*open_library(SOURCES, _SIGNATURES))
    with torch.no_grad():
        check(loaded)
    return loaded


_loaded = Loaded(lambda: _load(), "plain torch is used, several times slower than kernels")


def forget() -> None:
    """Load anew at the next call; for tests."""
    _loaded.forget()


def kernels() -> Library | None:
    """The kernels, or None where they cannot be had; the log says why, once.

    Raises
    ------
    KernelError
        If they cannot be had and ``MERISTEM_KERNELS=on`` demands them.
    InputError
        For another value of that variable than on, off, auto.
    """
    return _loaded.get()


def absence() -> str:
    """Why :func:`kernels` gives None, in words."""
    return _loaded.absence()
