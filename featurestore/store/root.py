"""The root metadata of a store: parsed, and held to the shape that readers rely on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featurestore.errors import DamagedStoreError
from featurestore.untrusted import parse_json


def root_of(raw: bytes, place: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes of the root, and the metadata of every node by path.

    Parameters
    ----------
    raw : bytes
        The root's ``zarr.json``, already held against the manifest.
    place : str
        Where it lies, for messages.

    Raises
    ------
    DamagedStoreError
        Where it is no JSON, or anything in it is not of the type it is read as. Whoever wrote the
        manifest too can make it say anything.
    """
    try:
        body = parse_json(raw)
    except ValueError as error:
        raise _refused(place, f"it is not JSON ({error})") from error
    consolidated = _object(_object(body, "it", place).get("consolidated_metadata"), "consolidated_metadata", place)  # fmt: skip
    metadata = _object(consolidated.get("metadata"), "consolidated_metadata.metadata", place)
    attributes = _object(body.get("attributes"), "attributes", place)
    for path, node in metadata.items():
        shown = path[:100]
        _object(node, shown, place)
        if node.get("node_type") not in ("group", "array"):
            raise _refused(place, f"{shown!r} is neither a group nor an array")
        _object(node.get("attributes", {}), f"attributes of {shown}", place)
    _check_own(attributes.get("meristem"), metadata, place)
    return attributes, metadata


def check_same(raw: bytes, held: Mapping[str, Any], place: str) -> None:
    """Refuse a node whose own ``zarr.json`` says other than the root's copy of it.

    We read the copy, other readers the node's own: one store would be two.

    Raises
    ------
    DamagedStoreError
    """
    try:
        same = parse_json(raw) == held
    except ValueError:
        same = False
    if not same:
        raise _refused(place, "it says other than the copy in the root's zarr.json")


def _check_own(own: Any, metadata: Mapping[str, Any], place: str) -> None:
    """What we ourselves write into attributes, where it is ours at all."""
    if not isinstance(own, dict):
        return  # another project's: told where the store is opened
    species = own.get("species")
    for key in ("dataset_digest", "schema_version"):
        if not isinstance(own.get(key), str):
            raise _refused(place, f"it has no {key}")
    if not isinstance(species, list) or not all(isinstance(name, str) for name in species):
        raise _refused(place, "its list of species is no list of names")
    for name in species:
        of_species = _own(metadata, name, place)
        for key in ("funnel", "notes"):
            if not isinstance(of_species.get(key), list):
                raise _refused(place, f"{name[:100]!r} has no {key}")
    for path in metadata:
        if path.rpartition("/")[2] == "input_digest" and path.count("/") == 2:
            embedder = _own(metadata, path.rpartition("/")[0], place).get("embedder")
            _object(_object(embedder, "an embedder", place).get("outputs"), "its outputs", place)


def _own(metadata: Mapping[str, Any], path: str, place: str) -> dict[str, Any]:
    node = _object(metadata.get(path), path[:100], place)
    attributes = _object(node.get("attributes"), f"attributes of {path[:100]}", place)
    return _object(attributes.get("meristem"), f"attributes of {path[:100]}", place)


def _object(value: Any, what: str, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _refused(place, f"{what!r} is missing or no object")
    return value


def _refused(place: str, what: str) -> DamagedStoreError:
    return DamagedStoreError(
        f"{place}: {what}. Run 'fs verify STORE'; if it finds nothing, whoever wrote this store is not "
        "to be trusted."
    )
