"""Compiled kernels as Python functions: loaded once, tested before use, or said why not."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from featurestore.errors import InputError
from featurestore.native.compiler import Compiler, KernelError, compiled, find_compiler

log = logging.getLogger(__name__)

SWITCH: Final = "MERISTEM_KERNELS"
POINTER, SIZE = ctypes.c_void_p, ctypes.c_int64

Signatures = Mapping[str, tuple[Any, int, int]]
"""Function → what it returns, how many arrays it takes, how many whole numbers after them."""

T = TypeVar("T")


def switch() -> str:
    """``MERISTEM_KERNELS``: on, off or auto.

    Raises
    ------
    InputError
        For another value.
    """
    wanted = os.environ.get(SWITCH, "auto").lower()
    if wanted not in ("on", "off", "auto"):
        raise InputError(f"{SWITCH}={wanted}: choose on, off or auto")
    return wanted


def open_library(
    sources: Path, signatures: Signatures, *, quiet: bool = False
) -> tuple[dict[str, Any], Compiler]:
    """Compile, or find compiled, a folder of sources, and open its functions. Calls release the GIL.

    Raises
    ------
    KernelError
        If it cannot be compiled or loaded.
    """
    compiler = find_compiler()
    path = compiled(compiler, sources, quiet=quiet)
    try:
        library = ctypes.CDLL(str(path))
        functions = {name: getattr(library, name) for name in signatures}
    except (OSError, AttributeError) as error:
        raise KernelError(
            f"{path}: cannot be loaded ({error}); set MERISTEM_CACHE to a folder that programs may "
            "run from, or CC to another compiler"
        ) from error
    for name, (result, arrays, sizes) in signatures.items():
        functions[name].restype = result
        functions[name].argtypes = [POINTER] * arrays + [SIZE] * sizes
    return functions, compiler


class Loaded(Generic[T]):
    """What loading a library came to in this process.

    Parameters
    ----------
    load : callable
        Gives the tested library, or raises :class:`KernelError`.
    without : str
        What the log says, followed by the reason, where it cannot be had.
    level : int
        At which level.
    """

    def __init__(self, load: Callable[[], T], without: str, level: int = logging.WARNING) -> None:
        self._load, self._without, self._level = load, without, level
        self.lock = threading.RLock()
        self.library: T | None = None
        self.reason: str | None = None
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self.lock = threading.RLock()  # a thread that the child lacks may have held it

    def get(self) -> T | None:
        """The library, or None where it cannot be had; the log says why, once.

        Raises
        ------
        KernelError
            If it cannot be had and ``MERISTEM_KERNELS=on`` demands it.
        InputError
            For another value of that variable than on, off, auto.
        """
        wanted = switch()
        if wanted == "off":
            return None
        with self.lock:
            if self.library is None and self.reason is None:
                self._load_once(warn=wanted == "auto")
        if self.library is None and wanted == "on":
            raise KernelError(f"{SWITCH}=on, but {self.reason}")
        return self.library

    def _load_once(self, *, warn: bool) -> None:
        self.reason = "being tested"  # what the test compares with runs without kernels
        reason = None
        try:
            self.library = self._load()
        except KernelError as error:
            reason = str(error)
            if warn:
                log.log(self._level, "%s: %s", self._without, reason)
        finally:
            self.reason = reason

    def forget(self) -> None:
        """Load anew at the next call; for tests."""
        with self.lock:
            self.library = self.reason = None

    def absence(self) -> str:
        """Why :meth:`get` gives None, in words."""
        if os.environ.get(SWITCH, "").lower() == "off":
            return f"{SWITCH}=off"
        return self.reason or "not loaded"
