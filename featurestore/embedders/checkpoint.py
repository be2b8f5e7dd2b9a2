"""Finds the files of a checkpoint, in a folder or on a hub, and reads them without running anything.

Weights are read from safetensors, or from ``pytorch_model.bin`` with ``weights_only``; a pickle
that holds anything but tensors is refused.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from featurestore import untrusted
from featurestore.errors import InputError, MissingDependencyError

WEIGHT_FILES: Final = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""In order of preference."""

PATTERNS: Final = ["*.json", "*.safetensors", "*.txt", "*.model", "README.md"]
"""What is fetched of a hub repository; never code. The card names the licence."""
PICKLES: Final = ["pytorch_model*.bin"]
"""What is fetched besides where there are no safetensors."""


@dataclass(frozen=True)
class Checkpoint:
    """Files of one checkpoint.

    Parameters
    ----------
    name : str
        Hub id, or the last part of the folder's path: what is recorded, free of the machine's paths.
    folder : Path
    weights : tuple of Path
        One file, or the shards of it.
    """

    name: str
    folder: Path
    weights: tuple[Path, ...]

    def config(self) -> dict[str, Any]:
        """``config.json``, parsed."""
        return read_json(self.folder / "config.json")

    def digest(self) -> str:
        """Sha256 over the content of the configuration and the weights."""
        paths = [p for p in (self.folder / "config.json", *self.weights) if p.is_file()]
        return hashlib.sha256("".join(file_digest(p) for p in paths).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises
    ------
    InputError
        Where the file is missing or holds anything else.
    """
    try:
        body = untrusted.read_json(path)
    except FileNotFoundError:
        raise InputError(f"{path}: not found; a checkpoint folder holds one") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise InputError(f"{path}: holds a {type(body).__name__} where a JSON object belongs")
    return body


def find_checkpoint(
    name: str,
    *,
    named: str = "",
    revision: str | None = None,
    cache_dir: str | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Checkpoint:
    """A checkpoint by folder or hub id.

    Parameters
    ----------
    name : str
        A folder with ``config.json`` and weights, or ``owner/name`` on the Hugging Face hub
        (``HF_ENDPOINT`` and ``HF_HOME`` are honoured), or the name of a folder in one of the
        folders that the variable ``MERISTEM_CHECKPOINTS`` lists: a store records names, not paths.
    named : str
        Name to record instead of the folder's.
    revision, cache_dir, token, local_files_only
        As in ``huggingface_hub.snapshot_download``.

    Raises
    ------
    InputError
        Naming what is missing and how to mend it.
    """
    shelves = [Path(s) for s in os.environ.get("MERISTEM_CHECKPOINTS", "").split(os.pathsep) if s]
    for folder in (Path(name).expanduser(), *(shelf / name for shelf in shelves)):
        if folder.is_dir():
            return Checkpoint(named or folder.resolve().name, folder, _weights_in(folder))
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise InputError(
            f"checkpoint {name!r}: no such folder, here or in MERISTEM_CHECKPOINTS "
            f"({os.environ.get('MERISTEM_CHECKPOINTS') or 'not set'}), and no hub id (those read owner/name)"
        )
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingDependencyError(
            "checkpoints need huggingface_hub: pip install 'meristem[models]'"
        ) from error
    try:
        for patterns in (PATTERNS, PATTERNS + PICKLES):
            fetched = snapshot_download(
                name, revision=revision, cache_dir=cache_dir, token=token,
                local_files_only=local_files_only, allow_patterns=patterns,
            )  # fmt: skip
            if any((Path(fetched) / file).exists() for file in WEIGHT_FILES):
                break
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise InputError(
            f"checkpoint {name!r} is neither a folder here nor could it be fetched from the hub: "
            f"{str(error).splitlines()[0]}. Without a network, download it elsewhere "
            f"(`hf download {name} --local-dir DIR`) and give the folder"
        ) from error
    return Checkpoint(name, Path(fetched), _weights_in(Path(fetched)))


def _weights_in(folder: Path) -> tuple[Path, ...]:
    for file in WEIGHT_FILES:
        path = folder / file
        if not path.is_file():
            continue
        if file.endswith(".index.json"):
            named = read_json(path).get("weight_map")
            if not isinstance(named, dict) or not named:
                raise InputError(f"{path}: its weight_map names no weights; fetch it again")
            shards = sorted({str(v) for v in named.values()})
            if any(Path(s).name != s or s in ("", "..") or "\0" in s for s in shards):
                raise InputError(f"{path}: names weights outside its own folder: {shards}")
            return tuple(folder / s for s in shards)
        return (path,)
    raise InputError(f"{folder}: holds no weights; one of {', '.join(WEIGHT_FILES)} belongs there")


def read_tensors(weights: tuple[Path, ...]) -> dict[str, Any]:
    """All tensors of a checkpoint by key, on CPU.

    Raises
    ------
    InputError
        For a damaged file, and for a pickle that holds more than tensors.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, Any] = {}
    for path in weights:
        try:
            with untrusted.open_file(path) as stream:
                size = os.fstat(stream.fileno()).st_size
            if path.suffix == ".safetensors":
                own = load_file(path)
            else:
                _refuse_zip_bomb(path, size)
                with warnings.catch_warnings():  # on protocols: what cannot be read raises
                    warnings.simplefilter("ignore", UserWarning)
                    loaded = torch.load(path, map_location="cpu", weights_only=True)
                own = dict(loaded.get("state_dict", loaded))
            _refuse_views(path, own, size)
            tensors |= own
        except FileNotFoundError:
            raise InputError(f"{path}: not found; the index of the checkpoint names it") from None
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{path}: is not a file of tensors alone, and nothing else is read from a pickle: "
                f"{_first_line(error)}"
            ) from error
        except (
            SafetensorError,
            RuntimeError,
            EOFError,
            ValueError,
            AttributeError,
            OSError,
            KeyError,
            TypeError,
            IndexError,
            AssertionError,
            OverflowError,
            struct.error,
            zipfile.BadZipFile,
        ) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{path}: cannot be read as weights: {_first_line(error)}; fetch it again"
            ) from error
    not_tensors = [k for k, v in tensors.items() if not isinstance(v, torch.Tensor)]
    if not_tensors:
        raise InputError(f"{weights[0]}: {not_tensors[:3]} hold no tensors")
    return tensors


def _refuse_zip_bomb(path: Path, size: int) -> None:
    """Refuse a torch archive whose members would unpack to more than the file: torch packs none."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if sum(m.file_size for m in members) > size or any(m.compress_type for m in members):
        raise InputError(
            f"{path}: its members are compressed, or tell of more bytes than the file has, which torch "
            "never writes; fetch it again"
        )


def _refuse_views(path: Path, tensors: Mapping[str, Any], size: int) -> None:
    """Refuse tensors that tell of more numbers than the file can hold (strides of 0)."""
    for name, tensor in tensors.items():
        held = getattr(tensor, "numel", int)() * getattr(tensor, "element_size", int)()
        if held > size:
            raise InputError(
                f"{path}: {str(name)[:100]!r} tells of {held:,} bytes in a file of {size:,}; fetch it again"
            )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def file_digest(path: Path) -> str:
    """Sha256 of a file's content, remembered for as long as the file does not change."""
    real = path.resolve()
    stat = os.stat(real)
    return _digest(str(real), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest(path: str, _size: int, _time: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
