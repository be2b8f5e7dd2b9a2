"""Windows and digests of a whole shard at once: compiled, or None where Python is to do it."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.native import loading
from featurestore.native.compiler import KernelError
from featurestore.sequence.iupac import COMPLEMENT, N
from featurestore.sequence.windows import cut_window

DIGEST_BYTES: Final = 16
SMALL: Final = 4 * 2**20
"""Bytes of windows below which Python does it: a small build does not wait for a compiler."""

_SOURCES: Final = Path(loading.__file__).parent / "windows"
_SIGNATURES: Final = {"meristem_windows": (None, 8, 3), "meristem_digests": (None, 3, 2)}


@dataclass(frozen=True)
class Spans:
    """Where windows lie: the window i begins at ``low[i]`` of a contig on the forward strand.

    Each an array of shape (n,): ``start`` and ``length`` of the contig within the codes, ``low``,
    ``strand``, and ``limit``, the position of the window from which on it reads N.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    low: NDArray[np.int64]
    strand: NDArray[np.int8]
    limit: NDArray[np.int64]


def _address(array: NDArray[Any]) -> int:
    if not array.flags.c_contiguous:
        raise ValueError("a kernel takes contiguous arrays")
    return int(array.__array_interface__["data"][0])


@dataclass(frozen=True)
class WindowKernels:
    """The compiled kernels. Calls release the interpreter lock."""

    functions: dict[str, Any]

    def windows(self, codes: NDArray[np.uint8], spans: Spans, out: NDArray[np.uint8]) -> None:
        """Cut windows in transcript orientation out of ``codes`` into ``out``, shape (n, width)."""
        n, width = out.shape
        inside = (
            (spans.start >= 0) & (spans.length >= 0) & (spans.start + spans.length <= len(codes))
        )
        if not inside.all():
            raise ValueError("a contig reaches beyond the bases")
        numbers = (spans.start, spans.length, spans.low, spans.limit)
        start, length, low, limit = (np.ascontiguousarray(a, np.int64) for a in numbers)
        strand = np.ascontiguousarray(spans.strand, np.int8)
        codes = np.ascontiguousarray(codes)
        arrays: list[NDArray[Any]] = [codes, start, length, low, strand, limit, _COMPLEMENT, out]
        if any(len(a) != n for a in arrays[1:6]) or out.dtype != np.uint8:
            raise ValueError("one span a window, and windows of bytes")
        self.functions["meristem_windows"](*map(_address, arrays), n, width, N)

    def digests(
        self, rows: NDArray[np.uint8], wanted: NDArray[np.bool_], out: NDArray[np.uint8]
    ) -> None:
        """BLAKE2b-128 of the wanted rows (n, width) into ``out`` (n, 16)."""
        rows, wanted = np.ascontiguousarray(rows), np.ascontiguousarray(wanted)
        if out.shape != (len(rows), DIGEST_BYTES) or wanted.shape != (len(rows),):
            raise ValueError("one digest a row")
        arrays: list[NDArray[Any]] = [rows, wanted, out]
        self.functions["meristem_digests"](*map(_address, arrays), *rows.shape)


_COMPLEMENT: Final = np.zeros(256, np.uint8)
_COMPLEMENT[: len(COMPLEMENT)] = COMPLEMENT


def kernels(work: int) -> WindowKernels | None:
    """The kernels, or None where Python is to do it.

    Parameters
    ----------
    work : int
        Bytes of windows.
    """
    if loading.switch() == "auto" and work < SMALL and _loaded.library is None:
        return None
    return _loaded.get()


def _load() -> WindowKernels:
    functions, _ = loading.open_library(_SOURCES, _SIGNATURES, quiet=True)
    found = WindowKernels(functions)
    _test_windows(found)
    _test_digests(found)
    return found


def _test_windows(found: WindowKernels) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, len(COMPLEMENT), 300, dtype=np.uint8)
    low = np.arange(-70, 140, dtype=np.int64)
    n, width = len(low), 40
    strand = rng.choice(np.array([1, -1], np.int8), n)
    limit = rng.choice(np.array([0, 17, width]), n)
    spans = Spans(np.full(n, 150), np.full(n, 80), low, strand, limit)
    out = np.empty((n, width), np.uint8)
    found.windows(codes, spans, out)
    for i in range(n):
        at = int(low[i])
        wanted, _ = cut_window(codes[150:230], at, at + width, int(strand[i]))
        wanted[limit[i] :] = N
        if (out[i] != wanted).any():
            raise _refuse("windows are not cut as they are")


def _test_digests(found: WindowKernels) -> None:
    rng = np.random.default_rng(1)
    for width in (1, 100, 127, 128, 129, 250, 256, 257, 512, 1000):
        rows = rng.integers(0, 256, (3, width), dtype=np.uint8)
        out = np.zeros((3, DIGEST_BYTES), np.uint8)
        found.digests(rows, np.array([True, False, True]), out)
        wanted = [hashlib.blake2b(rows[i].tobytes(), digest_size=DIGEST_BYTES).digest() for i in (0, 2)]  # fmt: skip
        if [out[0].tobytes(), out[2].tobytes()] != wanted or out[1].any():
            raise _refuse(f"digests of {width} bytes")


def _refuse(what: str) -> KernelError:
    return KernelError(
        f"the compiled kernels of the build failed their self-test: {what}; set CC to another "
        "compiler, and please report this one"
    )


_loaded = loading.Loaded(_load, "plain Python cuts windows and takes digests", logging.INFO)
