"""Runs windows through a model in pieces; a piece that does not fit the memory is halved."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

Codes = NDArray[Any]
Outputs = dict[str, NDArray[Any]]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the processor or an accelerator."""
    if isinstance(error, MemoryError):
        return True
    kind = type(error).__name__
    text = str(error)
    return kind == "OutOfMemoryError" or (
        isinstance(error, RuntimeError)
        and ("out of memory" in text or "can't allocate memory" in text)
    )


def in_pieces(run: Callable[[Codes], Outputs], codes: Codes, piece: int) -> Outputs:
    """Outputs of ``run`` on all windows, at most ``piece`` at a time.

    Where memory runs out the piece is halved, said in the log, and the work goes on; at a single
    window the error stands.

    Parameters
    ----------
    run : called with codes, shape (k, input_bp)
        Gives arrays by name, first axis k.
    codes : uint8 array, shape (n, input_bp), n at least 1
    piece : int
    """
    parts: list[Outputs] = []
    start = 0
    while start < len(codes):
        try:
            parts.append(run(codes[start : start + piece]))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or piece == 1:
                raise
            piece = max(1, min(piece, len(codes) - start) // 2)
            log.warning("out of memory: going on with %d windows at a time", piece)
            _release()
            continue
        start += piece
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def _release() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
