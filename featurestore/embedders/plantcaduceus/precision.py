"""Holds matrix products to the dtype of the configuration, whatever torch was told elsewhere.

``torch.set_float32_matmul_precision("high")`` makes float32 products TensorFloat-32 on a GPU, with
10 bits of mantissa, ``"medium"`` makes them bfloat16 on some CPUs, and autocast changes them
altogether. All three are settings of the process, often made by a library; a variant score must not
depend on them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_lock = threading.Lock()
_inside = 0
_before: list[Any] = []


def _switches() -> list[tuple[Any, str, str | bool]]:
    """What decides over float32 products: owner, attribute, and the value that leaves them exact."""
    backends: Any = torch.backends
    if hasattr(backends.cuda.matmul, "fp32_precision"):  # torch 2.9 and later
        owners = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul)
        return [(owner, "fp32_precision", "ieee") for owner in owners]
    return [(backends.cudnn, "allow_tf32", False)]


def _enter() -> None:
    legacy = not hasattr(torch.backends.cuda.matmul, "fp32_precision")
    _before[:] = [getattr(owner, name) for owner, name, _ in _switches()]
    if legacy:
        _before.append(torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("highest")
    for owner, name, exact in _switches():
        setattr(owner, name, exact)


def _leave() -> None:
    switches = _switches()
    for (owner, name, _), value in zip(switches, _before, strict=False):
        setattr(owner, name, value)
    if len(_before) > len(switches):
        torch.set_float32_matmul_precision(_before[-1])


@contextmanager
def forced_precision(device_type: str) -> Iterator[None]:
    """Inside, float32 products are float32 and autocast is off; the settings return afterwards.

    The settings are the process's: while one thread is inside, they hold for all.
    The backward pass of a training step runs outside, under the user's settings.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _enter()
        _inside += 1
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _leave()
