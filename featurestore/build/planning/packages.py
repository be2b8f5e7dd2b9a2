"""Versions of the packages that computed what a store holds, shard by shard."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from functools import lru_cache

from featurestore.build.planning.group_plan import GroupPlan, Task
from featurestore.build.work_area import WorkArea


def package_versions(
    names: Sequence[str] = ("meristem", "numpy", "zarr", "torch", "transformers", "tokenizers"),
) -> dict[str, str]:
    """Versions of the packages that have a hand in the numbers; those absent are left out."""
    found = {"python": platform.python_version()}
    for name in names:
        if version := _version(name):
            found[name] = version
    return found


@lru_cache
def _version(name: str) -> str:
    """Version of an installed package, which a process reads once; empty where there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def packages_behind(work: WorkArea, species: str, group: GroupPlan) -> dict[str, str]:
    """Versions that computed the shards of a group, as their markers say.

    A shard taken over from an earlier store keeps the versions of its own day, so a group may
    have several of one package: ``2.0.2, 2.4.6``.
    """
    versions: dict[str, set[str]] = {}
    for shard, key in enumerate(group.keys):
        marker = work.read_marker(Task(species, group.name, shard), key)
        for name, version in (marker.facts.get("packages", {}) if marker else {}).items():
            versions.setdefault(name, set()).update(version.split(", "))
    return {name: ", ".join(sorted(found)) for name, found in sorted(versions.items())}
