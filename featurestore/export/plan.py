"""What an export holds: which groups, which files as they are, which arrays anew, and the metadata."""

from __future__ import annotations

import copy
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError, unknown_name
from featurestore.export.profiles import (
    LOSSY,
    PROFILES,
    VERSION,
    Profile,
    largest_by_channel,
    recode,
    recoded_metadata,
)
from featurestore.schema import SCALE, spec_of
from featurestore.store.commit import WrittenFile
from featurestore.store.manifest import hash_bytes
from featurestore.store.quantised import scale_of
from featurestore.store.shard import damaged

if TYPE_CHECKING:
    from featurestore.store.arrays import StoredArray
    from featurestore.store.reader import Store

ROOT: Final = "zarr.json"
_PIECE_ROWS: Final = 1 << 16


@dataclass(frozen=True)
class Item:
    """One file of the export.

    Parameters
    ----------
    key : str
    recipe : str
        Digest of everything its bytes follow from: equal recipes, equal bytes.
    make : callable
        Gives the bytes; what it reads is verified.
    known : WrittenFile, optional
        What the manifest says of a file that is taken as it is.
    """

    key: str
    recipe: str
    make: Callable[[], bytes]
    known: WrittenFile | None = None


@dataclass
class Plan:
    """An export, nothing of which is written yet.

    Parameters
    ----------
    items : list of Item
        Every file but the manifest, the root's metadata last.
    keys : dict of str to str
        Keys of the shards that are taken as they are: a build may take these over in turn.
    identity : str
        Digest of the whole.
    """

    store: Store
    profile: Profile
    items: list[Item] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    root: dict[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Digest of the recipes of all files."""
        lines = (f"{item.key} {item.recipe}" for item in sorted(self.items, key=lambda i: i.key))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def plan_export(
    store: Store,
    *,
    species: Sequence[str] = (),
    embedders: Sequence[str] = (),
    profile: Profile | None = None,
) -> Plan:
    """Plan an export.

    Parameters
    ----------
    species, embedders : sequence of str
        What to take; default all. Sequence, genome and expression always come along.
    profile : {"local", "remote", "int8"}, optional
        Default: as the store is.

    Raises
    ------
    InputError
        For unknown names, or values that were rounded before.
    """
    own = stored_profile(store)
    if profile not in (None, *PROFILES):
        raise unknown_name("profile", str(profile), PROFILES)
    if profile not in (None, own) and own in LOSSY:
        raise InputError(
            f"{store.path}: its values were changed by --profile {own} when it was exported; export again from the "
            "store as it was built"
        )
    recoding = profile if profile in LOSSY and profile != own else None
    root = json.loads(store.files.read(ROOT))
    nodes: dict[str, dict[str, Any]] = root["consolidated_metadata"]["metadata"]
    chosen = [store[s].species for s in species] or store.species
    kept = {p: body for p, body in nodes.items() if _is_kept(store, p, chosen, embedders)}
    plan = Plan(store, profile or own)
    _check_embedders(store, chosen, embedders)
    changed = _recode(plan, kept, recoding) if recoding else {}
    _copies(plan, kept, changed)
    is_same = len(kept) == len(nodes) and not changed
    body = root if is_same else _root(plan, root, kept, changed, chosen, embedders)
    plan.root = body["attributes"]
    if is_same:
        file = store.manifest.files[ROOT]
        plan.items.append(Item(ROOT, f"copy {file.digest}", _copy(store, ROOT), file))
    else:
        _add(plan, ROOT, _text(body))
    return plan


def stored_profile(store: Store) -> Profile:
    """The profile that a store was exported with."""
    found: Profile = store.attrs["meristem"].get("export", {}).get("profile", "local")
    return found


def _check_embedders(store: Store, species: Sequence[str], embedders: Sequence[str]) -> None:
    known = {name for s in species for name in store.embedders(s)} | {"onehot"}
    for name in embedders:
        if name not in known:
            raise unknown_name("embedder", name, known)


def _is_kept(store: Store, path: str, species: Sequence[str], embedders: Sequence[str]) -> bool:
    owner, *below = path.split("/")
    if owner not in species:
        return False
    if not embedders or not below:
        return True
    group = below[2] if below[0] == "variants" and len(below) > 2 else below[0]
    return group in embedders or group not in store.embedders(owner)


def _text(body: dict[str, Any]) -> bytes:
    return (json.dumps(body, indent=1, sort_keys=True) + "\n").encode()


def _add(plan: Plan, key: str, data: bytes) -> None:
    plan.items.append(Item(key, hashlib.sha256(data).hexdigest(), lambda: data))


def _copies(
    plan: Plan, kept: dict[str, dict[str, Any]], changed: dict[str, dict[str, Any]]
) -> None:
    """Files that are taken as they are."""
    manifest = plan.store.manifest
    for name, file in manifest.files.items():
        node, _, _ = (
            name.rpartition("/zarr.json") if name.endswith("zarr.json") else name.partition("/c/")
        )
        if name == ROOT or node not in kept or node in changed:
            continue
        plan.items.append(Item(name, f"copy {file.digest}", _copy(plan.store, name), file))
    arrays = [p for p in changed if changed[p]["node_type"] == "array"]
    for task, key in manifest.keys.items():
        group = task.rpartition("/")[0]
        whole = not any(
            a.startswith(f"{group}/") and a.count("/") == group.count("/") + 1 for a in arrays
        )
        if group in kept and whole:
            plan.keys[task] = key


def _copy(store: Store, name: str) -> Callable[[], bytes]:
    def make() -> bytes:
        expected = store.manifest.files[name]
        try:
            data = store.files.read(name)
        except FileNotFoundError as error:
            raise damaged(f"{store.path}/{name}", "it is missing") from error
        if hash_bytes(data, expected) != expected:
            raise damaged(f"{store.path}/{name}", "its bytes are not those that were written")
        return data

    return make


def _recode(
    plan: Plan, kept: dict[str, dict[str, Any]], profile: Profile
) -> dict[str, dict[str, Any]]:
    """Plan the arrays that are stored anew; returns their metadata and that of groups that change."""
    changed: dict[str, dict[str, Any]] = {}
    vectors = {p: body for p, body in kept.items() if _is_vector(plan.store, p, body)}
    scales = _scales(plan.store, vectors) if profile == "int8" else {}
    for path, body in kept.items():
        if body["node_type"] != "array" or not _is_sharded(body):
            continue
        if path not in vectors and profile == "int8":
            continue
        fresh = recoded_metadata(body, profile, plan.store.digest, values=path in vectors)
        changed[path] = fresh
        _add(plan, f"{path}/zarr.json", _text(fresh))
        _shards(plan, path, body, fresh, profile, scales.get(path))
    for path, scale in scales.items():
        _scale_array(plan, kept, changed, path, scale)
    return changed


def _is_sharded(body: dict[str, Any]) -> bool:
    return (
        bool(body["codecs"])
        and body["codecs"][0]["name"] == "sharding_indexed"
        and bool(body["shape"][0])
    )


def _is_vector(store: Store, path: str, body: dict[str, Any]) -> bool:
    """Whether an array is an output of an embedder with channels."""
    owner, *below = path.split("/")
    if body["node_type"] != "array" or len(below) < 2 or not _is_sharded(body):
        return False
    is_output = below[-2] in store.embedders(owner) and body["data_type"] == "float16"
    return is_output and body["dimension_names"][-1] == "channel"


def _shards(
    plan: Plan,
    path: str,
    body: dict[str, Any],
    fresh: dict[str, Any],
    profile: Profile,
    scale: NDArray[np.float32] | None,
) -> None:
    rows = int(body["chunk_grid"]["configuration"]["chunk_shape"][0])
    stored = _array(plan.store, path)
    how = f"{profile} {VERSION}" + (
        f" {hashlib.sha256(scale.tobytes()).hexdigest()}" if scale is not None else ""
    )

    def maker(first: int, last: int) -> Callable[[], bytes]:
        def make() -> bytes:
            return recode(
                stored.take(np.arange(first, last, dtype=np.int64)), fresh, profile, scale
            )

        return make

    for shard in range(-(-stored.shape[0] // rows)):
        key = stored.key(shard)
        digest = plan.store.manifest.files[key].digest
        last = min((shard + 1) * rows, stored.shape[0])
        plan.items.append(Item(key, f"{how} of {digest}", maker(shard * rows, last)))


def _array(store: Store, path: str) -> StoredArray:
    species, _, below = path.partition("/")
    return store.stored(species, below)


def _scales(store: Store, vectors: dict[str, dict[str, Any]]) -> dict[str, NDArray[np.float32]]:
    """Scale of each output, one for the reference and all variant sets: equal vectors, equal codes."""
    family: dict[tuple[str, str, str], NDArray[np.float32]] = {}
    for path in vectors:
        name = _family(path)
        for piece in _by_shard(_array(store, path)):
            here = largest_by_channel([piece])
            family[name] = np.maximum(family[name], here) if name in family else here
    return {path: scale_of(family[_family(path)]) for path in vectors}


def _family(path: str) -> tuple[str, str, str]:
    owner, *below = path.split("/")
    return owner, below[-2], below[-1]


def _by_shard(stored: StoredArray) -> Iterator[NDArray[Any]]:
    step = stored.chunk[0]
    for first in range(0, stored.shape[0], step):
        yield stored.take(np.arange(first, min(first + step, stored.shape[0]), dtype=np.int64))


def _scale_array(
    plan: Plan,
    kept: dict[str, dict[str, Any]],
    changed: dict[str, dict[str, Any]],
    path: str,
    scale: NDArray[np.float32],
) -> None:
    """The coordinate that holds a scale, and the group that names it."""
    from featurestore.store.templates import write_whole

    group = path.rpartition("/")[0]
    in_set = "/variants/" in path
    spec = spec_of(f"{'variants/<set>/' if in_set else ''}<embedder>/<output>{SCALE}")
    name = f"{path}{SCALE}"
    with tempfile.TemporaryDirectory() as folder:
        write_whole(Path(folder), name, spec, scale)
        for file in sorted(Path(folder, name).rglob("*")):
            if file.is_file():
                _add(plan, file.relative_to(folder).as_posix(), file.read_bytes())
        changed[name] = json.loads(Path(folder, name, "zarr.json").read_bytes())
    body = changed.get(group) or copy.deepcopy(kept[group])
    named = [*body["attributes"].get("coordinates", "").split(), name.rpartition("/")[2]]
    body["attributes"]["coordinates"] = " ".join(named)
    changed[group] = body
    plan.items = [i for i in plan.items if i.key != f"{group}/zarr.json"]
    _add(plan, f"{group}/zarr.json", _text(body))


def _root(
    plan: Plan, root: dict[str, Any], kept: dict[str, dict[str, Any]], changed: dict[str, dict[str, Any]],
    species: Sequence[str], embedders: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """The root's metadata: what was chosen, how it is stored, all other metadata inline."""
    body = copy.deepcopy(root)
    told = body["attributes"]["meristem"]
    told["export"] = {
        "profile": plan.profile, "store": plan.store.digest,
        "species": list(species) if list(species) != plan.store.species else [],
        "embedders": sorted(embedders),
    }  # fmt: skip
    told["species"] = [s for s in plan.store.species if s in species]
    told["simulated"] = any(s.startswith("simulated") for s in told["species"])
    body["consolidated_metadata"]["metadata"] = dict(sorted({**kept, **changed}.items()))
    return body
