"""The compiled kernels as Python functions: loaded once, tested before use, or said why not."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from featurestore.embedders.native.compiler import (
    Compiler,
    KernelError,
    compiled,
    find_compiler,
)
from featurestore.errors import InputError

log = logging.getLogger(__name__)

FLOAT32: Final = 0
ROUNDED: Final = 1
BFLOAT16: Final = 2
"""Formats of the factors of matrix products, as in ``product.h``."""

SWITCH: Final = "MERISTEM_KERNELS"
_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_int64
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


class _Loaded:
    """What loading came to in this process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.library: Library | None = None
        self.reason: str | None = None


_loaded = _Loaded()


def forget() -> None:
    """Load anew at the next call; for tests."""
    with _loaded.lock:
        _loaded.library = _loaded.reason = None


def kernels() -> Library | None:
    """The kernels, or None where they cannot be had; the log says why, once.

    Raises
    ------
    KernelError
        If they cannot be had and ``MERISTEM_KERNELS=on`` demands them.
    InputError
        For another value of that variable than on, off, auto.
    """
    wanted = os.environ.get(SWITCH, "auto").lower()
    if wanted not in ("on", "off", "auto"):
        raise InputError(f"{SWITCH}={wanted}: choose on, off or auto")
    if wanted == "off":
        return None
    with _loaded.lock:
        if _loaded.library is None and _loaded.reason is None:
            _load_once(warn=wanted == "auto")
    if _loaded.library is None and wanted == "on":
        raise KernelError(f"{SWITCH}=on, but {_loaded.reason}")
    return _loaded.library


def _load_once(*, warn: bool) -> None:
    _loaded.reason = "being tested"  # what the test compares with runs without kernels
    reason = None
    try:
        _loaded.library = _load()
    except KernelError as error:
        reason = str(error)
        if warn:
            log.warning("plain torch is used, several times slower than kernels: %s", reason)
    finally:
        _loaded.reason = reason


def absence() -> str:
    """Why :func:`kernels` gives None, in words."""
    if os.environ.get(SWITCH, "").lower() == "off":
        return f"{SWITCH}=off"
    return _loaded.reason or "not loaded"


def _load() -> Library:
    from featurestore.embedders.plantcaduceus.native.self_test import check

    compiler = find_compiler()
    path = compiled(compiler)
    try:
        library = ctypes.CDLL(str(path))
        functions = {name: getattr(library, name) for name in _SIGNATURES}
    except (OSError, AttributeError) as error:
        raise KernelError(
            f"{path}: cannot be loaded ({error}); set MERISTEM_CACHE to a folder that programs may "
            "run from, or CC to another compiler"
        ) from error
    for name, (result, arrays, sizes) in _SIGNATURES.items():
        functions[name].restype = result
        functions[name].argtypes = [_POINTER] * arrays + [_SIZE] * sizes
    loaded = Library(functions, compiler)
    with torch.no_grad():
        check(loaded)
    return loaded
