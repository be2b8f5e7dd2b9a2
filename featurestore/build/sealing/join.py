"""Puts a further group into a store that is there: a new tree of the same files, sealed, then swapped in."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from featurestore.build.reuse.existing import link
from featurestore.build.sealing.finalise import recover, swap
from featurestore.build.sealing.lock import build_lock
from featurestore.build.sealing.metadata import consolidate
from featurestore.build.work_area import WorkArea
from featurestore.errors import DamagedStoreError, InputError
from featurestore.store.manifest import MANIFEST, Manifest, hash_file, read_manifest


def join_group(store: Path, group: str, write: Callable[[Path], None]) -> Manifest:
    """Write a group into a store; readers see the store with it or without it, never in between.

    Parameters
    ----------
    store : Path
    group : str
        Path below the root; what stood there before is replaced.
    write : callable
        Writes the group below the root it is given: metadata and every chunk.

    Raises
    ------
    InputError
        If an unfinished build lies beside the store.
    StoreLockedError
        If a build of the store is running.
    DamagedStoreError
        If a file of the store is not there.
    """
    store = store.resolve()
    work = WorkArea.beside(store)
    if work.plan.exists():
        raise InputError(
            f"{work.root}: an unfinished build lies beside the store; finish it with 'fs build' or give "
            "it up with 'fs gc --work-area', then write the group"
        )
    work.root.mkdir(parents=True, exist_ok=True)
    with build_lock(work.root):
        recover(store, work)
        old = read_manifest(store)
        shutil.rmtree(work.store, ignore_errors=True)
        kept = {p: f for p, f in old.files.items() if not p.startswith(f"{group}/")}
        _link(store, work.store, kept)
        write(work.store)
        consolidate(work.store)
        files = dict(kept)
        for path in sorted(p for p in (work.store / group).rglob("*") if p.is_file()):
            files[path.relative_to(work.store).as_posix()] = hash_file(path)
        files["zarr.json"] = hash_file(work.store / "zarr.json")
        keys = {p: k for p, k in old.keys.items() if not p.startswith(f"{group}/")}
        manifest = Manifest(files, keys)
        manifest.write(work.store)
        swap(work, store, manifest.digest)
        work.remove()
    return manifest


def _link(store: Path, tree: Path, files: Iterable[str]) -> None:
    """Give every file a second place; metadata is copied, for it is written over in place."""
    for name in files:
        source, target = store / name, tree / name
        if not source.is_file():
            raise DamagedStoreError(
                f"{source}: missing; run 'fs verify STORE' for the whole extent"
            )
        if name.endswith("zarr.json"):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        elif name != MANIFEST:
            link(source, target)
