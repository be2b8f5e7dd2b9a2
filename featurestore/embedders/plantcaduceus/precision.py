"""Holds matrix products to the dtype of the configuration, whatever torch was told elsewhere.

``torch.set_float32_matmul_precision("high")`` makes float32 products TensorFloat-32 on a GPU, with
10 bits of mantissa, ``"medium"`` makes them bfloat16 on some CPUs, and autocast changes them
altogether. All three are settings of the process, often made by a library; a variant score must not
depend on them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_lock = threading.Lock()
_inside = 0
_before: list[Callable[[], None]] = []


def _switches() -> list[tuple[Any, str]]:
    """Where torch 2.9 and later keep the precision of float32 products: owner and attribute."""
    backends: Any = torch.backends
    if not hasattr(backends.cuda.matmul, "fp32_precision"):
        return []
    owners = (backends.cuda.matmul, backends.mkldnn.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    return [(owner, "fp32_precision") for owner in owners]


def _matmul_precision() -> str:
    """The older setting; where only newer switches were touched torch refuses to tell it."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return "highest"


def _convolution_tf32() -> bool:
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        return True


def _enter() -> None:
    # Both generations of settings must say the same, or torch refuses the product. The older ones
    # write the newer ones as well, so they go first in either direction.
    products, convolutions = _matmul_precision(), _convolution_tf32()
    newer = [(owner, name, getattr(owner, name)) for owner, name in _switches()]

    def restore() -> None:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
        for owner, name, value in newer:
            if getattr(owner, name) != value:
                setattr(owner, name, value)

    _before.append(restore)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    for owner, name in _switches():  # or they follow a wider setting
        if getattr(owner, name) != "ieee":
            setattr(owner, name, "ieee")


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
                _before.pop()()
