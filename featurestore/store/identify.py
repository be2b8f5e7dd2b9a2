"""Tells a store of this project, intact or damaged, from any other folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featurestore.errors import StoreError
from featurestore.store.manifest import read_manifest
from featurestore.untrusted import read_json


def meristem_attribute(file: Path) -> dict[str, Any]:
    """The ``meristem`` attribute of a ``zarr.json``; empty where there is none or it cannot be read."""
    try:
        found = read_json(file)["attributes"]["meristem"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def species_groups(path: Path) -> Iterator[Path]:
    """Folders below ``path`` that are species of a store."""
    for child in sorted(path.iterdir()) if path.is_dir() else ():
        if "funnel" in meristem_attribute(child / "zarr.json"):
            yield child


def is_ours(path: Path) -> bool:
    """Whether a folder is a store of this project, intact or damaged."""
    if meristem_attribute(path / "zarr.json") or any(species_groups(path)):
        return True
    try:
        return "zarr.json" in read_manifest(path).files
    except StoreError:
        return False
