"""Fitted learners on disk: JSON and safetensors; nothing that is ever executed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError, InputFileNotFoundError, MeristemError
from featurestore.untrusted import open_file, read_json

CONFIG: Final = "learner.json"
ARRAYS: Final = "arrays.safetensors"

T = TypeVar("T")

_WRONG: Final = (
    KeyError, TypeError, ValueError, IndexError, AttributeError, OSError, RuntimeError,
    OverflowError, MemoryError,
)  # fmt: skip
_LIBRARIES: Final = frozenset({"lightgbm", "xgboost"})
"""Whose errors derive from nothing more special than Exception."""


def save_state(
    path: Path, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None
) -> None:
    """Write settings and arrays into the folder ``path``."""
    path.mkdir(parents=True, exist_ok=True)
    (path / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if arrays is not None:
        from safetensors.numpy import save_file

        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, path / ARRAYS)


def load_config(path: Path, learner: str) -> dict[str, Any]:
    """Settings that :func:`save_state` wrote for this learner.

    Raises
    ------
    InputFileNotFoundError
        If the folder holds no learner.
    InputError
        If it holds another learner, or cannot be read.
    """
    file = path / CONFIG
    if not file.exists():
        raise InputFileNotFoundError(f"{file}: no saved learner here")
    try:
        config: dict[str, Any] = read_json(file)
    except (ValueError, OSError) as error:
        raise InputError(f"{file}: not readable ({error}); fit and save again") from error
    if not isinstance(config, dict):
        raise InputError(f"{file}: holds a {type(config).__name__} where a JSON object belongs")
    if config.get("learner") != learner:
        raise InputError(f"{file}: holds {config.get('learner')!r}, not {learner!r}")
    return config


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays that :func:`save_state` wrote.

    Raises
    ------
    InputError
        If the file is missing or no safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file = path / ARRAYS
    try:
        open_file(file).close()
        arrays: dict[str, NDArray[Any]] = load_file(file)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: cannot be read as arrays ({error}); fit and save again"
        ) from error
    return arrays


@contextmanager
def loading(path: Path) -> Iterator[None]:
    """Turn whatever a saved learner of wrong content raises into one error that names its folder.

    A folder that somebody else made may lack keys, hold values of other types, or arrays of other
    shapes; what a library of trees says of a file of its own that is none is told too.
    """
    try:
        yield
    except MeristemError:
        raise
    except Exception as error:
        if not isinstance(error, _WRONG) and type(error).__module__.split(".")[0] not in _LIBRARIES:
            raise
        told = next(iter(str(error).splitlines()), "")[:300]
        raise InputError(
            f"{path}: not a learner as it was saved ({type(error).__name__}: {told}); fit and save again"
        ) from error


def checked_load(load: Callable[[type[T], Path], T]) -> Callable[[type[T], Path], T]:
    """A ``load`` of a learner under :func:`loading`; goes below ``classmethod``."""

    @wraps(load)
    def checked(cls: type[T], path: Path) -> T:
        with loading(path):
            return load(cls, path)

    return checked
