"""What was read of a species, laid down in the work area: big arrays as files, the rest as facts.

A build then holds one genome in memory at a time, and goes on after an interruption without
reading again what has not changed.

    inputs/<species>/
      *.npy               what :class:`~featurestore.build.windows.window_source.WindowSource` maps
      genes.json          ids of the genes, for messages of the tasks
      facts/facts.json    everything else of a :class:`SpeciesData`; written last, with the stamp
      facts/*.npy         its smaller arrays
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.build.planning.group_plan import digest_json
from featurestore.build.planning.packages import package_versions
from featurestore.build.windows.mapped import mapped
from featurestore.build.windows.window_source import lay_down
from featurestore.inputs.dataset import DatasetConfig
from featurestore.inputs.files import file_digest
from featurestore.inputs.model import (
    Expression,
    Genome,
    HaplotypeSet,
    Region,
    SkippedGene,
    SpeciesData,
)
from featurestore.schema import SCHEMA_VERSION
from featurestore.store.commit import commit_file

_CLASSES: Final = {
    c.__name__: c for c in (SpeciesData, Genome, Expression, HaplotypeSet, Region, SkippedGene)
}
_FACTS: Final = "facts"
_LAYOUT: Final = 2
"""Raised when what is laid down changes: an unfinished build then reads its inputs again."""
_SMALL: Final = 1 << 20
"""Arrays up to this many bytes are read, larger ones mapped."""


def species_stamp(config: DatasetConfig, name: str) -> str:
    """Digest of all that the reading of a species depends on: files, settings, versions."""
    species = config.species[name]
    return digest_json(
        {
            "schema": SCHEMA_VERSION, "layout": _LAYOUT, "packages": package_versions(("meristem", "numpy")),
            "regions": [[r.name, r.anchor, r.upstream, r.downstream] for r in config.regions],
            "regions_declared": config.regions_declared, "bin": config.bin,
            "species": species.model_dump(mode="json"),
            "files": {role: file_digest(path) for role, path in species.files().items()},
        }
    )  # fmt: skip


def lay_down_species(folder: Path, data: SpeciesData, bin_bp: int, stamp: str = "") -> SpeciesData:
    """Write a species into a folder.

    Parameters
    ----------
    stamp : str
        :func:`species_stamp`; empty where it is not to be taken up again.

    Returns
    -------
    SpeciesData
        The same, its big arrays memory-mapped: what was read may be let go of.
    """
    shutil.rmtree(folder, ignore_errors=True)
    lay_down(folder, data, bin_bp)
    (folder / "genes.json").write_text(json.dumps(list(data.gene)))
    if data.expression is not None:
        np.save(folder / "expression.npy", data.expression.value)
    light = _mapped_again(folder, data)
    (folder / _FACTS).mkdir()
    body = {"stamp": stamp, "data": _freeze(light, folder, "data")}
    commit_file(folder / _FACTS / "facts.json", [json.dumps(body).encode()])
    return light


def taken_up(folder: Path, stamp: str | None = None) -> SpeciesData | None:
    """A species that lies in a folder, or None if none lies there or it was read from other inputs.

    Parameters
    ----------
    stamp : str, optional
        :func:`species_stamp` that it must have been laid down with. Default: whatever it was.
    """
    try:
        body = json.loads((folder / _FACTS / "facts.json").read_bytes())
        if stamp is not None and body["stamp"] != stamp:
            return None
        data = _thaw(body["data"], folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or cut short: it is read again
    return data if isinstance(data, SpeciesData) else None


def _mapped_again(folder: Path, data: SpeciesData) -> SpeciesData:
    changes: dict[str, Any] = {}
    if data.genome is not None:
        changes["genome"] = replace(data.genome, code=mapped(folder / "code.npy"))
    if data.region_code is not None:
        changes["region_code"] = mapped(folder / "region_code.npy")
    if data.expression is not None:
        changes["expression"] = replace(data.expression, value=mapped(folder / "expression.npy"))
    return replace(data, **changes)


def _freeze(value: Any, folder: Path, name: str) -> Any:
    """A value as JSON; arrays become files, unless they are mapped from one already."""
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: _freeze(getattr(value, f.name), folder, f"{name}.{f.name}") for f in fields(value)}  # fmt: skip
        return {"class": type(value).__name__, "fields": parts}
    if isinstance(value, np.ndarray):
        file = getattr(value, "filename", None)
        path = Path(file) if file else folder / _FACTS / f"{name}.npy"
        if not file:
            np.save(path, value)
        return {"array": os.path.relpath(path, folder)}
    if isinstance(value, dict):
        return {"map": [[k, _freeze(v, folder, f"{name}.{n}")] for n, (k, v) in enumerate(value.items())]}  # fmt: skip
    if isinstance(value, tuple):
        return {"tuple": [_freeze(v, folder, f"{name}.{n}") for n, v in enumerate(value)]}
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, list) and value and is_dataclass(value[0]):
        return {"list": [_freeze(v, folder, f"{name}.{n}") for n, v in enumerate(value)]}
    return {"plain": value}


def _thaw(frozen: dict[str, Any], folder: Path) -> Any:
    if "class" in frozen:
        parts = {k: _thaw(v, folder) for k, v in frozen["fields"].items()}
        return _CLASSES[frozen["class"]](**parts)
    kind, value = next(iter(frozen.items()))
    if kind == "array":
        return _array(folder / value)
    if kind == "map":
        return {k: _thaw(v, folder) for k, v in value}
    if kind == "tuple":
        return tuple(_thaw(v, folder) for v in value)
    if kind == "list":
        return [_thaw(v, folder) for v in value]
    return Path(value) if kind == "path" else value


def _array(path: Path) -> NDArray[Any]:
    found = mapped(path)
    return np.array(found) if found.nbytes <= _SMALL else found
