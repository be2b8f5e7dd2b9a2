"""Where a run stands, in one file: tensors with a JSON header, replaced by rename."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from featurestore.errors import InputError

FILE: Final = "training_state.safetensors"


def write_bytes(path: Path, body: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as stream:
        stream.write(body)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, path)


def write_json(path: Path, body: Any) -> None:
    """Write JSON whole or not at all."""
    write_bytes(path, (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode())


def save(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Replace the state of a run."""
    from safetensors.torch import save as to_bytes

    write_bytes(folder / FILE, to_bytes(dict(tensors), metadata={"state": json.dumps(facts)}))


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The state of a run, or None where there is none.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["state"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 # no mapping
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise InputError(
            f"{path}: is not the state of a pre-training run ({error}); remove it to start anew"
        ) from error
    return tensors, facts
