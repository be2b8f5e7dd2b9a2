"""Fitted learners on disk: JSON and safetensors; nothing that is ever executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError, InputFileNotFoundError

CONFIG: Final = "learner.json"
ARRAYS: Final = "arrays.safetensors"


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
        config: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: not readable ({error}); fit and save again") from error
    if config.get("learner") != learner:
        raise InputError(f"{file}: holds {config.get('learner')!r}, not {learner!r}")
    return config


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays that :func:`save_state` wrote."""
    from safetensors.numpy import load_file

    arrays: dict[str, NDArray[Any]] = load_file(path / ARRAYS)
    return arrays
