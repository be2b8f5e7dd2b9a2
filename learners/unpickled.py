"""Whether files hold pickles, and a guard under which nothing is unpickled.

A pickle runs code when it is read, so a model folder that a stranger sends must hold none.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import pickletools
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

_MIN_OPCODES: Final = 4
"""A safetensors file may begin with the two bytes of a pickle; it does not parse this far."""

_UNPACKERS: Final[tuple[tuple[bytes, Callable[[bytes], bytes]], ...]] = (
    (b"\x1f\x8b", gzip.decompress),
    (b"BZh", bz2.decompress),
    (b"\xfd7zXZ", lzma.decompress),
    (b"\x5d\x00\x00", lzma.decompress),
    (b"\x78", zlib.decompress),
)


class UnpickledError(Exception):
    """Something was unpickled where nothing may be."""


def pickles_in(folder: Path) -> list[str]:
    """Files below a folder that hold a pickle, each with why; empty if none does."""
    found = []
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        why = why_pickle(file.read_bytes())
        if why:
            found.append(f"{file.relative_to(folder)} ({why})")
    return found


def why_pickle(data: bytes) -> str:
    """Why these bytes hold a pickle, or an empty string."""
    if data[:4] == b"PK\x03\x04":
        return _zip(data)
    if data[:6] == b"\x93NUMPY":
        return "a numpy array of objects" if b"'|O'" in data[:512] else ""
    for magic, unpack in _UNPACKERS:
        if data.startswith(magic):
            try:
                inner = why_pickle(unpack(data))
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
                return ""
            return f"compressed {inner}" if inner else ""
    return "a pickle" if _parses(data) else ""


def _zip(data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                if name.endswith(".pkl"):
                    return f"a torch archive with {name}"
                inner = why_pickle(archive.read(name))
                if inner:
                    return f"an archive with {inner} in {name}"
    except zipfile.BadZipFile:
        return ""
    return ""


def _parses(data: bytes) -> bool:
    """True if the bytes begin as a pickle of protocol 2 or later, or are one of an older one."""
    modern = len(data) > 1 and data[0] == 0x80 and 2 <= data[1] <= 5
    if not modern and not data.rstrip().endswith(b"."):
        return False
    count = 0
    try:
        for opcode, _, _ in pickletools.genops(data):
            count += 1
            if opcode.name == "STOP" or (modern and count >= _MIN_OPCODES):
                return True
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError):
        return False
    return False


_guarded = False
_installed = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _guarded and event == "pickle.find_class":
        raise UnpickledError(f"loading unpickles {'.'.join(str(a) for a in arguments)}")


def _refuse(name: str) -> Callable[..., Any]:
    def refused(*_: Any, **__: Any) -> Any:
        raise UnpickledError(f"loading calls {name}, which runs code found in the file")

    return refused


@contextmanager
def nothing_unpickled() -> Iterator[None]:
    """Raise :class:`UnpickledError` wherever the code within unpickles.

    The usual loaders are replaced, and an audit hook sees those that a module imported by
    name before. ``torch.load`` passes with ``weights_only=True``.
    """
    global _guarded, _installed
    if not _installed:
        sys.addaudithook(_audit)  # cannot be taken back; does nothing outside this guard
        _installed = True
    with ExitStack() as stack:
        for module, name in (("pickle", "load"), ("pickle", "loads"), ("joblib", "load")):
            if module in sys.modules:
                target = importlib.import_module(module)
                stack.enter_context(mock.patch.object(target, name, _refuse(f"{module}.{name}")))
        if "torch" in sys.modules:
            torch = importlib.import_module("torch")
            stack.enter_context(mock.patch.object(torch, "load", _weights_only(torch.load)))
        _guarded = True
        try:
            yield
        finally:
            _guarded = False


def _weights_only(load: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("weights_only") is not True:
            raise UnpickledError("loading calls torch.load without weights_only=True")
        return load(*args, **kwargs)

    return checked
