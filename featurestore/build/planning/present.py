"""What stands where a store is to be built: nothing, a store, a damaged store, or something not ours.

A build replaces the folder it is given, so it must be sure that the folder is a store of this
project, and must know what is in it even where it is damaged: nothing is dropped silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from featurestore.errors import InputError, SchemaVersionError, StoreError
from featurestore.store.identify import is_ours, meristem_attribute, species_groups
from featurestore.store.reader import Store

_MEND: Final = "name a folder that does not exist yet, such as --store store.zarr"


@dataclass(frozen=True)
class Present:
    """A store that is there already.

    Parameters
    ----------
    store : Store or None
        None where it is damaged beyond opening.
    species : tuple of str
    embedders : mapping of name to settings
        Settings are empty where its metadata cannot be read.
    """

    store: Store | None
    species: tuple[str, ...]
    embedders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def _settings(group: Path) -> dict[str, Any]:
    embedder = meristem_attribute(group / "zarr.json").get("embedder", {})
    return {"type": embedder["type"], **embedder["parameters"]} if "type" in embedder else {}


def _from_tree(path: Path) -> Present:
    """Species and embedders as the folders tell them, where the store cannot be opened."""
    named = meristem_attribute(path / "zarr.json").get("species", [])
    species = list(dict.fromkeys([*named, *(p.name for p in species_groups(path))]))
    embedders: dict[str, Mapping[str, Any]] = {}
    for name in species:
        folder = path / name
        for group in sorted(folder.iterdir()) if folder.is_dir() else ():
            if (group / "input_digest").is_dir():
                embedders.setdefault(group.name, _settings(group))
    return Present(None, tuple(species), embedders)


def what_is_there(path: Path) -> Present | None:
    """The store at a path, or None where a store may be made.

    Raises
    ------
    InputError
        If something is there that is not a store of this project.
    SchemaVersionError
        If the store was written by another major version of the schema: it is never replaced.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    if not path.is_dir() or not is_ours(path):
        raise InputError(
            f"{path} exists and is not a store of this project, and a build would replace it\n    → {_MEND}"
        )
    try:
        store = Store(path)
    except SchemaVersionError:
        raise
    except StoreError:
        return _from_tree(path)
    names = dict.fromkeys(e for s in store.species for e in store.embedders(s) if e != "onehot")
    settings = {
        name: next((x for s in store.species if (x := _settings(path / s / name))), {})
        for name in names
    }
    return Present(store, tuple(store.species), settings)


def refuse_to_bury(path: Path, files: Mapping[str, Path]) -> None:
    """Refuse a store path that holds an input of the build, or the current folder.

    Raises
    ------
    InputError
    """
    if Path.cwd().is_relative_to(path):
        raise InputError(
            f"{path} is the current folder or holds it, and a build would replace it\n    → {_MEND}"
        )
    for role, file in files.items():
        if "\0" in str(file):
            continue  # told where it is read
        if file.resolve().is_relative_to(path):
            raise InputError(
                f"{path}: the {role} {file} lies inside it, and a build would replace the folder\n"
                f"    → {_MEND}"
            )
